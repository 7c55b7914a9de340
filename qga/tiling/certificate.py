"""Certificates: how far an approximate softmax can be from the exact one, said together with the result."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..errors import OptionError, refuse
from .audit import Audited

Numbers = Float[Array, "*batch"]


class Certificate(NamedTuple):
    """Upper bounds of the errors of an approximate attention row, true whatever the keys are.

    Attributes:
        kl: of KL(approximate || exact), in nats.
        total_variation: of half the sum of |approximate - exact| over the keys.
        skipped: of the exact weight of the keys that were left out, whatever was rounded.
        out_error: of the length of the output's error, in the unit of the values.
        value_scale: root mean square length of the values, the unit of ``relative_error``.
        tiles_exact: tiles whose keys were scored.
        tiles_half: tiles whose keys were scored in one product of 16-bit numbers that stand for wider ones, or that
            were read in the high plane of their bits.
        tiles_coarse: tiles that were replaced by one mean key.
        tiles_skipped: tiles that were left out; those in which a query sees no key among them where ``tiles_hidden``
            is None.
        sound: the bounds are finite and ``total_variation`` is at most what was promised. False where rounding may
            exceed the promise, as it does for numbers that are too large or not numbers at all; the bounds hold still,
            and a wider dtype makes them smaller. Of a cache in planes, ``relative_error`` is what was promised.
        tiles_mixed: tiles of which both planes of the keys and the high plane of the values were read; None where rows
            lie in no planes.
        bytes_read: of keys and values, by all queries of a tile, or of a cache, by all that share its head; None where
            nobody counts them, here and below.
        tiles_split: tiles whose keys were scored in three products of 16-bit numbers.
        tiles_hidden: tiles in which no query of the tile sees a key: no work for anybody.
        tiles_extra: tiles that were scored besides: for the plan, or for a result that an audit threw away.
        bytes_exact: that exact attention reads, of the same keys and values by the same queries.
        flops: of the products of rows and of weights and values, whatever was scored besides among them.
        flops_exact: of exact attention.
        audit: what an audit found; None where nobody asked for one.
    """

    kl: Numbers
    total_variation: Numbers
    skipped: Numbers
    out_error: Numbers
    value_scale: Numbers
    tiles_exact: Int[Array, "*batch"]
    tiles_half: Int[Array, "*batch"]
    tiles_coarse: Int[Array, "*batch"]
    tiles_skipped: Int[Array, "*batch"]
    sound: Bool[Array, "*batch"]
    tiles_mixed: Int[Array, "*batch"] | None = None
    bytes_read: Int[Array, "*batch"] | Numbers | None = None
    tiles_split: Int[Array, "*batch"] | None = None
    tiles_hidden: Int[Array, "*batch"] | None = None
    tiles_extra: Int[Array, "*batch"] | None = None
    bytes_exact: Numbers | None = None
    flops: Numbers | None = None
    flops_exact: Numbers | None = None
    audit: Audited | None = None

    @property
    def relative_error(self) -> Numbers:
        """Bound of the length of the output's error, in root mean square lengths of values; infinite if these are 0."""
        return jnp.where(self.value_scale > 0, self.out_error / self.value_scale, jnp.inf)

    @property
    def saved(self) -> Numbers:
        """Share of the tiles that were not scored: what was scored besides for a plan is not in it."""
        scored = self.tiles_exact + self.tiles_half
        for others in (self.tiles_mixed, self.tiles_split):
            scored = scored if others is None else scored + others
        return 1 - scored / jnp.maximum(scored + self.tiles_coarse + self.tiles_skipped, 1)

    @property
    def flops_saved(self) -> Numbers | None:
        """Share of the operations of exact attention that was saved; below 0 where a plan cost more than it saved."""
        return _saved(self.flops, self.flops_exact)

    @property
    def bytes_saved(self) -> Numbers | None:
        """Share of the bytes of keys and values that was saved."""
        return _saved(self.bytes_read, self.bytes_exact)


def _saved(done: Numbers | None, exact: Numbers | None) -> Numbers | None:
    return None if done is None or exact is None else jnp.where(exact > 0, 1 - done / jnp.where(exact > 0, exact, 1), 0)


class Distances(NamedTuple):
    """Bounds of the distance of two distributions p and r.

    Attributes:
        total_variation: at least half the sum of |p - r|.
        affinity_squared: at most (sum sqrt(p r))^2, the fidelity of the amplitudes sqrt p and sqrt r.
        kl: at least the relative entropy, in nats.
    """

    total_variation: Numbers
    affinity_squared: Numbers
    kl: Numbers


def perturbation_bounds(oscillation: Numbers) -> Distances:
    """Bound what a change of scores does to a softmax: r_j proportional to p_j e^(eta_j), D = max eta - min eta.

    TV <= tanh(D / 4),   affinity^2 >= 1 / cosh^2(D / 4),   KL <= D^2 / 8 in either direction

    The first two are reached by laws on two points, for every D; the third as D goes to zero. One ledger holds every
    reason why a score is off: coarse tiles, quantised keys, rounding.

    Args:
        oscillation: D, in nats, zero or more.

    Source: Hoeffding 1963 (KL); Cassels (affinity); Birkhoff 1957, Cohen and Fausti 2023 (total variation).
    """
    distance = jnp.tanh(oscillation / 4)
    return Distances(distance, 1 - jnp.square(distance), jnp.square(oscillation) / 8)


def skip_distances(skipped: Numbers) -> Distances:
    """Say what leaving out keys of total weight delta does to a softmax: equalities, not bounds.

    TV = delta,   affinity^2 = 1 - delta,   KL(kept || all) = -log(1 - delta)

    The output moves by delta (mean of the skipped values - mean of the kept ones).

    Args:
        skipped: delta, from 0 to below 1.
    """
    return Distances(skipped, 1 - skipped, -jnp.log1p(-skipped))


def entropy_floor(keys: int, oscillation: Numbers) -> Numbers:
    """Bound the entropy of a softmax row from below: H >= log(keys) - D^2 / 8 for scores in an interval of length D.

    log n - H is the relative entropy to equal weights, so this is ``perturbation_bounds`` of them. Scores of fidelity
    lie in [0, beta]: their rows cannot collapse before beta^2 / 8 reaches log n.

    Args:
        keys: how many the row looks at, at least 1.
        oscillation: D, in nats.

    Returns:
        In nats; negative where the bound says nothing.

    Raises:
        OptionError: ``keys`` is below 1.

    Example:
        >>> round(float(entropy_floor(1024, jnp.asarray(2.0))), 3)
        6.431
    """
    if keys < 1:
        refuse(
            OptionError, "entropy_floor: a row looks at a key.", got=f"keys={keys}", want="keys >= 1", fix="raise keys."
        )
    return math.log(keys) - jnp.square(oscillation) / 8


def mixture_bounds(
    log_kept: Numbers, log_gap: Numbers, log_skipped: Numbers, *, oscillation: Numbers | float = 0.0
) -> Distances:
    """Bound how far a mixture of exact, coarse and skipped tiles is from the exact softmax.

    KL(mixture || exact) = log(Z / Z'),   Z' = sum_exact e^s + sum_coarse |T| e^(mean score)

    is an identity (Gibbs and Bogoliubov), so Z <= Z' + gap + skipped is a certificate. What the mixture rounds by D is
    a third side of a right triangle: KL grows by D^2 / 8 at most. From KL follow

    TV <= sqrt(KL / 2),   TV <= sqrt(1 - e^(-KL)),   affinity^2 >= e^(-KL)

    and with the skipped weight apart, TV <= delta + sqrt(KL of the kept tiles / 2).

    Args:
        log_kept: log of a lower bound of Z'.
        log_gap: log of an upper bound of sum_coarse (Z_T - |T| e^(mean score)); minus infinity for none.
        log_skipped: log of an upper bound of sum_skipped Z_T; minus infinity for none.
        oscillation: D, of the rounding of exponents.

    Returns:
        Bounds in [0, 1], [0, 1] and [0, inf]; NaN where nothing is kept. From the gap and not from two partition sums,
        so that a small KL keeps its digits.

    Source: Bretagnolle and Huber 1979; Pinsker; theory of this project.
    """
    eps = jnp.finfo(log_kept.dtype).eps
    rounding = jnp.square(jnp.asarray(oscillation, log_kept.dtype)) / 8
    gap, skipped = (jnp.exp(log - log_kept + _raised(log_kept)) for log in (log_gap, log_skipped))
    kl = jnp.log1p(gap + skipped) + rounding
    apart = skipped_weight(log_kept, log_skipped) + jnp.sqrt((jnp.log1p(gap) + rounding) / 2)
    together = jnp.minimum(jnp.sqrt(kl / 2), jnp.sqrt(-jnp.expm1(-kl)))
    distance = jnp.minimum((1 + 8 * eps) * jnp.minimum(together, apart), 1)
    return Distances(distance, jnp.exp(-kl) * (1 - 8 * eps), kl)


def skipped_weight(log_kept: Numbers, log_skipped: Numbers) -> Numbers:
    """Bound the weight delta of skipped keys: skipped / (skipped + kept), from the logs of both sums."""
    return 1 / (1 + jnp.exp(log_kept - log_skipped - _raised(log_kept)))


def rounding_oscillation(slack: Float[Array, "*batch tiles"]) -> Numbers:
    """Bound D of ``perturbation_bounds`` for a softmax whose scores are rounded, then exponentiated.

    D = 2 (max slack + xi),  xi = (3 + 2 x) eps + x eps for exponents down to x = log(smallest number)

    Args:
        slack: of the scores of each tile, as in ``MassBounds``; zero for tiles that are not looked at.

    Source: Higham 2002; the Vulkan specification for the error of exp.
    """
    return 2 * (jnp.max(slack, axis=-1) + rounding_of_exp(slack.dtype))


def rounding_of_exp(dtype: jnp.dtype) -> float:
    """Bound the relative rounding of an exponential and of its argument, down to the smallest number."""
    info = jnp.finfo(dtype)
    deepest = -math.log(float(info.tiny))
    return (3 + 3 * deepest) * float(info.eps)


def _raised(log_kept: Numbers) -> Numbers:
    """Bound the rounding of the difference of two logs: eps of their size, and a few eps for what follows."""
    return 8 * jnp.finfo(log_kept.dtype).eps * (4 + jnp.abs(log_kept))
