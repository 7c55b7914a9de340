"""Element types of registers and of memory, and which opcode an operation takes for each."""

from __future__ import annotations

import struct
from typing import NamedTuple, TypeAlias

from ..errors import ShaderError


class MatrixType(NamedTuple):
    """A cooperative matrix: element dtype, rows, columns, use ("a", "b" or "accumulator") and scope."""

    dtype: str
    rows: int
    columns: int
    use: str
    scope: str


class OpaqueType(NamedTuple):
    """A tensor layout or view: ("layout" | "view", dimensions, its remaining operands)."""

    name: str
    dimensions: int
    operands: tuple[int, ...]


Dtype: TypeAlias = str | tuple[str, int] | MatrixType | OpaqueType
"""A scalar's name, (name, components) of a vector, or a matrix, layout or view type."""

Number: TypeAlias = bool | int | float

BITS = {
    "bool": 1, "i8": 8, "i16": 16, "i32": 32, "i64": 64, "u8": 8, "u16": 16, "u32": 32, "u64": 64,
    "f16": 16, "bf16": 16, "f32": 32, "f64": 64,
}  # fmt: skip

SIGNED = frozenset({"i8", "i16", "i32", "i64"})
UNSIGNED = frozenset({"u8", "u16", "u32", "u64"})
INTEGERS = SIGNED | UNSIGNED
FLOATS = frozenset({"f16", "bf16", "f32", "f64"})

REGISTERS = {"bool": "bool", "i8": "i32", "i16": "i32", "u8": "u32", "u16": "u32", "bf16": "f32"}
"""Register dtype of a memory dtype; those not named keep theirs."""


class _Kinds(dict[Dtype, str]):
    """Kind of a dtype: f(loat), i (signed), u(nsigned), b(ool); vectors and matrices have their element's."""

    def __missing__(self, dtype: Dtype) -> str:
        if not isinstance(dtype, tuple) or dtype[0] not in BITS:
            raise ShaderError(
                "A value must have a known element type.",
                got=repr(dtype),
                want=", ".join(BITS),
                fix="name one of these types.",
            )
        kind = self[dtype] = self[dtype[0]]
        return kind


KIND = _Kinds({name: "b" if name == "bool" else name[0] if name[0] != "b" else "f" for name in BITS})


class OpcodeTable(dict[Dtype, int]):
    """Opcode of one operation by dtype; a vector or matrix takes its element's."""

    def __init__(self, name: str, **by_kind: int) -> None:
        super().__init__()
        self.name = name
        self.by_kind = by_kind

    def __missing__(self, dtype: Dtype) -> int:
        opcode = self.by_kind.get(KIND[dtype])
        if opcode is None:
            wanted = {"f": "float", "i": "signed integer", "u": "unsigned integer", "b": "bool"}
            raise ShaderError(
                f"Operation {self.name} must have operands it is defined for.",
                got=dtype_text(dtype),
                want=", ".join(wanted[kind] for kind in self.by_kind),
                fix="convert the operand first.",
            )
        self[dtype] = opcode
        return opcode


def dtype_text(dtype: Dtype) -> str:
    """Return a dtype as people write it: f32, f32x4, matrix f16[16, 16] a."""
    if isinstance(dtype, MatrixType):
        return f"matrix {dtype.dtype}[{dtype.rows}, {dtype.columns}] {dtype.use} of a {dtype.scope}"
    if isinstance(dtype, OpaqueType):
        return f"tensor {dtype.name} of {dtype.dimensions} dimensions"
    return f"{dtype[0]}x{dtype[1]}" if isinstance(dtype, tuple) else dtype


def element(dtype: Dtype) -> str:
    """Return the scalar dtype of a scalar, vector or matrix."""
    return dtype[0] if isinstance(dtype, tuple) else dtype


def with_element(dtype: Dtype, scalar: str) -> Dtype:
    """Return `dtype` with its element replaced."""
    if isinstance(dtype, MatrixType):
        return dtype._replace(dtype=scalar)
    return (scalar, dtype[1]) if isinstance(dtype, tuple) else scalar


def wrap(dtype: str, number: int) -> int:
    """Return the integer that `number` becomes in the two's complement arithmetic of `dtype`."""
    bits = BITS[dtype]
    number &= (1 << bits) - 1
    return number - (1 << bits) if dtype in SIGNED and number >> (bits - 1) else number


def _pack(form: str, number: float) -> bytes:
    try:
        return struct.pack(form, number)
    except OverflowError:
        return struct.pack(form, float("inf") if number > 0 else float("-inf"))


def encode(dtype: str, number: Number) -> tuple[int, ...]:
    """Return the literal words of a constant; numbers too large for a float type become infinite."""
    if dtype in INTEGERS:
        bits = BITS[dtype]
        if bits == 64:
            return (int(number) & 0xFFFFFFFF, int(number) >> 32 & 0xFFFFFFFF)
        return (int(number) & 0xFFFFFFFF,)
    if dtype == "f64":
        return struct.unpack("<II", struct.pack("<d", number))
    if dtype == "f16":
        return struct.unpack("<H", _pack("<e", number))
    word = struct.unpack("<I", _pack("<f", number))[0]
    if dtype == "bf16":
        quiet_nan = (word >> 16) | 0x40
        return (quiet_nan if number != number else (word + 0x7FFF + (word >> 16 & 1)) >> 16,)
    return (word,)


def exact_number(dtype: str, number: Number) -> Number:
    """Return the Python number a scalar constant stands for; integers may be given signed or unsigned.

    Raises:
        ShaderError: the dtype has no such number.
    """
    kind = KIND[dtype]
    if kind == "f":
        return float(number)
    if kind == "b" and number in (0, 1):
        return bool(number)
    bits = BITS[dtype]
    if kind != "b" and number == number // 1 and -(1 << (bits - 1)) <= number < (1 << bits):
        return wrap(dtype, int(number))
    raise ShaderError(
        f"A constant must have an exact {dtype}.",
        got=repr(number),
        want="True or False" if kind == "b" else f"an integer of {bits} bits",
        fix="pass such a number, or convert the other operand.",
    )
