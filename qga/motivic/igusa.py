"""Integrals over the p-adic integers on a tree of digits, summed by the same measure as the masses of tiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..errors import DomainError, OptionError, refuse
from .measure import measure


@dataclass(frozen=True)
class DigitTree:
    """The balls of the p-adic integers on which |f| is known, by their depth; static structure in exact integers.

    Attributes:
        prime: p.
        closed: entry d counts the balls of measure p^-(d+1) on which |f| = p^-d everywhere.
        open: how many balls of measure p^-depth are left, on which |f| <= p^-depth.
    """

    prime: int
    closed: tuple[int, ...]
    open: int


class DigitIntegral(NamedTuple):
    """An integral and what deeper digits can add.

    Attributes:
        value: the sum over the closed balls, a lower bound.
        tail: the most the open balls can hold; the integral is at most value + tail.
    """

    value: Float[Array, ""]
    tail: Float[Array, ""]


def digit_tree(polynomial: Sequence[int], prime: int, *, depth: int) -> DigitTree:
    """Cut the p-adic integers digit by digit, until |f| is constant on a ball. Runs on the host; not traceable.

    Where f(a) is no multiple of p^(d+1), the ball a + p^(d+1) Z_p has one value of |f| and is closed; the other balls
    are cut into p again. The open balls of depth d are the roots of f modulo p^d.

    Args:
        polynomial: integer coefficients, the constant first.
        prime: p.
        depth: digits, at least 0.

    Raises:
        DomainError: ``prime`` is no prime.
        OptionError: ``depth`` is negative.

    Cost: as many steps as there are roots modulo p^d for d up to the depth, p^depth at worst.

    Example:
        >>> digit_tree([0, 0, 1], 2, depth=4)
        DigitTree(prime=2, closed=(1, 0, 2, 0), open=4)
    """
    if prime < 2 or any(prime % factor == 0 for factor in range(2, math.isqrt(prime) + 1)):
        refuse(
            DomainError,
            "digit_tree: digits are those of a prime.",
            got=f"prime={prime}",
            want="2, 3, 5, 7, ...",
            fix="use 2, the prime of floating-point numbers.",
        )
    if depth < 0:
        refuse(
            OptionError,
            "digit_tree: digits are counted from zero.",
            got=f"depth={depth}",
            want="depth >= 0",
            fix="raise depth.",
        )
    closed, roots = [], [0]
    for digit in range(depth):
        modulus = prime**digit
        children = [root + modulus * value for root in roots for value in range(prime)]
        roots = [child for child in children if _evaluate(polynomial, child) % (modulus * prime) == 0]
        closed.append(len(children) - len(roots))
    return DigitTree(prime, tuple(closed), len(roots))


def igusa(polynomial: Sequence[int], prime: int, exponent: float | Float[Array, ""], *, depth: int) -> DigitIntegral:
    """Integrate |f|^s over the p-adic integers: the local zeta function of a polynomial.

    int |f(x)|^s dx = sum over closed balls p^-(d+1) p^(-d s),  for f = x^n equal to (1 - 1/p) / (1 - p^(-1 - n s))

    The tree is cut on the host, exactly. Its balls are tiles with scores -(d+1) log p - d s log p, and their masses
    are added by ``qga.motivic.measure``, as those of tiles of keys are: an integral over digits is one more use of
    the additive law, with a closed form to hold it against.

    Args:
        polynomial: integer coefficients, the constant first.
        prime: p.
        exponent: s, at least 0; may be traced, and NaN comes out where it is negative.
        depth: digits, at least 0. Each adds a factor of p^-(s + 1/n) or so to the tail, n the order of the root.

    Returns:
        A lower bound, and what the balls of the last depth can add: open p^(-depth (1 + s)).

    Raises:
        DomainError: ``prime`` is no prime, or ``exponent`` is negative (checked when it is a plain number).
        OptionError: ``depth`` is negative.

    Error: a few eps of the value, besides the tail.
    Cost: that of ``digit_tree``, then one number for each digit.
    Source: Igusa 1974; Denef 1991.

    Example:
        >>> round(float(igusa([0, 0, 1], 2, 1.0, depth=16).value), 5) == round(4 / 7, 5)
        True
    """
    if isinstance(exponent, int | float) and not exponent >= 0:
        refuse(
            DomainError,
            "igusa: the tail is bounded for exponents of zero or more.",
            got=f"exponent={exponent}",
            want="exponent >= 0",
            fix="use the closed form where the integral still converges.",
        )
    tree = digit_tree(polynomial, prime, depth=depth)
    exponent = jnp.asarray(exponent, jnp.result_type(float) if isinstance(exponent, int | float) else exponent.dtype)
    exponent = jnp.where(exponent >= 0, exponent, jnp.nan)
    unit = math.log(prime)
    masses = [_log(count) - (digit + 1) * unit for digit, count in enumerate(tree.closed)]
    slopes = [digit * unit for digit in range(depth)]
    value = measure(jnp.asarray(masses, exponent.dtype) - exponent * jnp.asarray(slopes, exponent.dtype))
    tail = _log(tree.open) - depth * unit - exponent * depth * unit
    return DigitIntegral(jnp.exp(value), jnp.exp(tail))


def _log(count: int) -> float:
    return math.log(count) if count else -math.inf


def _evaluate(polynomial: Sequence[int], place: int) -> int:
    value = 0
    for coefficient in reversed(polynomial):
        value = value * place + coefficient
    return value
