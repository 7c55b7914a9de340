"""Arithmetic and elementary functions of complex numbers, accurate in each part where that is cheap."""

from __future__ import annotations

from ..library.complex import Complex
from ..spirv import Builder, Value
from . import arctangent, exponential, logarithm, roots, trigonometry
from .exact import exact
from .formats import absolute as magnitude
from .formats import (
    copy_sign,
    format_of,
    infinity,
    is_finite,
    is_infinite,
    is_nan,
    magnitude_bits,
    native,
    not_a_number,
    power_of_two,
)
from .power import power as real_power

# From here on tanh(x) is ±1 and the rest is below the rounding of the formula for small x.
_TANH_LIMIT = {"f32": 10.0, "f64": 20.0}


def choose(b: Builder, condition: Value, chosen: Complex, otherwise: Complex) -> Complex:
    """Return `chosen` where the condition holds, else `otherwise`."""
    return Complex(b.select(condition, chosen.re, otherwise.re), b.select(condition, chosen.im, otherwise.im))


def absolute(b: Builder, z: Complex) -> Value:
    """Return |z| without overflow on the way."""
    return roots.hypot(b, z.re, z.im)


def multiply(b: Builder, z: Complex, w: Complex) -> Complex:
    """Return z w by the definition; infinite parts may give NaN, as in XLA."""
    del b
    return Complex(z.re * w.re - z.im * w.im, z.re * w.im + z.im * w.re)


def divide(b: Builder, z: Complex, w: Complex) -> Complex:
    """Return z / w, the divisor scaled by a power of two first, so that its square neither over- nor underflows.

    A finite number over an infinite one is 0, and what is not 0 over 0 is infinite, as C's Annex G asks.
    """
    form = format_of(w.re)
    size = b.max(magnitude_bits(b, w.re), magnitude_bits(b, w.im))
    # The larger part comes to lie between 1/4 and 1/2: sums of products with the dividend then stay below its size. The
    # power may be out of range, its halves are not.
    exponent = form.bias - 2 - b.convert(size >> form.mantissa, "i32")
    halves = power_of_two(b, exponent >> 1, form.dtype), power_of_two(b, exponent - (exponent >> 1), form.dtype)

    re, im = (exact(exact(part * halves[0]) * halves[1]) for part in w)
    x, y = (exact(part * halves[0]) for part in z)
    square = re * re + im * im
    quotient = Complex(
        exact((x * re + y * im) * halves[1]) / square,
        exact((y * re - x * im) * halves[1]) / square,
    )
    zero = b.const(form.dtype, 0.0)
    is_small = is_finite(b, z.re) & is_finite(b, z.im) & (is_infinite(b, w.re) | is_infinite(b, w.im))
    quotient = choose(b, is_small, Complex(zero, zero), quotient)
    unbounded = copy_sign(b, infinity(b, form.dtype), w.re)
    return choose(b, size == 0, Complex(unbounded * z.re, unbounded * z.im), quotient)


def maximum(b: Builder, z: Complex, w: Complex) -> Complex:
    """Return the larger by real part, then by imaginary part; w where a NaN prevents the comparison."""
    return choose(b, (z.re > w.re) | ((z.re == w.re) & (z.im > w.im)), z, w)


def minimum(b: Builder, z: Complex, w: Complex) -> Complex:
    """Return the smaller by real part, then by imaginary part; w where a NaN prevents the comparison."""
    return choose(b, (z.re < w.re) | ((z.re == w.re) & (z.im < w.im)), z, w)


def sign(b: Builder, z: Complex) -> Complex:
    """Return z / |z|, and z itself where it is 0."""
    size = absolute(b, z)
    return choose(b, size == 0.0, z, Complex(z.re / size, z.im / size))


def exp(b: Builder, z: Complex) -> Complex:
    """Return e to the power z; a real z stays real, and with a real part of -inf the result is 0 at every angle."""
    zero = b.const(z.re.dtype, 0.0)
    size, scale = exponential.scaled_exp(b, z.re)
    sine, cosine = trigonometry.sincos(b, z.im)
    result = Complex(size * cosine * scale, b.select(z.im == 0.0, z.im, size * sine * scale))
    is_zero = z.re == -infinity(b, z.re.dtype)
    return choose(b, is_zero, Complex(zero, zero), result)


def expm1(b: Builder, z: Complex) -> Complex:
    """Return e to the power z, minus 1, accurate near 0.

    Its parts are expm1(x) cos(y) - 2 sin(y/2)² and e^x sin(y).
    """
    sine, cosine = trigonometry.sincos(b, z.im)
    half_sine = trigonometry.sin(b, z.im * 0.5)
    re = exponential.expm1(b, z.re) * cosine - half_sine * half_sine * 2.0
    size, scale = exponential.scaled_exp(b, z.re)
    im = size * sine * scale
    is_real = z.im == 0.0
    return Complex(b.select(is_real, exponential.expm1(b, z.re), re), b.select(is_real, z.im, im))


def log(b: Builder, z: Complex) -> Complex:
    """Return the principal logarithm."""
    large, small = roots.larger_and_smaller(b, z.re, z.im)
    re = _log_size(b, large, small, exact(large - 1.0) * (large + 1.0))
    return Complex(_infinite_where_any(b, z, re), arctangent.atan2(b, z.im, z.re))


def log1p(b: Builder, z: Complex) -> Complex:
    """Return log(1 + z), accurate near 0."""
    shifted = Complex(z.re + 1.0, z.im)
    large, small = roots.larger_and_smaller(b, shifted.re, shifted.im)
    is_real_larger = magnitude(b, shifted.re) > magnitude(b, shifted.im)
    excess = b.select(is_real_larger, z.re * (z.re + 2.0), exact(large - 1.0) * (large + 1.0))
    re = _log_size(b, large, small, excess)
    return Complex(_infinite_where_any(b, z, re), arctangent.atan2(b, shifted.im, shifted.re))


def _log_size(b: Builder, large: Value, small: Value, excess: Value) -> Value:
    """Return log(sqrt(large² + small²)); `excess` is large² - 1, which keeps precision near the unit circle."""
    is_near = (large > 0.5) & (large < 3.0)
    ratio = b.select(large == 0.0, small, small / large)
    argument = b.select(is_near, excess + small * small, ratio * ratio)
    start = b.select(is_near, b.const(large.dtype, 0.0), logarithm.log(b, large))
    return start + logarithm.log1p(b, argument) * 0.5


def _infinite_where_any(b: Builder, z: Complex, value: Value) -> Value:
    return b.select(is_infinite(b, z.re) | is_infinite(b, z.im), infinity(b, value.dtype), value)


def sqrt(b: Builder, z: Complex) -> Complex:
    """Return the principal square root.

    Its parts are r = sqrt((|z| + |x|) / 2) and |y| / 2r.
    """
    scale, back = _sqrt_scale(b, roots.larger_and_smaller(b, z.re, z.im)[0])
    x, y = exact(z.re * scale), exact(z.im * scale)
    root = native(b, "sqrt", (roots.hypot(b, x, y) + magnitude(b, x)) * 0.5)
    other = b.select(root == 0.0, root, magnitude(b, y) / (root * 2.0))
    is_right = x >= 0.0
    re, im = b.select(is_right, root, other), b.select(is_right, other, root)
    return _sqrt_of_infinite(b, z, Complex(re * back, copy_sign(b, im * back, z.im)))


def _sqrt_scale(b: Builder, large: Value) -> tuple[Value, Value]:
    """Return a power of four that brings numbers away from the ends of the range, and one over its root."""
    form = format_of(large)

    def pick(huge: float, tiny: float) -> Value:
        is_tiny = large < form.smallest_normal * 2.0 ** (form.mantissa + 1)
        small = b.select(is_tiny, b.const(form.dtype, tiny), b.const(form.dtype, 1.0))
        return b.select(large > form.largest / 16, b.const(form.dtype, huge), small)

    half_shift = (form.mantissa + 3) // 2
    return pick(2.0**-4, 4.0**half_shift), pick(4.0, 2.0**-half_shift)


def _sqrt_of_infinite(b: Builder, z: Complex, result: Complex) -> Complex:
    """Put in the roots of infinite numbers, as C's Annex G has them."""
    unbounded, zero = infinity(b, z.re.dtype), b.const(z.re.dtype, 0.0)
    is_right, is_blank = z.re > 0.0, is_nan(b, z.im)
    re = b.select(is_right, unbounded, b.select(is_blank, z.im, zero))
    right_im = b.select(is_blank, z.im, copy_sign(b, zero, z.im))
    along = Complex(re, b.select(is_right, right_im, copy_sign(b, unbounded, z.im)))
    result = choose(b, is_infinite(b, z.re), along, result)
    return choose(b, is_infinite(b, z.im), Complex(unbounded, z.im), result)


def rsqrt(b: Builder, z: Complex) -> Complex:
    """Return 1 / sqrt(z)."""
    return divide(b, Complex(b.const(z.re.dtype, 1.0), b.const(z.re.dtype, 0.0)), sqrt(b, z))


def power(b: Builder, z: Complex, w: Complex) -> Complex:
    """Return z to the power w = c + i d, of length |z|^c e^(-d arg z) and angle c arg z + d log|z|.

    Any z to the power 0 is 1, and 0 to a power with c > 0 is 0.
    """
    dtype = z.re.dtype
    zero, one = b.const(dtype, 0.0), b.const(dtype, 1.0)
    size, logarithm_of_z = absolute(b, z), log(b, z)
    decay = b.select(w.im == 0.0, one, exponential.exp(b, -(w.im * logarithm_of_z.im)))
    length = real_power(b, size, w.re) * decay
    turned = b.select(w.im == 0.0, zero, w.im * logarithm_of_z.re)
    sine, cosine = trigonometry.sincos(b, w.re * logarithm_of_z.im + turned)
    result = Complex(length * cosine, length * sine)
    result = choose(b, (size == 0.0) & (w.re > 0.0), Complex(zero, zero), result)
    return choose(b, (w.re == 0.0) & (w.im == 0.0), Complex(one, zero), result)


def cbrt(b: Builder, z: Complex) -> Complex:
    """Return the principal cube root."""
    third = Complex(b.const(z.re.dtype, 1.0 / 3.0), b.const(z.re.dtype, 0.0))
    return power(b, z, third)


def sin(b: Builder, z: Complex) -> Complex:
    """Return the sine of x + i y.

    It is sin(x) cosh(y) + i cos(x) sinh(y).
    """
    sine, cosine = trigonometry.sincos(b, z.re)
    hyperbolic_sine, hyperbolic_cosine = _hyperbolic(b, z.im)
    re = b.select(z.re == 0.0, z.re, sine * hyperbolic_cosine)
    return Complex(re, b.select(z.im == 0.0, z.im, cosine * hyperbolic_sine))


def cos(b: Builder, z: Complex) -> Complex:
    """Return the cosine of x + i y.

    It is cos(x) cosh(y) - i sin(x) sinh(y).
    """
    sine, cosine = trigonometry.sincos(b, z.re)
    hyperbolic_sine, hyperbolic_cosine = _hyperbolic(b, z.im)
    # A zero factor wins over an infinite one.
    zero = copy_sign(b, b.const(z.re.dtype, 0.0), z.im)
    im = b.select((z.re == 0.0) | (z.im == 0.0), sine * zero, sine * hyperbolic_sine)
    return Complex(cosine * hyperbolic_cosine, -im)


def tan(b: Builder, z: Complex) -> Complex:
    """Return the tangent, -i tanh(i z)."""
    turned = tanh(b, Complex(-z.im, z.re))
    return Complex(turned.im, -turned.re)


def tanh(b: Builder, z: Complex) -> Complex:
    """Return the hyperbolic tangent of x + i y by Kahan's formula.

    With t = tan(y), s = sinh(x) and c = cosh(x) it is ((1 + t²) s c + i t) / (1 + (1 + t²) s²).
    """
    form = format_of(z.re)
    limit = _TANH_LIMIT[form.dtype]
    one = b.const(form.dtype, 1.0)
    size = magnitude(b, z.re)
    s, c = _hyperbolic(b, b.select(size < limit, size, b.const(form.dtype, 0.0)))
    t = trigonometry.tan(b, z.im)
    growth = t * t + 1.0
    denominator = growth * s * s + 1.0
    inside = Complex(growth * c * s / denominator, t / denominator)
    sine, cosine = trigonometry.sincos(b, z.im)
    far = exponential.exp(b, size * -2.0)
    outside = Complex(one, sine * cosine * 4.0 * far)
    result = choose(b, size < limit, inside, outside)
    has_angle = is_finite(b, z.im) | is_infinite(b, z.re)
    re = copy_sign(b, b.select(has_angle, magnitude(b, result.re), not_a_number(b, form.dtype)), z.re)
    re = b.select(is_nan(b, z.re), z.re, re)
    im = b.select(is_nan(b, z.re), b.select(z.im == 0.0, z.im, z.re), result.im)
    return Complex(re, im)


def _hyperbolic(b: Builder, y: Value) -> tuple[Value, Value]:
    """Return sinh(y) and cosh(y) from t = expm1(|y|) and 1 - e^-|y| = t / (t + 1)."""
    t = exponential.expm1(b, magnitude(b, y))
    falling = b.select(t > 1e30, b.const(y.dtype, 1.0), t / (t + 1.0))
    return copy_sign(b, (t + falling) * 0.5, y), (t - falling) * 0.5 + 1.0


def logistic(b: Builder, z: Complex) -> Complex:
    """Return 1 / (1 + e^-z); 0 where the exponential overflows."""
    zero, one = b.const(z.re.dtype, 0.0), b.const(z.re.dtype, 1.0)
    power_of_e = exp(b, Complex(-z.re, -z.im))
    result = divide(b, Complex(one, zero), Complex(power_of_e.re + 1.0, power_of_e.im))
    is_beyond = exponential.exp(b, -z.re) == infinity(b, z.re.dtype)
    return choose(b, is_beyond & is_finite(b, z.im), Complex(zero, zero), result)


def atan2(b: Builder, y: Complex, x: Complex) -> Complex:
    """Return -i log((x + i y) / sqrt(x² + y²))."""
    turned = Complex(x.re - y.im, x.im + y.re)
    squares = multiply(b, x, x), multiply(b, y, y)
    length = sqrt(b, Complex(squares[0].re + squares[1].re, squares[0].im + squares[1].im))
    result = log(b, divide(b, turned, length))
    return Complex(result.im, -result.re)
