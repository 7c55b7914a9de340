"""An interval of numbers, integers or truths, as the rules of primitives see it.

A box whose ends are NaN has no bound: the number may be anything, NaN too. NaN passes through all arithmetic, so that
one unbounded operand is enough. Integers and truths without a bound have all that there are. False comes before true.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array


@dataclass(frozen=True, eq=False)
class Box:
    """Two ends with every value between them.

    Attributes:
        low: at most the value; None for a dtype without an order, about which nothing is said.
        high: at least the value.
        is_point: that both ends are the same is known before anything runs.
    """

    low: Any
    high: Any
    is_point: bool = False


def point(array: Any) -> Box:
    """Return the box of one value."""
    return Box(array, array, is_point=True)


def has_order(dtype: Any) -> bool:
    """Tell whether a dtype has intervals: numbers, integers and truths."""
    if jnp.issubdtype(dtype, jax.dtypes.extended):
        return False
    return any(jnp.issubdtype(dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_))


def is_real(box: Box) -> bool:
    """Tell whether a box is one of floating numbers."""
    return jnp.issubdtype(box.low.dtype, jnp.floating)


def is_truth(box: Box) -> bool:
    """Tell whether a box is one of truths."""
    return box.low.dtype == jnp.bool_


def limits(dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and the largest value of a dtype."""
    if dtype == jnp.bool_:
        return np.asarray(False), np.asarray(True)
    if jnp.issubdtype(dtype, jnp.floating):
        return np.asarray(-np.inf, dtype), np.asarray(np.inf, dtype)
    info = jnp.iinfo(dtype)
    return np.asarray(info.min, dtype), np.asarray(info.max, dtype)


def unbounded(aval: Any) -> Box:
    """Return the box that says nothing."""
    if not has_order(aval.dtype):
        return Box(None, None)
    low, high = limits(aval.dtype)
    if jnp.issubdtype(aval.dtype, jnp.floating):
        low = high = np.asarray(np.nan, aval.dtype)
    return Box(jnp.full(aval.shape, low), jnp.full(aval.shape, high))


def unless(bad: Array, box: Box) -> Box:
    """Return a box without a bound where something is bad."""
    low, high = limits(box.low.dtype)
    if is_real(box):
        low = high = np.asarray(np.nan, box.low.dtype)
    return Box(jnp.where(bad, low, box.low), jnp.where(bad, high, box.high))


def sane(low: Array, high: Array) -> Box:
    """Return the box of two ends, without a bound where one of them has none."""
    bad = jnp.isnan(low) | jnp.isnan(high)
    return Box(jnp.where(bad, jnp.nan, low), jnp.where(bad, jnp.nan, high))


def around(*values: Array) -> Box:
    """Return the least box of some values."""
    return Box(reduce(jnp.minimum, values), reduce(jnp.maximum, values))


def has_zero(box: Box) -> Array:
    """Tell where zero lies in a box."""
    return (box.low <= 0) & (box.high >= 0)


def outward(box: Box, units: float) -> Box:
    """Widen a box of numbers by units in the last place, each end away from the other.

    No end passes zero, which rounding never does. Numbers below the least normal one count as zeros, as devices may
    take them; numbers above the largest count as infinite.
    """
    if not units:
        return box
    info = jnp.finfo(box.low.dtype)
    zero, tiny, less, more = (
        np.asarray(number, box.low.dtype)
        for number in (0, info.smallest_normal, 1 - units * float(info.eps), 1 + units * float(info.eps))
    )
    low = box.low * jnp.where(box.low >= 0, less, more) - tiny
    high = box.high * jnp.where(box.high <= 0, less, more) + tiny
    return Box(
        jnp.where(box.low >= 0, jnp.maximum(low, zero), low), jnp.where(box.high <= 0, jnp.minimum(high, zero), high)
    )


def meet(box: Box, fact: Box) -> Box:
    """Return what is left of a box when a fact about its value is known; a fact of NaN says nothing."""
    if is_truth(box):
        return Box(box.low | fact.low, box.high & fact.high)
    low, high = jnp.maximum(box.low, fact.low), jnp.minimum(box.high, fact.high)
    if not is_real(box):
        return Box(low, high)
    return Box(jnp.where(jnp.isnan(fact.low), box.low, low), jnp.where(jnp.isnan(fact.high), box.high, high))


def known(box: Box) -> np.ndarray | None:
    """Return the one number of a box where it is known while JAX traces."""
    return box.low if box.is_point and isinstance(box.low, np.ndarray) and not box.low.shape else None
