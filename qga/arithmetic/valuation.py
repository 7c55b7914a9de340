"""Digits of integer codes: how often a prime divides them, and the tree of digits that they are the leaves of."""

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
    same tree with the same measure and not the same sets (``reverse_digits``).

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


def reverse_digits(codes: Int[Array, "*batch"], base: int, *, digits: int) -> Int[Array, "*batch"]:
    """Read the lowest digits of each code backwards: sum_k c_k b^k -> sum_k c_k b^(digits - 1 - k).

    The map between the two trees of digits: codes that share their k lowest digits, a p-adic ball of radius p^-k, go
    to codes that share their k highest, an interval of b^(digits - k) neighbours. Of 0, 1, 2, ... to base 2 it makes
    the bit reversal order of fast Fourier transforms.

    Args:
        codes: of any integer dtype, from 0 to base^digits - 1; of others only the lowest digits are looked at.
        base: b, at least 2; a prime where the balls are p-adic.
        digits: how many are reversed, at least 0.

    Returns:
        Codes from 0 to base^digits - 1 of the same dtype. Reversing twice gives the codes back.

    Raises:
        OptionError: ``base`` is below 2, ``digits`` negative, or base or base^digits - 1 does not fit the dtype.

    Cost: digits steps over the codes.
    Source: Cooley and Tukey 1965; van der Corput 1935.

    Example:
        >>> reverse_digits(jnp.arange(8), 2, digits=3).tolist()
        [0, 4, 2, 6, 1, 5, 3, 7]
    """
    largest = int(jnp.iinfo(codes.dtype).max)
    if not 2 <= base <= largest or digits < 0 or base**digits - 1 > largest:
        refuse(
            OptionError,
            "reverse_digits: all numbers of that many digits must be codes.",
            got=f"base={base}, digits={digits}, codes {codes.dtype}",
            want=f"2 <= base <= {largest}, digits >= 0, base^digits - 1 <= {largest}",
            fix="reverse fewer digits, or use wider codes.",
        )

    def move(_: int, state: tuple[Array, Array]) -> tuple[Array, Array]:
        rest, reversed_ = state
        return rest // base, reversed_ * base + rest % base

    return lax.fori_loop(0, digits, move, (codes, jnp.zeros_like(codes)))[1]
