"""Divisibility of integer codes by a prime: the tree of digits that they are the leaves of."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

from ..errors import OptionError, refuse


def valuation(codes: Int[Array, "*batch"], prime: int) -> Int[Array, "*batch"]:
    """Count how often a prime divides each code.

    v_p(x y) = v_p(x) + v_p(y),   v_p(x + y) >= min(v_p(x), v_p(y))

    Codes with the same lowest k digits form a ball of radius p^-k; balls are nested or disjoint: a tree. The 2-adic
    tree fixes low bits where the tiles of a quantiser fix high bits: the two are bit reversals of each other, the
    same tree with the same measure and not the same sets.

    Args:
        codes: of any integer dtype.
        prime: p, at least 2.

    Returns:
        v_p of each code; for a code of zero, which every power divides, the number of digits that the dtype holds.

    Raises:
        OptionError: ``prime`` is below 2 or does not fit the dtype.

    Source: Koblitz 1984.

    Example:
        >>> valuation(jnp.array([1, 12, -8, 0]), 2).tolist()
        [0, 2, 3, 31]
    """
    largest = int(jnp.iinfo(codes.dtype).max)
    if not 2 <= prime <= largest:
        refuse(
            OptionError,
            "valuation: digits are counted to a base from two to the largest code.",
            got=f"prime={prime}, codes {codes.dtype}",
            want=f"2 <= prime <= {largest}",
            fix="use a prime; wider codes hold larger ones.",
        )
    digits = 1
    # One more than the largest code: the smallest one of a signed dtype is a power of two.
    while prime ** (digits + 1) <= largest + 1:
        digits += 1

    def divide(_: int, state: tuple[Array, Array]) -> tuple[Array, Array]:
        rest, count = state
        divides = rest % prime == 0
        return jnp.where(divides, rest // prime, rest), count + divides.astype(count.dtype)

    return lax.fori_loop(0, digits, divide, (codes, jnp.zeros_like(codes)))[1]
