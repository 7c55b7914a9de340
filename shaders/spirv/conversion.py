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


_UPPER = 0xFFFF0000
_QUIET_NAN = 0x7FC00000


def unpack_bf16(builder: Builder, bits: Value) -> Value:
    """Return the f32 whose upper half is the low 16 bits of a u32."""
    return _as_narrow(builder, bits << 16)


def unpack_upper_bf16(builder: Builder, bits: Value) -> Value:
    """Return the f32 whose upper half is the upper half of a u32."""
    return _as_narrow(builder, bits)


def round_bf16(builder: Builder, value: Value) -> Value:
    """Return the f32 that holds the bf16 nearest to an f32; ties go to even and NaN becomes the quiet one."""
    narrow = None if builder.narrow is None else builder.narrow(value)
    if narrow is not None:
        return _remember(builder, narrow, bitcast(builder, narrow, "u32"))
    return _as_narrow(builder, _rounded_bits(builder, value))


def pack_bf16(builder: Builder, value: Value) -> Value:
    """Return, in the low half of a u32, the bf16 nearest to an f32; ties go to even and NaN stays NaN."""
    return _bits_above(builder, value) >> 16


def pack_bf16_pair(builder: Builder, low: Value, high: Value) -> Value:
    """Return the u32 of the bf16 nearest to two f32: one instruction beyond their rounding."""
    return (_bits_above(builder, low) >> 16) | (_bits_above(builder, high) & _UPPER)


def join_bf16(builder: Builder, low: Value, high: Value) -> Value:
    """Return the u32 of two bf16 values that f32 registers hold exactly."""
    halves = [builder.memo.get(_narrow_key(value), bitcast(builder, value, "u32")) for value in (low, high)]
    return (halves[0] >> 16) | (halves[1] & _UPPER)


def _bits_above(builder: Builder, value: Value) -> Value:
    """Return bits whose upper half is the bf16 nearest to an f32, with anything below."""
    known = builder.memo.get(_narrow_key(value))
    return known if known is not None else _rounded_bits(builder, value)


def _rounded_bits(builder: Builder, value: Value) -> Value:
    """Round an f32 and leave the sum's lower half in place, for whoever takes the upper one.

    In integers: the conversion of a driver may cut off and lose NaN, as NVIDIA's does. Five instructions; 0x7FFFFFFF,
    a GPU's own NaN, would wrap to -0 without the selection, and a NaN of few bits would become infinite.
    """
    bits = bitcast(builder, value, "u32")
    at, width = builder.const("u32", 16), builder.const("u32", 1)
    is_odd = builder.pure(Op.BitFieldUExtract, bits.dtype, bits.id, at.id, width.id)
    rounded = bits + (is_odd + 0x7FFF)
    return builder.select(_is_nan(builder, value, bits), builder.const(bits.dtype, _QUIET_NAN), rounded)


def _is_nan(builder: Builder, value: Value, bits: Value) -> Value:
    """Tell NaN by one comparison where the kernel's mode keeps it; elsewhere a compiler may take all for numbers."""
    if "signed_zero_inf_nan_preserve_32" in builder.float_controls:
        return value != value  # NaN alone differs from itself
    return (bits << 1) > 0xFF000000


def _as_narrow(builder: Builder, bits: Value) -> Value:
    """Return the f32 of the upper half of bits, and remember that it is a bf16 value and where its bits are."""
    return _remember(builder, bitcast(builder, bits & _UPPER, "f32"), bits)


def _remember(builder: Builder, value: Value, bits: Value) -> Value:
    """Remember that a value is that of a bf16, the upper half of bits; return it."""
    key = _narrow_key(value)
    if key not in builder.memo:
        builder.memo[key] = bits
        builder.log.append(key)
    return value


def _narrow_key(value: Value) -> tuple[str, int]:
    return ("bf16", value.id)


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
