"""Heat flow of a row-stochastic operator by uniformisation, with a bound of what was cut off."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from ..errors import DomainError, OptionError, refuse
from ..exact import DEFAULT_TILE, attention_pass, dot_attention, fidelity_attention

# Terms of the Poisson tail summed before the geometric remainder; by then the ratio of terms is small.
_TAIL_TERMS = 32

Field = Float[Array, "*batch rows channels"]
Time = float | Float[Array, ""]


def heat(operator: Callable[[Field], Field], field: Field, time: Time, *, order: int) -> tuple[Field, Float[Array, ""]]:
    """Let a field flow for some time along a row-stochastic operator P.

    H_t f = e^(-t (I - P)) f = sum_m Pois(m; t) P^m f,  cut at m = order and renormalised

    P is never formed: each of the ``order`` passes applies ``operator`` once. The cut sum is a convex combination of
    powers of P, so rows still sum to one, positive fields stay positive and nothing leaves the range of the field.

    Args:
        operator: f -> P f, linear with rows that sum to one, such as attention as a function of its values.
        field: f, one row for each place.
        time: t, dimensionless, at least 0; 0 is the identity; as it grows, and the order with it, rows
            tend to stationary means.
        order: K, how many passes; ``order_for`` chooses it.

    Returns:
        The field at time t, and Pr[Pois(t) > order]: an upper bound of the total variation between the computed and
        the exact row of H_t. The error of an output row is at most this times the diameter of the field's rows.

    Raises:
        OptionError: ``order`` is negative.
        DomainError: ``time`` is negative (checked when it is a plain number).

    Source: Jensen 1953 (uniformisation).
    """
    _check(time, order)
    time = jnp.asarray(time, field.dtype)
    weights = poisson_weights(time, order)
    return _add_powers(operator, field, weights[0] * field, weights[1:]), poisson_tail(time, order)


def _add_powers(
    operator: Callable[[Field], Field], term: Field, total: Field, weights: Float[Array, " terms"]
) -> Field:
    """Add to a sum of powers of P the next ones, where ``term`` is the last."""

    def step(carry: tuple[Field, Field], weight: Array) -> tuple[tuple[Field, Field], None]:
        term, total = carry
        term = operator(term)
        return (term, total + weight * term), None

    return lax.scan(step, (term, total), weights)[0][1]


def pattern_flow(
    queries: Float[Array, "*batch rows width"],
    keys: Float[Array, "*batch rows width"],
    field: Field,
    time: Time,
    *,
    order: int,
    metric: Literal["dot", "fidelity"] = "dot",
    scale: float | Float[Array, "*#batch"] | None = None,
    mask: Bool[Array, "*#batch #rows #rows"] | None = None,
    is_causal: bool = False,
    tile: int = DEFAULT_TILE,
) -> tuple[Field, Float[Array, ""]]:
    """Let a field flow along the attention of its own places, one tiled attention pass for each power.

    The first pass finds the log sum of each row; the others follow no maximum.

    Args:
        queries: one row for each place.
        keys: one row for each place.
        field: what flows.
        time: dimensionless, at least 0. Under a causal mask the first place absorbs: as time grows, every row
            converges to the first row of the field.
        order: how many passes; ``order_for`` chooses it.
        metric: ``dot`` for ``dot_attention``, ``fidelity`` for ``fidelity_attention``.
        scale: inverse temperature; 1 / sqrt(width) by default for ``dot``, required for ``fidelity``.
        mask: True where a place may see another. Every place must see one, or the operator is not stochastic and
            the bound does not hold.
        is_causal: let place i see places 0 to i only.
        tile: places scored at a time, at most.

    Returns:
        As ``heat``.

    Raises:
        OptionError: ``fidelity`` without a scale, or an option of ``heat`` or of the attention.
        DomainError: ``time`` is negative (checked when it is a plain number).
        ShapeError: shapes do not fit together.
    """
    if metric == "fidelity":
        if scale is None:
            refuse(
                OptionError,
                "pattern_flow: the fidelity score has no natural scale.",
                got="scale=None",
                want="the inverse temperature beta",
                fix="pass scale; a multiple of log(rows) is a good start.",
            )
        attend = partial(fidelity_attention, beta=scale)
    else:
        attend = partial(dot_attention, scale=scale)
    _check(time, order)
    options = {"mask": mask, "is_causal": is_causal, "tile": tile}
    time = jnp.asarray(time, field.dtype)
    weights = poisson_weights(time, order)
    total, tail = weights[0] * field, poisson_tail(time, order)
    if order == 0:
        return total, tail
    # The first pass finds the log sums; the others know them.
    once, log_sums = attend(queries, keys, field, return_lse=True, **options)

    def operator(values: Field) -> Field:
        return attention_pass(queries, keys, values, log_sums, metric=metric, scale=scale, **options)

    return _add_powers(operator, once, total + weights[1] * once, weights[2:]), tail


def poisson_weights(time: Time, order: int) -> Float[Array, " terms"]:
    """Compute the Poisson probabilities 0 to ``order``, renormalised to sum to one.

    w_m = (t^m / m!) / sum_{k <= order} t^k / k!
    """
    time = jnp.asarray(time)
    # Powers below one and logarithms above: the first is smooth at zero, the second does not overflow.
    small = jnp.where(time < 1, time, 1)
    large = jnp.where(time < 1, 1, time)
    counts = np.arange(order + 1)
    powers = jnp.cumprod(jnp.concatenate([jnp.ones(1, time.dtype), small / jnp.asarray(counts[1:], time.dtype)]))
    exponents = jnp.asarray(counts, time.dtype) * jnp.log(large) - _log_factorials(counts, time.dtype)
    scaled = jnp.exp(exponents - lax.stop_gradient(jnp.max(exponents)))
    weights = jnp.where(time < 1, powers, scaled)
    return weights / jnp.sum(weights)


def poisson_tail(time: Time, order: int) -> Float[Array, ""]:
    """Bound Pr[Pois(time) > order] from above, tightly.

    The first terms are summed, the rest is bounded by a geometric series; the result is raised by the rounding of
    its own exponents, so that it stays an upper bound in floating point. One where the series does not converge yet.
    """
    time = jnp.asarray(time)
    counts = np.arange(order + 1, order + _TAIL_TERMS + 2)
    positive = jnp.where(time > 0, time, 1)
    exponents = jnp.asarray(counts, time.dtype) * jnp.log(positive) - positive - _log_factorials(counts, time.dtype)
    terms = jnp.where(time > 0, jnp.exp(exponents), 0)
    ratio = time / (order + _TAIL_TERMS + 2)
    remainder = terms[-1] / jnp.maximum(1 - ratio, jnp.finfo(time.dtype).eps)
    last = float(counts[-1])
    largest_exponent = last * (1 + jnp.log(jnp.maximum(positive, last)))
    slack = 1 + 4 * jnp.finfo(time.dtype).eps * largest_exponent
    # Terms too small for the dtype count as the smallest number, not as nothing.
    lost = jnp.where(time > 0, jnp.finfo(time.dtype).tiny, 0)
    bound = (jnp.sum(terms[:-1]) + remainder) * slack + lost
    return jnp.where(ratio < 1, jnp.minimum(bound, 1), 1).astype(time.dtype)


def order_for(time: float, tolerance: float = 1e-6) -> int:
    """Find the fewest passes whose cut-off is at most ``tolerance``; a plain number, so that it can be static.

    Args:
        time: dimensionless, from 0 to 700 (beyond, e^(-t) is no double; flow in several steps).
        tolerance: largest Pr[Pois(time) > order], above 1e-14.

    Raises:
        DomainError: an argument is out of range.

    Example:
        >>> order_for(1.0)
        9
    """
    if not 0 <= time <= 700 or not tolerance >= 1e-14:
        refuse(
            DomainError,
            "order_for: the Poisson tail cannot be summed in double precision.",
            got=f"time={time}, tolerance={tolerance}",
            want="0 <= time <= 700 and tolerance >= 1e-14",
            fix="flow in several shorter steps, or ask for less.",
        )
    term = math.exp(-time)
    reached, order = term, 0
    while 1 - reached > tolerance:
        order += 1
        term *= time / order
        reached += term
    return order


def _log_factorials(counts: np.ndarray, dtype: np.dtype) -> Array:
    return jnp.asarray([math.lgamma(count + 1) for count in counts], dtype)


def _check(time: Time, order: int) -> None:
    if order < 0:
        refuse(
            OptionError,
            "heat: passes are counted from zero.",
            got=f"order={order}",
            want="order >= 0",
            fix="raise order.",
        )
    if isinstance(time, int | float) and not time >= 0:
        refuse(
            DomainError,
            "heat: a flow runs forwards.",
            got=f"time={time}",
            want="time >= 0",
            fix="use a time of zero or more; heat flow has no inverse.",
        )
