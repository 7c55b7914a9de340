"""Change the dtype of values, and move them between their form in memory and in registers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ShaderError
from . import fold
from .dtypes import (
    BITS,
    FLOATS,
    INTEGERS,
    KIND,
    REGISTERS,
    SIGNED,
    Dtype,
    MatrixType,
    dtype_text,
    element,
    with_element,
    wrap,
)
from .grammar import Op
from .values import Value

if TYPE_CHECKING:
    from .builder import Builder

_TO_FLOAT = {"i": Op.ConvertSToF, "u": Op.ConvertUToF, "f": Op.FConvert}
_FROM_FLOAT = {"i": Op.ConvertFToS, "u": Op.ConvertFToU, "f": Op.FConvert}


def convert(builder: Builder, value: Value, dtype: str) -> Value:
    """Return `value` as `dtype`, component by component.

    Floats round to nearest even where they narrow; a float outside an integer's range is undefined; integers wrap; a
    bool is 0 or 1, and what is not zero (NaN included) is true.
    """
    source, wanted = element(value.dtype), dtype
    if source == wanted:
        return value
    target = with_element(value.dtype, wanted)
    from_kind, to_kind = KIND[source], KIND[wanted]
    if value.constant is not None and value.dtype in fold.SCALARS | {"bool"}:
        folded = _convert_constant(builder, value, wanted)
        if folded is not None:
            return folded
    if from_kind == "b":
        return builder.select(value, builder.const(target, 1), builder.const(target, 0))
    if to_kind == "b":
        return value != builder.const(value.dtype, 0)
    if source == "f16" and to_kind in "iu":
        # Widening keeps every f16 and needs no arithmetic on 16-bit floats.
        value = builder.pure(Op.FConvert, with_element(value.dtype, "f32"), value.id)
    if to_kind == "f" or from_kind == "f":
        opcode = _TO_FLOAT[from_kind] if to_kind == "f" else _FROM_FLOAT[to_kind]
        return builder.pure(opcode, target, value.id)
    return _convert_integer(builder, value, target)


def _convert_constant(builder: Builder, value: Value, wanted: str) -> Value | None:
    number = value.constant
    if number is None or (value.dtype in FLOATS and wanted in INTEGERS):
        return None
    if wanted in INTEGERS:
        return builder.const(wanted, wrap(wanted, int(number)))
    return builder.const(wanted, bool(number) if wanted == "bool" else float(number))


def _convert_integer(builder: Builder, value: Value, target: Dtype) -> Value:
    source, wanted = element(value.dtype), element(target)
    if BITS[source] == BITS[wanted]:
        return builder.pure(Op.Bitcast, target, value.id)
    if source in SIGNED:
        return builder.pure(Op.SConvert, target, value.id)
    unsigned = builder.pure(Op.UConvert, with_element(target, "u" + wanted[1:]), value.id)
    return builder.pure(Op.Bitcast, target, unsigned.id) if wanted in SIGNED else unsigned


def bitcast(builder: Builder, value: Value, dtype: Dtype) -> Value:
    """Return the same bits as another dtype of the same total width; a scalar name keeps a vector's components."""
    if isinstance(value.dtype, tuple) and not isinstance(dtype, tuple) and BITS[dtype] == BITS[element(value.dtype)]:
        dtype = with_element(value.dtype, dtype)
    if dtype == value.dtype:
        return value
    if _width(dtype) != _width(value.dtype) or "bool" in (element(dtype), element(value.dtype)):
        raise ShaderError(
            "A bitcast must keep the number of bits.",
            got=f"{value} to {dtype_text(dtype)}",
            want=f"{_width(value.dtype)} bits",
            fix="use b.convert to change the value's width.",
        )
    if value.constant is not None and value.dtype in INTEGERS and dtype in INTEGERS:
        return builder.const(dtype, wrap(element(dtype), int(value.constant)))
    return builder.pure(Op.Bitcast, dtype, value.id)


def _width(dtype: Dtype) -> int:
    return BITS[element(dtype)] * (dtype[1] if isinstance(dtype, tuple) and not isinstance(dtype, MatrixType) else 1)


def unpack_bf16(builder: Builder, bits: Value) -> Value:
    """Return the f32 whose upper half is the low 16 bits of a u32."""
    return _as_narrow(builder, bits << 16)


def unpack_upper_bf16(builder: Builder, bits: Value) -> Value:
    """Return the f32 whose upper half is the upper half of a u32."""
    return _as_narrow(builder, bits & 0xFFFF0000)


def join_bf16(builder: Builder, low: Value, high: Value) -> Value:
    """Return the u32 of two bf16 values that f32 registers hold exactly."""
    return (bitcast(builder, low, "u32") >> 16) | (bitcast(builder, high, "u32") & 0xFFFF0000)


def round_bf16(builder: Builder, value: Value) -> Value:
    """Return the f32 that holds the bf16 nearest to an f32; ties go to even and NaN stays some NaN."""
    if builder.rounds_bf16 and value.dtype == "f32":
        return _as_narrow(builder, _pair_of_bf16(builder, builder.const("f32", 0.0), value))
    bits = bitcast(builder, value, "u32")
    rounded = (bits + (((bits >> 16) & 1) + 0x7FFF)) & 0xFFFF0000
    is_nan = (bits & 0x7FFFFFFF) > 0x7F800000
    return _as_narrow(builder, builder.select(is_nan, builder.const(bits.dtype, 0x7FC00000), rounded))


def _pair_of_bf16(builder: Builder, low: Value, high: Value) -> Value:
    """Return the u32 of two f32 that the device rounds to bf16.

    Through the bits: drivers leave out a conversion there and back.
    """
    pair = builder.vector([low, high])
    return bitcast(builder, builder.pure(Op.FConvert, with_element(pair.dtype, "bf16"), pair.id), "u32")


def _as_narrow(builder: Builder, bits: Value) -> Value:
    """Return the f32 of bits whose lower half is zero, and remember that it is a bf16 value."""
    value = bitcast(builder, bits, "f32")
    key = ("bf16", value.id)
    if key not in builder.memo:
        builder.memo[key] = value.id
        builder.log.append(key)
    return value


def pack_bf16(builder: Builder, value: Value) -> Value:
    """Return, in the low half of a u32, the bf16 nearest to an f32; ties go to even and NaN stays NaN."""
    bits = bitcast(builder, value, "u32")
    upper = bits >> 16
    if ("bf16", value.id) in builder.memo:
        return upper
    if builder.rounds_bf16 and value.dtype == "f32":
        return _pair_of_bf16(builder, value, builder.const("f32", 0.0))
    rounded = (bits + ((upper & 1) + 0x7FFF)) >> 16
    is_nan = (bits & 0x7FFFFFFF) > 0x7F800000
    return builder.select(is_nan, upper | 0x40, rounded)


def decode(builder: Builder, loaded: int, stored: Dtype, register: Dtype, dtype: str) -> Value:
    """Return the register value of what was loaded from memory of `dtype`."""
    if stored == register:
        return Value(builder, loaded, register)
    if dtype in ("i8", "i16"):
        return builder.pure(Op.SConvert, register, loaded)
    if dtype == "bool" and element(stored) == "u32":
        return Value(builder, loaded, stored) != 0
    wide = builder.pure(Op.UConvert, with_element(register, "u32"), loaded)
    if dtype == "bool":
        return wide != 0
    return unpack_bf16(builder, wide) if dtype == "bf16" else wide


def encode(
    builder: Builder, value: Value, stored: Dtype, register: Dtype, stored_type: int, place: str, dtype: str
) -> int:
    """Return the id of what is written to memory of `dtype`; `stored_type` is the id of its type."""
    if dtype == "f16" and element(value.dtype) == "f32":
        return builder.typed(Op.FConvert, stored_type, value.id)
    if value.dtype == stored and value.dtype != register and dtype == value.dtype:
        return value.id
    if value.dtype != register:
        raise ShaderError(
            f"A value written to {place} must have its register dtype.",
            got=value,
            want=dtype_text(register),
            fix="convert the value with b.convert.",
        )
    if dtype not in REGISTERS:
        return value.id
    if dtype == "bool":
        value = builder.select(
            value, builder.const(with_element(register, "u32"), 1), builder.const(with_element(register, "u32"), 0)
        )
        if element(stored) == "u32":
            return value.id
    elif dtype == "bf16":
        value = pack_bf16(builder, value)
    opcode = Op.SConvert if element(stored) in SIGNED else Op.UConvert
    return builder.typed(opcode, stored_type, value.id)
