"""Rules of arithmetic and of elementary functions: floating numbers."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from .box import Box, around, has_zero, is_real, known, outward, sane, unbounded, unless
from .graph import Step

# Units in the last place of a sum, a difference or a product: half of one for the kernel, half for the end itself.
_SUM = 1
# A quotient or a root on a GPU may be off by 2.5 units; so may the ends.
_QUOTIENT = 6
# Of an elementary function: at most 4 on every platform (docs/numerics.md), for the kernel and for the ends.
_FUNCTION = 8
# Powers of XLA on the CPU are a logarithm, a product and an exponential.
_POWER = 32

INCREASING: dict[str, int] = {
    "exp": _FUNCTION, "exp2": _FUNCTION, "expm1": _FUNCTION, "log": _FUNCTION, "log1p": _FUNCTION, "tanh": _FUNCTION,
    "logistic": _FUNCTION, "sqrt": _QUOTIENT, "cbrt": _FUNCTION, "erf": _FUNCTION, "atan": _FUNCTION,
    "sinh": _FUNCTION, "asinh": _FUNCTION,
}  # fmt: skip
DECREASING: dict[str, int] = {"rsqrt": _QUOTIENT, "erfc": _FUNCTION}
# Not defined for all numbers.
_PARTIAL = frozenset({"log", "log1p", "sqrt", "rsqrt"})


def increasing(step: Step, box: Box) -> Box:
    """Bound a function that grows."""
    low, high = (step.run(end)[0] for end in (box.low, box.high))
    return outward(_defined(step, low, high), INCREASING[step.primitive.name])


def decreasing(step: Step, box: Box) -> Box:
    """Bound a function that falls."""
    low, high = (step.run(end)[0] for end in (box.high, box.low))
    return outward(_defined(step, low, high), DECREASING[step.primitive.name])


def _defined(step: Step, low: Any, high: Any) -> Box:
    """Return a box without a bound if one of its ends is outside the domain, where a function is NaN."""
    return sane(low, high) if step.primitive.name in _PARTIAL else Box(low, high)


def add(step: Step, first: Box, second: Box) -> Box:
    """Bound a sum; of two infinities, it may be NaN."""
    low, high = step.run(first.low, second.low)[0], step.run(first.high, second.high)[0]
    return _unless_infinite(outward(Box(low, high), _SUM), first, second)


def sub(step: Step, first: Box, second: Box) -> Box:
    """Bound a difference, of independent numbers."""
    low, high = step.run(first.low, second.high)[0], step.run(first.high, second.low)[0]
    return _unless_infinite(outward(Box(low, high), _SUM), first, Box(-second.high, -second.low))


def _unless_infinite(result: Box, first: Box, second: Box) -> Box:
    """Take the bound of a sum away where infinities of both signs may meet."""
    if any((number := known(box)) is not None and np.isfinite(number) for box in (first, second)):
        return result
    meet = [(above.high == jnp.inf) & (below.low == -jnp.inf) for above, below in ((first, second), (second, first))]
    return unless(meet[0] | meet[1], result)


def mul(step: Step, first: Box, second: Box) -> Box:
    """Bound a product by its values at the four corners; zero times infinity may be NaN."""
    for factor, other in ((first, second), (second, first)):
        number = known(factor)
        if number is not None and np.isfinite(number) and number != 0:
            ends = (other.low, other.high) if number > 0 else (other.high, other.low)
            low, high = (step.run(end, jnp.broadcast_to(number, end.shape))[0] for end in ends)
            return outward(Box(low, high), _SUM)
    result = outward(_corners(step, first, second), _SUM)
    bad = [has_zero(zero) & _has_infinity(far) for zero, far in ((first, second), (second, first))]
    return unless(bad[0] | bad[1], result)


def div(step: Step, first: Box, second: Box) -> Box:
    """Bound a quotient; by zero, it has none."""
    number = known(second)
    if number is not None and np.isfinite(number) and number != 0:
        low, high = (step.run(end, second.low)[0] for end in (first.low, first.high))
        return outward(Box(low, high) if number > 0 else Box(high, low), _QUOTIENT)
    result = outward(_corners(step, first, second), _QUOTIENT)
    return unless(has_zero(second), result)


def _corners(step: Step, first: Box, second: Box) -> Box:
    return around(*(step.run(a, b)[0] for a in (first.low, first.high) for b in (second.low, second.high)))


def _has_infinity(box: Box) -> Any:
    return jnp.isinf(box.low) | jnp.isinf(box.high)


def absolute(step: Step, box: Box) -> Box:
    """Bound |x|: tight also where x may be zero."""
    ends = around(*(step.run(end)[0] for end in (box.low, box.high)))
    return Box(jnp.where(has_zero(box), jnp.zeros_like(ends.low), ends.low), ends.high)


def square(step: Step, box: Box) -> Box:
    """Bound x^2."""
    return outward(absolute(step, box), _SUM)


def integer_pow(step: Step, box: Box) -> Box:
    """Bound x^n, made of products and, below zero, of a quotient."""
    exponent = step.params["y"]
    units = 2 * abs(exponent) + (_QUOTIENT if exponent < 0 else 0)
    if exponent > 0 and exponent % 2:
        return outward(Box(*(step.run(end)[0] for end in (box.low, box.high))), units)
    if exponent >= 0:
        return outward(absolute(step, box), units)
    ends = around(*(step.run(end)[0] for end in (box.low, box.high)))
    return unless(has_zero(box), outward(sane(ends.low, ends.high), units))


def power(step: Step, base: Box, exponent: Box) -> Box:
    """Bound x^y for x that is nowhere negative, where it is monotone in both."""
    if not is_real(exponent):
        return unbounded(step.avals[0])
    result = outward(_corners(step, base, exponent), _POWER)
    return unless(~(base.low >= 0), result)


def sine(step: Step, box: Box) -> Box:
    """Bound sin x: by its ends, and by 1 or -1 where a crest or a trough lies between them."""
    return _wave(step, box, crest=0.25)


def cosine(step: Step, box: Box) -> Box:
    """Bound cos x."""
    return _wave(step, box, crest=0.0)


def _wave(step: Step, box: Box, crest: float) -> Box:
    eps = float(jnp.finfo(box.low.dtype).eps)
    first, last = (end * np.asarray(1 / (2 * np.pi), end.dtype) for end in (box.low, box.high))
    # A turn is known to its rounding; far out that is more than a turn, and the box is [-1, 1].
    slack = 4 * eps * (1 + jnp.maximum(jnp.abs(first), jnp.abs(last)))

    def passes(turn: float) -> Any:
        return jnp.ceil(first - turn - slack) <= last - turn + slack

    ends = around(*(step.run(end)[0] for end in (box.low, box.high)))
    one = jnp.ones_like(ends.low)
    low = jnp.where(passes(crest + 0.5), -one, ends.low - 4 * eps)
    high = jnp.where(passes(crest), one, ends.high + 4 * eps)
    return unless(~(jnp.isfinite(box.low) & jnp.isfinite(box.high)), outward(Box(low, high), _FUNCTION))


def rem(step: Step, first: Box, second: Box) -> Box:
    """Bound the remainder x - y trunc(x / y): of the sign of x, at most |x| and |y|."""
    return unless(has_zero(second) | _has_infinity(first), remainder_range(first, second, 0))


def remainder_range(first: Box, second: Box, less: int) -> Box:
    """Return what a remainder may be, at most |y| - ``less``."""
    most = jnp.maximum(jnp.abs(second.low), jnp.abs(second.high)) - np.asarray(less, second.low.dtype)
    zero = jnp.zeros_like(first.low)
    low = jnp.where(first.low < 0, jnp.maximum(first.low, -most), zero)
    high = jnp.where(first.high > 0, jnp.minimum(first.high, most), zero)
    return Box(low, high) if not is_real(first) else sane(low + 0 * first.low, high + 0 * first.high)


def reduce_sum(step: Step, box: Box) -> Box:
    """Bound a sum over axes, in whatever order it is taken."""
    terms = int(np.prod([box.low.shape[axis] for axis in step.params["axes"]], initial=1))
    return _summed(step, box, terms)


def cumsum(step: Step, box: Box) -> Box:
    """Bound running sums, in whatever order they are taken."""
    return _summed(step, box, box.low.shape[step.params["axis"]])


def _summed(step: Step, box: Box, terms: int) -> Box:
    low, high = (step.run(end)[0] for end in (box.low, box.high))
    if terms <= 1:
        return Box(low, high)
    largest = step.run(jnp.maximum(jnp.abs(box.low), jnp.abs(box.high)))[0]
    # Higham's gamma of terms - 1 additions, for the kernel and for the ends, and of the sum of magnitudes itself.
    error = terms * float(jnp.finfo(low.dtype).eps) * (1 + 2 * terms * float(jnp.finfo(low.dtype).eps)) * largest
    return outward(sane(low - error, high + error), _SUM)
