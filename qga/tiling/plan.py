"""Plans: how well each tile is looked at, chosen from summaries so that the error stays below a promise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Int

from ..errors import OptionError, refuse
from .certificate import rounding_oscillation
from .cut import split
from .mass import MassBounds, Pairs, Queries, Scale, mass_bounds
from .summary import Summary

# Levels of the ladder of precision. Two and three are kept for keys stored in fewer bits, which come later.
SKIP, COARSE, EXACT = 0, 1, 4

# Halvings of the interval in which a threshold lies, until its ends are neighbours in float32 or nearly so.
_HALVINGS = 32


@dataclass(frozen=True)
class Fixed:
    """Look at every key, in tiles of equal length.

    Attributes:
        tile: keys of a tile, for who cuts them; None for the tiles of the kernels. ``qga.adaptive_attention`` counts
            its work in them: it takes multiples of its kernels' own.
    """

    tile: int | None = None


@dataclass(frozen=True)
class Certified:
    """Look at as little as a promise allows.

    Attributes:
        eps: largest total variation between the approximate and the exact row, above 0 and below 1.
        skip_share: part of ``eps`` that leaving tiles out may use, from 0 to below 1; the rest is for coarse tiles, or
            for products of fewer bits.
        products: of ``qga.adaptive_attention``: of the "given" numbers, or of float32 also of 16-bit ones that stand
            for them, "half": one product where the promise allows, else three; fast on matrix units.
        coarse: of ``qga.adaptive_attention``: whether a tile of keys may be one row for a tile of queries, what it
            answers to the mean of these. It pays where neighbouring rows are alike, of queries and of keys.
    """

    eps: float
    skip_share: float = 0.25
    products: Literal["given", "half"] = "given"
    coarse: bool = False


@dataclass(frozen=True)
class Budget:
    """Do a given amount of work, and certify what comes out: exactly one of the three.

    A whole number is an amount. A float above 0 and up to 1 is a share of what exact attention does for a head, so 1
    is one tile and 1.0 is all of them.

    Attributes:
        tiles: that are exact for a query, at most.
        bytes: of keys and values that the tiles of queries of a head read.
        flops: of the two products, of a head.
    """

    tiles: float | None = None
    bytes: float | None = None
    flops: float | None = None

    @property
    def amounts(self) -> dict[str, float]:
        """What is given, by name."""
        given = {"tiles": self.tiles, "bytes": self.bytes, "flops": self.flops}
        return {name: amount for name, amount in given.items() if amount is not None}


Resolution = Fixed | Certified | Budget


class Plan(NamedTuple):
    """What to do with each tile for each query.

    Attributes:
        level: ``SKIP``, ``COARSE`` or ``EXACT``.
        lower: of log Z_T, as in ``MassBounds``.
        upper: of log Z_T.
        promise: largest total variation that the plan was made for; 1 where nothing was promised.
    """

    level: Int[Array, "queries tiles"]
    lower: Pairs
    upper: Pairs
    promise: Float[Array, ""]


def plan(queries: Queries, summary: Summary, resolution: Resolution, *, scale: Scale, query_tile: int = 1) -> Plan:
    """Choose a level for each tile and query from summaries alone.

    Certified: the tiles with the largest gaps e^U - e^lambda are exact, as many as it takes until the gaps left are at
    most (e^K - 1) (1 - eps_skip) sum e^lambda, K = 2 (eps - eps_skip)^2; of the others, those with the least e^U are
    skipped while these sum to at most eps_skip sum e^lambda. Then TV <= eps_skip + sqrt(K / 2) = eps. Both thresholds
    are found by bisection, so nothing is sorted.
    Budget: the tiles with the largest gaps are exact, as many as it says, the others coarse. Fixed: all are exact.

    No speed-up follows: on keys without structure every tile is exact. Masks are not planned for yet.

    Args:
        queries: one row for each question.
        summary: of tiles of keys.
        resolution: what is wanted.
        scale: inverse temperature.
        query_tile: neighbouring queries that share a plan, the finest that any of them needs; raising a level never
            raises an error. At least 1.

    Returns:
        A plan without derivatives.

    Raises:
        OptionError: a number of ``resolution``, or ``query_tile``, is out of range.
        ShapeError: queries and summarised keys differ in width.

    Source: Breiman et al. 1984 for the greedy choice; theory of this project.
    """
    _check(resolution, query_tile)
    bounds = mass_bounds(queries, summary, scale=scale)
    level = jax.vmap(partial(_choose, resolution))(bounds)
    level = jnp.where(bounds.lower == -jnp.inf, SKIP, level)
    if query_tile > 1:
        level = _share(level, query_tile)
    promise = resolution.eps if isinstance(resolution, Certified) else 1.0
    return Plan(level, bounds.lower, bounds.upper, jnp.asarray(promise, bounds.lower.dtype))


def log_gap(bounds: MassBounds) -> Pairs:
    """Bound log(Z_T - e^(lambda_T)) from above: what a coarse tile may lack."""
    # e^lambda (e^kappa - 1): the slack of lambda multiplies the gap, where e^upper - e^lower would add it.
    return bounds.upper + jnp.log(-jnp.expm1(-bounds.excess))


def _choose(resolution: Resolution, bounds: MassBounds) -> Int[Array, " tiles"]:
    match resolution:
        case Fixed():
            return jnp.full(bounds.lower.shape, EXACT, jnp.int32)
        case Budget():
            gaps = log_gap(bounds)
            return jnp.where(gaps > _smallest_with(gaps, int(resolution.tiles or 0)), EXACT, COARSE)
        case Certified():
            return _certified(resolution, bounds)


def _certified(resolution: Certified, bounds: MassBounds) -> Int[Array, " tiles"]:
    skip_eps = jnp.asarray(resolution.skip_share * resolution.eps, bounds.lower.dtype)
    # Rounding is a side of a right triangle: it takes D^2 / 8 of the KL that coarse tiles may use.
    oscillation = rounding_oscillation(bounds.slack)
    kl = 2 * jnp.square(resolution.eps - skip_eps) - jnp.square(oscillation) / 8
    # Whoever follows the plan sums scores that may be rounded down.
    log_kept = logsumexp(bounds.lower) - oscillation
    room = jnp.where(kl > 0, jnp.log(jnp.expm1(jnp.maximum(kl, 0))), -jnp.inf) + log_kept + jnp.log1p(-skip_eps)
    gaps = log_gap(bounds)
    exact = gaps > largest_within(gaps, room)
    droppable = jnp.where(exact, jnp.inf, bounds.upper)
    skip = droppable <= largest_within(droppable, jnp.log(skip_eps) + log_kept)
    return jnp.where(exact, EXACT, jnp.where(skip, SKIP, COARSE))


def largest_within(logs: Float[Array, " tiles"], log_room: Float[Array, ""]) -> Float[Array, ""]:
    """Find the largest t with sum of e^log over all log <= t at most e^log_room, without sorting."""
    count = logs.shape[0]
    # Sums round too.
    room = 1 - 2 * count * jnp.finfo(logs.dtype).eps

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        fits = jnp.sum(jnp.exp(jnp.where(logs <= middle, logs - log_room, -jnp.inf))) <= room
        return jnp.where(fits, middle, low), jnp.where(fits, high, middle)

    # All of them fit below the lower end.
    start = log_room - math.log(count / room), log_room
    return lax.fori_loop(0, _HALVINGS, halve, start)[0]


def _smallest_with(gaps: Float[Array, " tiles"], most: int) -> Float[Array, ""]:
    """Find the smallest t that at most ``most`` gaps exceed, without sorting; equal gaps stay together."""

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        fits = jnp.sum((gaps > middle).astype(jnp.int32)) <= most
        return jnp.where(fits, low, middle), jnp.where(fits, middle, high)

    finite = gaps > -jnp.inf
    low, high = jnp.min(jnp.where(finite, gaps, jnp.inf)) - 1, jnp.max(gaps)
    return lax.fori_loop(0, _HALVINGS, halve, (low, high))[1]


def _share(level: Int[Array, "queries tiles"], query_tile: int) -> Int[Array, "queries tiles"]:
    rows = level.shape[0]
    finest = jnp.max(split(level, query_tile, SKIP)[0], axis=1)
    return jnp.repeat(finest, query_tile, axis=0, total_repeat_length=query_tile * len(finest))[:rows]


def _check(resolution: Resolution, query_tile: int) -> None:
    match resolution:
        case Fixed(tile):
            is_good, want = tile is None or tile >= 1, "tile >= 1 or None"
        case Certified(eps, share):
            is_good, want = 0 < eps < 1 and 0 <= share < 1, "0 < eps < 1 and 0 <= skip_share < 1"
        case Budget(tiles):
            # Summaries know neither bytes nor products, and who plans from them alone counts.
            is_good = len(resolution.amounts) == 1 and isinstance(tiles, int) and tiles >= 0
            want = "a whole number of tiles >= 0"
    if not is_good or query_tile < 1:
        refuse(
            OptionError,
            "plan: a resolution must be possible.",
            got=f"{resolution}, query_tile={query_tile}",
            want=f"{want}, query_tile >= 1",
            fix="choose numbers in range.",
        )
