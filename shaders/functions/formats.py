"""What a float format looks like in bits, and the bit operations that elementary functions are made of."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ShaderError
from ..spirv import Builder, Dtype, Value
from .exact import exact


@dataclass(frozen=True, slots=True)
class Format:
    """A binary interchange format: `mantissa` stored bits, exponent `bias`, and the integers of its width."""

    dtype: str
    signed: str
    unsigned: str
    width: int
    mantissa: int
    bias: int

    @property
    def sign_bit(self) -> int:
        """The bit pattern of -0."""
        return 1 << (self.width - 1)

    @property
    def infinity_bits(self) -> int:
        """The bit pattern of +infinity; magnitudes above it are NaN."""
        return (2 * self.bias + 1) << self.mantissa

    @property
    def largest(self) -> float:
        """The largest finite number."""
        return (2.0 - 2.0**-self.mantissa) * 2.0**self.bias

    @property
    def smallest_normal(self) -> float:
        """The smallest positive number that no device flushes to zero."""
        return 2.0 ** (1 - self.bias)


_FORMATS = {
    "f32": Format("f32", "i32", "u32", 32, 23, 127),
    "f64": Format("f64", "i64", "u64", 64, 52, 1023),
}


def format_of(x: Value) -> Format:
    """Return the format of a float register.

    Raises:
        ShaderError: the value is neither f32 nor f64.
    """
    found = _FORMATS.get(x.dtype) if isinstance(x.dtype, str) else None
    if found is None:
        raise ShaderError(
            "An elementary function must be given a scalar float register.",
            got=x,
            want="f32 or f64",
            fix="convert the operand; f16 and bf16 are computed in f32.",
        )
    return found


def scalar_dtype(x: Value) -> str:
    """Return the dtype of a value that is no vector and no matrix."""
    assert isinstance(x.dtype, str)
    return x.dtype


def native(b: Builder, name: str, x: Value) -> Value:
    """Return the device's own function of one value."""
    result = b.math(name, x)
    assert isinstance(result, Value)
    return result


def polynomial(x: Value, coefficients: tuple[float, ...]) -> Value:
    """Return c[0] + c[1] x + c[2] x² + … by Horner's rule."""
    total = x.builder.const(x.dtype, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + coefficient
    return total


def nearest_whole(b: Builder, x: Value) -> tuple[Value, Value]:
    """Return the whole number nearest to x, as a float and as an i32, for |x| below 2^22.

    Adding a number whose spacing is 1 pushes the fraction out. Unlike a conversion this is defined for every x, though
    meaningless for larger ones: SPIR-V leaves the conversion of infinity undefined even if nobody uses it.
    """
    form = format_of(x)
    anchor = 1.5 * 2.0**form.mantissa
    anchored = exact(x + anchor)
    bits = b.bitcast(anchored, form.signed) - b.bitcast(b.const(form.dtype, anchor), form.signed)
    return exact(anchored - anchor), b.convert(bits, "i32")


def nearest_exponent(b: Builder, x: Value) -> tuple[Value, Value]:
    """Return the whole number nearest to x as a float, and as a signed integer that stands in the exponent's place.

    Added to the bits of a float that integer multiplies it by 2^whole. The anchor's own bits are all shifted out.
    """
    form = format_of(x)
    anchor = 1.5 * 2.0**form.mantissa
    anchored = exact(x + anchor)
    return exact(anchored - anchor), b.bitcast(anchored, form.signed) << form.mantissa


def power_of_two(b: Builder, exponent: Value, dtype: str) -> Value:
    """Return 2^exponent for an i32 exponent within the normal range; outside it the result is meaningless."""
    form = _FORMATS[dtype]
    shifted = b.convert(exponent + form.bias, form.signed) << form.mantissa
    return b.bitcast(shifted, dtype)


def magnitude_bits(b: Builder, x: Value) -> Value:
    """Return the bits of |x| as an unsigned integer; integers order them as floats do, NaN last."""
    form = format_of(x)
    return b.bitcast(x, form.unsigned) & (form.sign_bit - 1)


def absolute(b: Builder, x: Value) -> Value:
    """Return |x|, the sign bit cleared even on NaN and -0.

    Mesa 26 reads a mask of all bits but the sign as its own fabs, which it drops where x has no finite negative value:
    |-infinity| was then -infinity. It does not see through this form, which compilers for processors make a mask again.
    """
    form = format_of(x)
    bits = b.bitcast(x, form.unsigned)
    return b.bitcast(bits ^ (bits & form.sign_bit), x.dtype)


def copy_sign(b: Builder, magnitude: Value, sign: Value) -> Value:
    """Return `magnitude`, whose sign bit must be clear, with the sign bit of `sign`."""
    form = format_of(sign)
    bit = b.bitcast(sign, form.unsigned) & form.sign_bit
    return b.bitcast(b.bitcast(magnitude, form.unsigned) | bit, sign.dtype)


def flip_sign(b: Builder, x: Value, sign: Value) -> Value:
    """Return x, negated where the sign bit of `sign` is set."""
    form = format_of(x)
    bit = b.bitcast(sign, form.unsigned) & form.sign_bit
    return b.bitcast(b.bitcast(x, form.unsigned) ^ bit, x.dtype)


def is_negative(b: Builder, x: Value) -> Value:
    """Whether the sign bit is set; true for -0."""
    return b.bitcast(x, format_of(x).signed) < 0


def is_nan(b: Builder, x: Value) -> Value:
    """Whether x is NaN, by its bits: compilers may assume that floats are not NaN."""
    return magnitude_bits(b, x) > format_of(x).infinity_bits


def is_infinite(b: Builder, x: Value) -> Value:
    """Whether x is +infinity or -infinity."""
    return magnitude_bits(b, x) == format_of(x).infinity_bits


def is_finite(b: Builder, x: Value) -> Value:
    """Whether x is neither infinite nor NaN."""
    return magnitude_bits(b, x) < format_of(x).infinity_bits


def infinity(b: Builder, dtype: Dtype) -> Value:
    """Return the constant +infinity."""
    return b.const(dtype, float("inf"))


def not_a_number(b: Builder, dtype: Dtype) -> Value:
    """Return the constant NaN."""
    return b.const(dtype, float("nan"))


def truncate_bits(b: Builder, x: Value, dropped: int) -> Value:
    """Return x with its lowest `dropped` mantissa bits cleared, so that products of two such numbers are exact."""
    form = format_of(x)
    mask = (1 << form.width) - (1 << dropped)
    return b.bitcast(b.bitcast(x, form.unsigned) & mask, x.dtype)
