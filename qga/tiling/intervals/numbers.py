"""Rules of arithmetic and of elementary functions: floating numbers."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from .box import Box, around, has_zero, is_real, known, outward, sane, unbounded, unless
from .graph import Step

# Units in the last place by which an end is moved: twice what a platform may be off by, once for the kernel and once
# for the end itself. Sums and products are off by half a unit, quotients and roots on a GPU by 2.5.
_SUM, _QUOTIENT = 1, 6
# Largest errors measured with XLA on the CPU and on Vulkan: sine and cosine 2.3, powers 1.1.
_WAVE, _POWER = 8, 8

# Functions that grow. Measured: asinh 3.1, atan 2.3, cbrt 3.2, erf 7.5, exp 3.7, expm1 5.7, log 1.2, log1p 2.5,
# logistic 2.4, tanh 7.7; exp2 as exp, of an argument that was rounded twice.
_UNITS: dict[str, int] = {
    "asinh": 10, "atan": 8, "cbrt": 10, "erf": 20, "exp": 10, "exp2": 10, "expm1": 16, "log": 6, "log1p": 8,
    "logistic": 8, "sqrt": _QUOTIENT, "tanh": 20,
}  # fmt: skip
# XLA's log1p on the CPU is off by 129 units in double precision between 0.1 and 0.6.
_DOUBLE_UNITS = _UNITS | {"log1p": 320}
# Not defined for all numbers.
_PARTIAL = frozenset({"log", "log1p", "sqrt"})
INCREASING = frozenset(_UNITS)


def increasing(step: Step, box: Box) -> Box:
    """Bound a function that grows; outside its domain it is NaN, at one end at least."""
    name = step.primitive.name
    box = outward(box, 4) if name == "exp2" else box
    low, high = (step.run(end)[0] for end in (box.low, box.high))
    units = (_DOUBLE_UNITS if low.dtype == jnp.float64 else _UNITS)[name]
    return outward(sane(low, high) if name in _PARTIAL else Box(low, high), units)


def reciprocal_root(step: Step, box: Box) -> Box:
    """Bound 1 / sqrt(x), which falls."""
    low, high = (step.run(end)[0] for end in (box.high, box.low))
    return outward(sane(low, high), _QUOTIENT)


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
    if step.operands[0] is step.operands[1]:
        return square(step, first)
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


def falling(step: Step, box: Box) -> Box:
    """Bound what falls and is exact: the opposite of a number or of a truth, bits turned over."""
    return Box(step.run(box.high)[0], step.run(box.low)[0])


def reduce_precision(step: Step, box: Box) -> Box:
    """Bound a number with fewer digits, which a compiler may also leave as it is."""
    low, high = (step.run(end)[0] for end in (box.low, box.high))
    return Box(jnp.minimum(low, box.low), jnp.maximum(high, box.high))


def absolute(step: Step, box: Box) -> Box:
    """Bound |x|: tight also where x may be zero."""
    ends = around(*(step.run(end)[0] for end in (box.low, box.high)))
    return Box(jnp.where(has_zero(box), jnp.zeros_like(ends.low), ends.low), ends.high)


def square(step: Step, box: Box) -> Box:
    """Bound x^2."""
    del step
    ends = around(box.low * box.low, box.high * box.high)
    return outward(Box(jnp.where(has_zero(box), jnp.zeros_like(ends.low), ends.low), ends.high), _SUM)


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
    return unless(~(jnp.isfinite(box.low) & jnp.isfinite(box.high)), outward(Box(low, high), _WAVE))


def rem(step: Step, first: Box, second: Box) -> Box:
    """Bound the remainder x - y trunc(x / y): of the sign of x, at most |x| and |y|."""
    return unless(has_zero(second) | _has_infinity(first), remainder_range(first, second, 0))


def remainder_range(first: Box, second: Box, less: int) -> Box:
    """Return what a remainder may be, at most |y| - ``less``."""
    most = jnp.maximum(jnp.abs(second.low), jnp.abs(second.high)) - np.asarray(less, second.low.dtype)
    zero = jnp.zeros_like(first.low)
    low = jnp.where(first.low < 0, jnp.maximum(first.low, -most), zero)
    high = jnp.where(first.high > 0, jnp.minimum(first.high, most), zero)
    return Box(low, high) if not is_real(first) else sane(low + 0 * first.low, high + 0 * first.high + 0 * most)


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


def dot_general(step: Step, first: Box, second: Box) -> Box:
    """Bound a product of matrices: of their middles, give or take what is left, and the rounding of its sums."""
    if first.low.dtype != second.low.dtype or not is_real(second):
        return unbounded(step.avals[0])
    dtype, ((axes, _), _) = step.avals[0].dtype, step.params["dimension_numbers"]
    params = step.params | {"precision": (lax.Precision.HIGHEST,) * 2, "preferred_element_type": dtype}

    def product(a: Any, b: Any) -> Any:
        return step.primitive.bind(a, b, **params)

    (one, spread), (other, reach) = (_middle(box) for box in (first, second))
    terms = int(np.prod([first.low.shape[axis] for axis in axes], initial=1)) + 8
    size = product(jnp.abs(one) + spread, jnp.abs(other) + reach)
    # Twice Higham's gamma, for the kernel and for the middle, and the rounding of what is left.
    error = 2 * terms * float(jnp.finfo(dtype).eps) * size
    left = product(spread, jnp.abs(other) + reach) + product(jnp.abs(one), reach) + error
    middle = product(one, other)
    return outward(sane(middle - left, middle + left), _SUM)


def _middle(box: Box) -> tuple[Any, Any]:
    """Return a number and how far a value may lie from it."""
    if box.is_point:
        return box.low, jnp.zeros_like(box.low)
    half = np.asarray(0.5, box.low.dtype)
    middle = half * box.low + half * box.high
    away = jnp.maximum(box.high - middle, middle - box.low)
    return middle, away * np.asarray(1 + 2 * float(jnp.finfo(away.dtype).eps), away.dtype)
