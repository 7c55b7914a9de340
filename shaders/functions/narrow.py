"""Round f32 and f64 registers to the precision of narrower float formats, ties to even."""

from __future__ import annotations

from ..spirv import Builder, Value
from .exact import exact
from .formats import format_of, infinity, magnitude_bits

# Half of the gap between the largest f16, 65504, and 65536: from here on numbers round to infinity.
_F16_OVERFLOW = 65520.0
RTE_CONTROLS = frozenset({"rounding_rte_16", "denorm_preserve_16"})
"""With these in force a conversion to f16 rounds to nearest even and keeps subnormals."""
_F16_LEAST_EXPONENT = 113 << 23
_F16_DROPPED_BITS = 13


def round_to_f16(b: Builder, x: Value) -> Value:
    """Return the f32 that holds the f16 nearest to an f32, subnormals and overflow included.

    Adding and subtracting 2^13 times the power of two in x leaves the 11 leading bits; below 2^-14 the spacing stays
    that of subnormals. Not by the device's own conversions: drivers leave out one there and back, on whatever controls.
    """
    magnitude = magnitude_bits(b, x)
    leading = b.max(magnitude & 0x7F800000, b.const("u32", _F16_LEAST_EXPONENT))
    size, anchor = b.bitcast(magnitude, "f32"), b.bitcast(leading + (_F16_DROPPED_BITS << 23), "f32")
    rounded = exact(exact(size + anchor) - anchor)
    rounded = b.select(size >= _F16_OVERFLOW, infinity(b, "f32"), rounded)
    sign = b.bitcast(x, "u32") & 0x80000000
    return b.bitcast(b.bitcast(rounded, "u32") | sign, "f32")


def round_to_bf16(b: Builder, x: Value) -> Value:
    """Return the f32 that holds the bf16 nearest to an f32."""
    return b.round_bf16(x)


def reduce_precision(b: Builder, x: Value, exponent_bits: int, mantissa_bits: int) -> Value:
    """Return x rounded to a format with that many bits; its subnormals become 0, what is too large infinite."""
    form = format_of(x)
    magnitude = magnitude_bits(b, x)
    sign = b.bitcast(x, form.unsigned) & form.sign_bit
    rounded = magnitude
    dropped = form.mantissa - mantissa_bits
    if dropped > 0:
        last = (magnitude >> dropped) & 1
        rounded = (magnitude + (last + ((1 << (dropped - 1)) - 1))) & ((1 << form.width) - (1 << dropped))
    bias = (1 << (exponent_bits - 1)) - 1
    if bias < form.bias:
        first_normal = (form.bias - bias + 1) << form.mantissa
        first_infinite = (form.bias + bias + 1) << form.mantissa
        rounded = b.select(rounded < first_normal, b.const(form.unsigned, 0), rounded)
        rounded = b.select(rounded >= first_infinite, b.const(form.unsigned, form.infinity_bits), rounded)
    return b.select(magnitude > form.infinity_bits, x, b.bitcast(rounded | sign, form.dtype))
