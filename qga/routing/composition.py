"""Attention maps as channels: composing them, rolling layers out, and how fast they forget."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ..errors import DomainError, OptionError, ShapeError, describe, refuse

Channel = Float[Array, "queries keys"]
Operator = Float[Array, "rows rows"]


class Stationary(NamedTuple):
    """A distribution that a walk keeps, as far as it was found.

    Attributes:
        law: the distribution over rows.
        residual: total variation between the law and the law after one more step.
    """

    law: Float[Array, " rows"]
    residual: Float[Array, ""]


def compose(first: Float[Array, "queries middle"], second: Float[Array, "middle keys"]) -> Channel:
    """Let a second layer look at what a first one looked at: the product of two row-stochastic maps.

    The composition of the Markov category of finite sets. Mutual information never grows under it (data processing).

    Raises:
        ShapeError: the maps do not meet.

    Source: Fritz 2020; Cover and Thomas 2006.
    """
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[0]:
        refuse(
            ShapeError,
            "compose: the keys of the first map must be the queries of the second.",
            got=f"first {describe(first)}, second {describe(second)}",
            want="[queries, middle] and [middle, keys]",
            fix="compose maps of one sequence, in the order in which they are applied to a row vector.",
        )
    return first @ second


def tensor(first: Channel, second: Float[Array, "queries keys"]) -> Float[Array, "query_pairs key_pairs"]:
    """Run two independent heads side by side: the Kronecker product of two row-stochastic maps, the first one slowest.

    Raises:
        ShapeError: one is no matrix.
    """
    if first.ndim != 2 or second.ndim != 2:
        refuse(
            ShapeError,
            "tensor: two maps, each from queries to keys.",
            got=f"first {describe(first)}, second {describe(second)}",
            want="[queries, keys] each",
            fix="map over further axes with jax.vmap.",
        )
    return jnp.kron(first, second)


def rollout(layers: Float[Array, "layers rows rows"], residual: float | Float[Array, ""] = 0.5) -> Operator:
    """Follow attention through layers with skip connections: prod_l (a I + (1 - a) P_l), the last layer leftmost.

    Args:
        layers: row-stochastic maps, first layer first.
        residual: a, the share of the skip connection, from 0 to 1.

    Returns:
        Row i: where what stands at place i after the last layer came from. A model of the network that leaves out
        values, multilayer perceptrons and norms.

    Raises:
        ShapeError: the maps are not square.
        DomainError: ``residual`` is outside of [0, 1] (checked when it is a plain number).

    Source: Abnar and Zuidema 2020.
    """
    if layers.ndim != 3 or layers.shape[1] != layers.shape[2]:
        refuse(
            ShapeError,
            "rollout: layers are square maps over the same rows.",
            got=describe(layers),
            want="[layers, rows, rows]",
            fix="average or pick the heads of each layer first.",
        )
    if isinstance(residual, float | int) and not 0 <= residual <= 1:
        refuse(
            DomainError,
            "rollout: the share of the skip connection is a fraction.",
            got=f"residual={residual}",
            want="0 <= residual <= 1",
            fix="use 0.5 for layers that add what they read.",
        )
    identity = jnp.eye(layers.shape[1], dtype=layers.dtype)

    def step(so_far: Operator, layer: Operator) -> tuple[Operator, None]:
        return (residual * identity + (1 - residual) * layer) @ so_far, None

    return lax.scan(step, identity, layers)[0]


def dobrushin(weights: Channel) -> Float[Array, ""]:
    """Measure how much of a difference between two queries' distributions survives one step at worst.

    delta(P) = max_ij |P_i - P_j|_1 / 2,   TV(mu P, nu P) <= delta(P) TV(mu, nu)

    Args:
        weights: P, row-stochastic.

    Returns:
        From 0 (all rows equal: everything is forgotten) to 1 (two rows without a common key). Submultiplicative.

    Raises:
        ShapeError: P is no matrix.

    Error: a few eps of sqrt(keys).
    Cost: queries^2 keys operations, memory of one copy of P.
    Source: Dobrushin 1956.

    Example:
        >>> float(dobrushin(jnp.array([[0.75, 0.25], [0.25, 0.75]])))
        0.5
    """
    check_channel("dobrushin", weights)
    farthest = lax.map(lambda row: jnp.max(jnp.sum(jnp.abs(weights - row[None]), axis=1)), weights)
    return jnp.max(farthest, initial=0) / 2


@partial(jax.jit, static_argnames="steps")
def stationary(weights: Operator, *, steps: int = 1000) -> Stationary:
    """Find a distribution that a walk keeps, by a lazy power iteration: law <- law (I + P) / 2 from the uniform one.

    Laziness makes periodic walks converge. Where there is more than one recurrent class, the law is the one that the
    uniform start flows to. Under a causal mask all mass ends in the first row.

    Args:
        weights: P, row-stochastic.
        steps: of the iteration, squared for speed: 2^ceil(log2 steps) steps are done by repeated squaring.

    Returns:
        The law with its residual. The law itself may be off by about residual / spectral gap: a slow walk has a small
        residual long before it has arrived.

    Raises:
        OptionError: ``steps`` is below 1.
        ShapeError: the map is not square.

    Cost: rows^3 log2(steps) operations.
    Source: Levin, Peres and Wilmer 2009.
    """
    check_square("stationary", weights)
    if steps < 1:
        refuse(
            OptionError,
            "stationary: steps are counted from one.",
            got=f"steps={steps}",
            want="steps >= 1",
            fix="raise steps.",
        )
    rows = weights.shape[0]
    lazy = (weights + jnp.eye(rows, dtype=weights.dtype)) / 2

    def square(_: int, power: Operator) -> Operator:
        power = power @ power
        # Rows sum to one but for rounding, which squaring would double each time.
        return power / jnp.sum(power, axis=1, keepdims=True)

    power = lax.fori_loop(0, max(steps - 1, 0).bit_length(), square, lazy)
    law = jnp.mean(power, axis=0)
    return Stationary(law, jnp.sum(jnp.abs(law @ weights - law)) / 2)


def check_square(name: str, matrix: Array | np.ndarray) -> None:
    """Refuse what is no operator on one set of rows."""
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        refuse(
            ShapeError,
            f"{name}: an operator has as many rows as columns.",
            got=describe(matrix),
            want="[rows, rows]",
            fix="use self-attention, or qga.operators.tile_operator with equal tiles on both sides.",
        )


def check_walk(name: str, weights: Array, stationary: Array) -> None:
    """Refuse what is no walk with one number of its law for each row."""
    check_square(name, weights)
    if stationary.shape != weights.shape[:1]:
        refuse(
            ShapeError,
            f"{name}: a law has one number for each row of its walk.",
            got=f"weights {describe(weights)}, stationary {describe(stationary)}",
            want=f"stationary [{weights.shape[0]}]",
            fix="pass the law that the walk keeps (qga.routing.stationary).",
        )


def check_channel(name: str, weights: Array, query_weights: Array | None = None) -> None:
    """Refuse what is no map from queries to keys, or has another number of chances than queries."""
    if weights.ndim != 2 or (query_weights is not None and query_weights.shape != weights.shape[:1]):
        chances = "" if query_weights is None else f", query_weights {describe(query_weights)}"
        refuse(
            ShapeError,
            f"{name}: a channel is a matrix, and each of its queries has one chance.",
            got=f"weights {describe(weights)}{chances}",
            want="weights [queries, keys]" + ("" if query_weights is None else ", query_weights [queries]"),
            fix="map over heads with jax.vmap.",
        )
