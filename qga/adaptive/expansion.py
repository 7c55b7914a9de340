"""The exponential of an inner product as a sum of products: e^(x a.b) for vectors of length up to 1."""

from __future__ import annotations

import math
from functools import cache
from itertools import combinations_with_replacement
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# Orders and numbers of terms that are tried, and beyond which length of exponents no expansion is tried at all.
_MOST_ORDER, _MOST_TERMS, _LONGEST = 6, 64, 3.0
# Terms of the series of a Bessel function up to that length; what is left out is below the rounding of float64.
_BESSEL_TERMS = 13
# Orders whose cost is this near to the best one are as good, and the lowest of them rounds least.
_NEARLY = 1.1


class Expansion(NamedTuple):
    """The monomials up to an order: e^(x a.b) = sum_m c_|m|(x) (|m|! / m!) a^m b^m, with a relative error.

    Attributes:
        order: largest degree.
        axes: of each monomial, the axes that it multiplies.
        counts: |m|! / m! of each monomial.
    """

    order: int
    axes: tuple[tuple[int, ...], ...]
    counts: tuple[int, ...]

    @property
    def terms(self) -> int:
        """How many monomials there are."""
        return len(self.axes)


@cache
def expansion(width: int, order: int) -> Expansion:
    """List the monomials of vectors up to an order."""
    axes = [each for degree in range(order + 1) for each in combinations_with_replacement(range(width), degree)]
    counts = [
        math.factorial(len(each)) // math.prod(math.factorial(each.count(axis)) for axis in set(each)) for each in axes
    ]
    return Expansion(order, tuple(axes), tuple(counts))


@cache
def best_order(width: int, error: float) -> int:
    """Return the order whose expansions cost least over points of a space of this many dimensions.

    Tiles that are short enough number as x^(-width / 2), and each of them costs its terms.
    """

    def price(order: int) -> float:
        low, high = 0.0, _LONGEST
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if truncation(middle, order) <= error else (low, middle)
        return math.comb(width + order, order) * low ** (-width / 2)

    orders = [order for order in range(_MOST_ORDER + 1) if order == 0 or math.comb(width + order, order) <= _MOST_TERMS]
    prices = [price(order) for order in orders]
    return next(order for order, each in zip(orders, prices, strict=True) if each <= _NEARLY * min(prices))


def truncation(length: float, order: int) -> float:
    """Bound the relative error of an expansion, as ``truncation_error`` does, of one number."""
    first = (length / 2) ** (order + 1) / math.factorial(order + 1)
    return 2 * first * math.exp(length**2 / (4 * (order + 2)) + length) / (1 - length / (2 * (order + 2)))


def truncation_error(length: Float[Array, "*pairs"], order: int) -> Float[Array, "*pairs"]:
    """Bound the relative error of e^y by its Chebyshev series up to an order, |y| <= length.

    2 sum_(k > p) I_k(x) e^x,   I_k(x) <= (x / 2)^k / k! e^(x^2 / (4 k + 4))

    Args:
        length: x.
        order: p.

    Returns:
        Infinite beyond the lengths for which expansions are tried.

    Source: Trefethen 2013 (truncation of Chebyshev series).
    """
    short = jnp.minimum(length, _LONGEST)
    first = (short / 2) ** (order + 1) / math.factorial(order + 1)
    found = 2 * first * jnp.exp(short**2 / (4 * (order + 2)) + short) / (1 - short / (2 * (order + 2)))
    return jnp.where(length <= _LONGEST, found, jnp.inf)


def coefficients(length: Float[Array, "*pairs"], order: int) -> Float[Array, "*pairs degrees"]:
    """Return c of e^(x t) = sum_k c_k t^k, -1 <= t <= 1: its Chebyshev series up to an order, in powers of t.

    Args:
        length: x.
        order: how many powers there are, without the zeroth.
    """
    half = jnp.minimum(length, _LONGEST)[..., None] / 2
    found = jnp.zeros((*length.shape, order + 1), length.dtype)
    for row in _powers(order)[::-1]:
        found = found * half + jnp.broadcast_to(jnp.asarray(row, length.dtype), found.shape)
    return found


@cache
def _powers(order: int) -> np.ndarray:
    """Return the coefficients as polynomials of x / 2, from the series of the Bessel functions I_k."""
    rows = np.zeros((2 * _BESSEL_TERMS + order, order + 1))
    for degree in range(order + 1):
        polynomial = np.polynomial.chebyshev.cheb2poly(np.eye(order + 1)[degree])
        for step in range(_BESSEL_TERMS):
            share = (1 + (degree > 0)) / (math.factorial(step) * math.factorial(step + degree))
            rows[2 * step + degree, : degree + 1] += share * polynomial[: degree + 1]
    return rows


def monomials(vectors: Float[Array, "*batch width"], known: Expansion) -> Float[Array, "*batch terms"]:
    """Raise vectors to every power of an expansion."""
    found: dict[tuple[int, ...], Array] = {(): jnp.ones_like(vectors[..., 0])}
    for axes in known.axes[1:]:
        found[axes] = found[axes[:-1]] * vectors[..., axes[-1]]
    return jnp.stack([found[axes] for axes in known.axes], axis=-1)
