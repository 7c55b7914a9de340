"""The meaning of `convert` and of `bitcast_convert` between dtypes of one width."""

from __future__ import annotations

from shaders.library.complex import Complex
from shaders.spirv import Builder, Value

from ... import dtypes
from .registers import Operand, Scalar, register_dtype, settle, width


def convert(b: Builder, x: Operand, target: str) -> Scalar:
    """Return x as another dtype: floats saturate to integers, NaN becomes 0, the imaginary part is dropped or 0."""
    if target in dtypes.COMPLEX:
        part = dtypes.real_part(target)
        if x.dtype in dtypes.COMPLEX:
            source = dtypes.real_part(x.dtype)
            return Complex(*(_convert_real(b, value, source, part) for value in x.complex))
        return Complex(_convert_real(b, x.real, x.dtype, part), b.const(part, 0.0))
    if x.dtype in dtypes.COMPLEX:
        if target == "bool":
            return (x.complex.re != 0.0) | (x.complex.im != 0.0)
        return _convert_real(b, x.complex.re, dtypes.real_part(x.dtype), target)
    return _convert_real(b, x.real, x.dtype, target)


def _convert_real(b: Builder, value: Value, source: str, target: str) -> Value:
    if source == target:
        return value
    if target == "bool":
        return value != b.const(value.dtype, 0)
    if source in dtypes.FLOATS and target in dtypes.INTEGERS:
        return _to_integer(b, value, target)
    register = register_dtype(target)
    if target in dtypes.FLOATS and source in ("f64", "i64", "u64") and register == "f32":
        # f16 and bf16 are rounded from f32, as XLA does, although two roundings may differ from one.
        return settle(b, b.convert(value, "f32"), target)
    converted = b.convert(value, register)
    return converted if _holds_every(source, target) else settle(b, converted, target)


def _holds_every(source: str, target: str) -> bool:
    """Whether a register of `source` needs no wrapping or rounding to be one of `target`."""
    if source == "bool" or (source in dtypes.UNSIGNED and target in dtypes.INTEGERS and width(source) < width(target)):
        return True
    if source in dtypes.SIGNED and target in dtypes.SIGNED:
        return width(source) <= width(target)
    return target in ("f32", "f64", "i32", "u32", "i64", "u64")


def _to_integer(b: Builder, value: Value, target: str) -> Value:
    """Convert toward zero; what lies outside goes to the nearest end, NaN to 0."""
    register = register_dtype(target)
    bits = width(target)
    if target in dtypes.SIGNED:
        least, most, above = -(1 << (bits - 1)), (1 << (bits - 1)) - 1, 2.0 ** (bits - 1)
    else:
        least, most, above = 0, (1 << bits) - 1, 2.0**bits
    is_inside = (value > float(least)) & (value < above)
    # A float outside the integer's range has no defined conversion, not even one that is thrown away.
    inside = b.convert(b.select(is_inside, value, b.const(value.dtype, 0.0)), register)
    result = b.select(value >= above, b.const(register, most), inside)
    return result if least == 0 else b.select(value <= float(least), b.const(register, least), result)


def bitcast_convert(b: Builder, x: Operand, target: str) -> Scalar:
    """Return the same bits as another dtype of the same width."""
    if x.dtype == target or x.dtype in dtypes.COMPLEX:
        return x.value
    if x.dtype == "bool" or target == "bool":
        return convert(b, x, target)
    value, bits = x.real, width(target)
    if bits >= 32:
        return b.bitcast(value, register_dtype(target))
    unsigned = _pack(b, value, x.dtype)
    if target == "f16":
        return b.extended("UnpackHalf2x16", ("f32", 2), unsigned.id)[0]
    if target == "bf16":
        return b.unpack_bf16(unsigned)
    return settle(b, b.bitcast(unsigned, register_dtype(target)), target)


def _pack(b: Builder, value: Value, dtype: str) -> Value:
    """Return the 8 or 16 bits of an element in the low end of a u32."""
    if dtype == "bf16":
        return b.pack_bf16(value)
    if dtype == "f16":
        return b.extended("PackHalf2x16", "u32", b.vector([value, b.const("f32", 0.0)]).id)
    return b.bitcast(value, "u32") & ((1 << width(dtype)) - 1)
