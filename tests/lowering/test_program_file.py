"""Programs survive the way through bytes, and damaged or foreign bytes are refused by name."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import replace

import pytest

from lowering.errors import GraphError
from lowering.program_file import MAGIC, decode, encode

from .plan.support import PLANNED, planned
from .running import Variant

RULE = "load: a program must come from a file that `save` wrote"
LINES = (
    r"(?s)load: a program must come from a file that `save` wrote\..*got: {}.*want: {}.*fix:  save the program again"
)


@pytest.mark.parametrize(("name", "variant"), PLANNED)
def test_decode_reads_what_encode_wrote(name: str, variant: Variant) -> None:
    program = planned(name, variant)
    assert decode(encode(program)) == program


def test_encode_is_deterministic() -> None:
    assert encode(planned("softmax")) == encode(planned("softmax"))


def test_specialisation_and_constants_survive() -> None:
    program = planned("gathers")
    kernels = (replace(program.kernels[0], specialization=(("tile", 8),)), *program.kernels[1:])
    changed = replace(program, kernels=kernels, constants=(b"", b"abc"), aliases=((1, 0),))
    assert decode(encode(changed)) == changed


@pytest.mark.parametrize("data", [b"", b"QGA", b"PK\x03\x04" + bytes(100), b"QGAPROG0" + bytes(100)])
def test_decode_refuses_other_files(data: bytes) -> None:
    want = f"a file that starts with {MAGIC.decode()}"
    with pytest.raises(GraphError, match=LINES.format(" no program file of this version", want)):
        decode(data)


@pytest.mark.parametrize("place", [8, 50, 300, -1])
def test_decode_refuses_a_changed_byte(place: int) -> None:
    data = bytearray(encode(planned("softmax")))
    data[place] ^= 1
    with pytest.raises(GraphError, match=LINES.format(" a damaged program file", "content that matches")):
        decode(bytes(data))


@pytest.mark.parametrize("kept", [47, 48, 100, -1])
def test_decode_refuses_a_cut_file(kept: int) -> None:
    with pytest.raises(GraphError, match=RULE):
        decode(encode(planned("softmax"))[:kept])


@pytest.mark.parametrize("header", [b"[]", b"{}", b"not json", b'{"name": 3}'])
def test_decode_refuses_a_header_of_another_writer(header: bytes) -> None:
    """A checksum that fits says that nothing was damaged, not that the file holds a program."""
    data = struct.pack("<8s32sQ", MAGIC, hashlib.sha256(header).digest(), len(header)) + header
    with pytest.raises(GraphError, match=RULE):
        decode(data)


def test_decode_refuses_a_changed_length_of_the_header() -> None:
    data = bytearray(encode(planned("softmax")))
    data[40:48] = struct.pack("<Q", 2**40)
    with pytest.raises(GraphError, match=RULE):
        decode(bytes(data))


def test_the_header_is_plain_json() -> None:
    data = encode(planned("while"))
    (length,) = struct.unpack_from("<Q", data, 40)
    header = json.loads(data[48 : 48 + length])
    assert header["name"] == "jit_while_rounds"
    assert any(step[0] == "while" for step in header["steps"])
