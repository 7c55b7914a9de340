"""A soft cap without a tangent: a polynomial near zero, and the peaks of rows for which it is as good.

    c tanh(s / c) = s (p_0 + p_1 s^2 + ...)    for |s| <= r, to 2^-12

It grows without end, so that a score beyond r is far above its row's peak, and its weight is infinite in 16 bits: a row
says so, as rows do whose scores are led by too small a number. Below -r both weights are next to nothing. Which rows
may have neither is told by the peak alone.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from .modify import Modifier

# Of exponents, half of what weights of float16 are rounded by; of a row's sum, by weights that are next to nothing.
ERROR = 2.0**-12
# An exponent of 2 from which on a weight of float16 is infinite.
_OVERFLOW = 16.1
# How many terms; of an odd number of them the last one is positive, and the sum grows without end.
_TERMS = (3, 5)
# Peaks of rows, in nats, that differ less leave most rows out.
_LEAST_ROOM = 10.0
# Factors that numbers of f32 hold well, whatever a score of 16-bit rows is.
_HELD = 1e-30, 1e10
_NODES, _HALVINGS, _FARTHEST = 4001, 40, 2.0


class Near(NamedTuple):
    """What stands for the modifier of a plan in a row whose peak is in a range.

    Attributes:
        modifier: scores of scale 1, in nats, to what they are with their scale, in units of log 2.
        low: the least peak, in units of log 2.
        high: the largest.
    """

    modifier: Modifier
    low: float
    high: float


class Odd(NamedTuple):
    """An odd polynomial in place of a soft cap, in units of log 2.

    Attributes:
        factors: of s, s^3 and so on; s has scale 1.
        low: the least peak of a row for which it is good.
        high: the largest.
    """

    factors: tuple[float, ...]
    low: float
    high: float


@lru_cache(maxsize=64)
def odd_cap(cap: float, scale: float, keys: int) -> Odd | None:
    """Return the shortest polynomial in place of a cap of scores, that have a scale; None where few rows could have it.

    Error: of a score by ``ERROR`` nats within reach, of a row's sum by as much of it for keys far below.
    """
    unit = math.log(2)
    for terms in _TERMS:
        reach = _reach(cap, terms)
        factors = _fit(terms, reach)
        most = (cap * math.tanh(reach) - ERROR) / unit
        low, high = math.log2(max(keys, 1)) - math.log2(ERROR) - most, most - _OVERFLOW
        scaled = tuple(float(each) * scale * (scale / cap) ** (2 * power) / unit for power, each in enumerate(factors))
        is_held = all(_HELD[0] < abs(each) < _HELD[1] for each in scaled)
        if is_held and _grows(factors) and (high - low) * unit >= _LEAST_ROOM:
            return Odd(scaled, low, high)
    return None


def _reach(cap: float, terms: int) -> float:
    """Return up to which s / cap the polynomial for it is off by no more than the error."""
    low, high = 0.0, _FARTHEST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        x = np.linspace(0, middle, _NODES)
        error = np.max(np.abs(x * np.polynomial.polynomial.polyval(x * x, _fit(terms, middle)) - np.tanh(x)))
        low, high = (middle, high) if cap * error <= ERROR else (low, middle)
    return low


def _fit(terms: int, reach: float) -> np.ndarray:
    """Return factors of x, x^3 and so on for tanh, whose error has one size where Chebyshev's polynomial is largest."""
    places, powers = np.cos(np.pi * np.arange(terms + 1) / (2 * terms + 1)), 2 * np.arange(terms) + 1
    columns = np.column_stack([places[:, None] ** powers, (-1.0) ** np.arange(terms + 1)])
    return np.linalg.solve(columns, np.tanh(reach * places))[:terms] / reach**powers


def _grows(factors: np.ndarray) -> bool:
    """Tell whether a polynomial never falls: its derivative, in squares, has no root above zero."""
    slopes = factors * (2 * np.arange(len(factors)) + 1)
    roots = np.roots(slopes[::-1])
    return slopes[-1] > 0 and not np.any((np.abs(roots.imag) < 1e-9) & (roots.real > 0))
