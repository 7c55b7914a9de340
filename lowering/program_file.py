"""Programs as bytes: a header of plain JSON, then the kernels' words and the constants. Read without JAX."""

from __future__ import annotations

import hashlib
import json
import struct
from typing import Any

from shaders.kernel import Kernel, Parameter

from .errors import GraphError, message
from .program import ArrayType, Barrier, Dispatch, Program, Region, Repeat, Step, While

MAGIC = b"QGAPROG1"
_PREFIX = struct.Struct("<8s32sQ")


def encode(program: Program) -> bytes:
    """Return the program as bytes that `decode` reads back."""
    blobs = [kernel.words for kernel in program.kernels] + list(program.constants)
    header = {
        "name": program.name,
        "kernels": [_kernel_record(kernel) for kernel in program.kernels],
        "blobs": [len(blob) for blob in blobs],
        "steps": [_step_record(step) for step in program.steps],
        "inputs": [[kind.dtype, list(kind.shape)] for kind in program.inputs],
        "outputs": [[kind.dtype, list(kind.shape)] for kind in program.outputs],
        "arena_bytes": program.arena_bytes,
        "aliases": [list(pair) for pair in program.aliases],
        "liveness_bound_bytes": program.liveness_bound_bytes,
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    payload = text + b"".join(blobs)
    return _PREFIX.pack(MAGIC, hashlib.sha256(payload).digest(), len(text)) + payload


def decode(data: bytes) -> Program:
    """Return the program that `encode` wrote.

    Raises:
        GraphError: the bytes are no program file, of another version, or damaged.
    """
    if len(data) < _PREFIX.size or data[:8] != MAGIC:
        raise _broken("no program file of this version", f"a file that starts with {MAGIC.decode()}")
    _, digest, length = _PREFIX.unpack_from(data)
    payload = data[_PREFIX.size :]
    if hashlib.sha256(payload).digest() != digest:
        raise _broken("a damaged program file", "content that matches its checksum")
    try:
        return _program(payload, length)
    except (LookupError, TypeError, ValueError) as error:
        raise _broken("a header that describes no program", "the header that `encode` writes") from error


def _program(payload: bytes, length: int) -> Program:
    header = json.loads(payload[:length])
    place, blobs = length, []
    for size in header["blobs"]:
        blobs.append(payload[place : place + size])
        place += size
    count = len(header["kernels"])
    return Program(
        name=header["name"],
        kernels=tuple(_kernel(record, words) for record, words in zip(header["kernels"], blobs, strict=False)),
        steps=tuple(_step(record) for record in header["steps"]),
        inputs=tuple(ArrayType(dtype, tuple(shape)) for dtype, shape in header["inputs"]),
        outputs=tuple(ArrayType(dtype, tuple(shape)) for dtype, shape in header["outputs"]),
        constants=tuple(blobs[count:]),
        arena_bytes=header["arena_bytes"],
        aliases=tuple((source, output) for source, output in header["aliases"]),
        liveness_bound_bytes=header["liveness_bound_bytes"],
    )


def _broken(got: str, want: str) -> GraphError:
    return GraphError(
        message(
            "load: a program must come from a file that `save` wrote.",
            got=got,
            want=want,
            fix="save the program again with this version.",
        )
    )


def _kernel_record(kernel: Kernel) -> list[Any]:
    parameters = [[p.name, p.dtype, p.access] for p in kernel.parameters]
    return [
        kernel.name, list(kernel.workgroup), parameters, kernel.subgroup_size, kernel.guarded, kernel.shared_bytes,
        [list(pair) for pair in kernel.specialization],
    ]  # fmt: skip


def _kernel(record: list[Any], words: bytes) -> Kernel:
    name, workgroup, parameters, subgroup, guarded, shared, specialization = record
    return Kernel(
        name=name,
        words=words,
        workgroup=tuple(workgroup),
        parameters=tuple(Parameter(*parameter) for parameter in parameters),
        subgroup_size=subgroup,
        guarded=guarded,
        shared_bytes=shared,
        specialization=tuple((key, value) for key, value in specialization),
    )


def _region_record(region: Region) -> list[Any]:
    return [region.space, region.index, region.offset, region.nbytes]


def _step_record(step: Step) -> Any:
    if isinstance(step, Dispatch):
        guard = None if step.guard is None else [_region_record(step.guard[0]), step.guard[1]]
        arguments = [_region_record(region) for region in step.arguments]
        return ["dispatch", step.kernel, arguments, list(step.groups), step.label, step.where, guard]
    if isinstance(step, Barrier):
        return ["barrier"]
    if isinstance(step, Repeat):
        return ["repeat", step.count, [_step_record(inner) for inner in step.body], step.label]
    condition = [_step_record(inner) for inner in step.condition]
    return ["while", condition, _region_record(step.flag), [_step_record(inner) for inner in step.body], step.label]


def _step(record: Any) -> Step:
    kind, *rest = record
    if kind == "dispatch":
        kernel, arguments, groups, label, where, guard = rest
        flag = None if guard is None else (Region(*guard[0]), guard[1])
        x, y, z = groups
        return Dispatch(kernel, tuple(Region(*a) for a in arguments), (x, y, z), label, where, flag)
    if kind == "barrier":
        return Barrier()
    if kind == "repeat":
        count, body, label = rest
        return Repeat(count, tuple(_step(inner) for inner in body), label)
    condition, flag, body, label = rest
    return While(tuple(map(_step, condition)), Region(*flag), tuple(map(_step, body)), label)
