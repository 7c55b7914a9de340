"""The exact remainder of a division that truncates, C's fmod, by long division of the mantissas."""

from __future__ import annotations

from ..spirv import Builder, Value
from .formats import Format, format_of, magnitude_bits, not_a_number, power_of_two

# Bits that a mantissa can be shifted by without leaving its integer.
_STEP = {"f32": 8, "f64": 11}
# Rounds of long division between the largest and the smallest exponent.
_ROUNDS = 256


def remainder(b: Builder, x: Value, y: Value) -> Value:
    """Return x - y trunc(x / y) without rounding; it has the sign of x. NaN for infinite x and for y = 0."""
    form = format_of(x)
    x_bits, y_bits = magnitude_bits(b, x), magnitude_bits(b, y)
    x_exponent, x_mantissa = _split(b, x_bits, form)
    y_exponent, y_mantissa = _split(b, y_bits, form)
    divisor = b.select(y_bits == 0, b.const(form.unsigned, 1), y_mantissa)
    rest = _long_division(b, x_mantissa, divisor, x_exponent - y_exponent, _STEP[form.dtype])
    value = b.convert(rest, form.dtype)
    exponent = y_exponent - (form.bias + form.mantissa)
    half = exponent >> 1
    value = value * power_of_two(b, half, form.dtype) * power_of_two(b, exponent - half, form.dtype)
    sign = b.bitcast(x, form.unsigned) & form.sign_bit
    signed = b.bitcast(b.bitcast(value, form.unsigned) | sign, form.dtype)
    signed = b.select(x_bits < y_bits, x, signed)
    is_undefined = (x_bits >= form.infinity_bits) | (y_bits > form.infinity_bits) | (y_bits == 0)
    return b.select(is_undefined, not_a_number(b, form.dtype), signed)


def _split(b: Builder, magnitude: Value, form: Format) -> tuple[Value, Value]:
    """Return the i32 exponent field, at least 1, and the mantissa with its leading bit, which subnormals lack."""
    field = b.convert(magnitude >> form.mantissa, "i32")
    fraction = magnitude & ((1 << form.mantissa) - 1)
    is_normal = field > 0
    mantissa = b.select(is_normal, fraction | (1 << form.mantissa), fraction)
    return b.select(is_normal, field, b.const("i32", 1)), mantissa


def _long_division(b: Builder, dividend: Value, divisor: Value, shift: Value, step: int) -> Value:
    """Return dividend 2^shift modulo divisor, `step` bits of the quotient at a time; a negative shift counts as 0."""

    def body(carries: list[Value]) -> list[Value]:
        rest, left = carries
        bits = b.min(left, b.const("i32", step))
        return [(rest << b.bitcast(bits, "u32")) % divisor, left - bits]

    return b.while_loop(lambda carries: carries[1] > 0, body, [dividend % divisor, shift], most=_ROUNDS)[0]
