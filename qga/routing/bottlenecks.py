"""Where an operator is narrow: spectral gap, conductance, resistance, and the edges that everything must cross."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..errors import OptionError, ShapeError, describe, refuse
from .composition import Operator, check_square, check_walk

Law = Float[Array, " rows"]


class Bounds(NamedTuple):
    """An interval that a quantity lies in."""

    lower: Float[Array, ""]
    upper: Float[Array, ""]


class Cut(NamedTuple):
    """A set of rows and how hard it is to leave.

    Attributes:
        side: True for the rows of the smaller half.
        conductance: of the cut; an upper bound of the smallest one.
    """

    side: Bool[Array, " rows"]
    conductance: Float[Array, ""]


class Bottlenecks(NamedTuple):
    """The edges that carry most.

    Attributes:
        edges: pairs of rows, most needed first.
        leverage: probability that a random spanning tree uses the edge; 1 for a bridge.
    """

    edges: Int[Array, "edges 2"]
    leverage: Float[Array, " edges"]


def conductances(weights: Operator, stationary: Law) -> Operator:
    """Return the flow between two rows in both directions, halved: c_ij = (pi_i P_ij + pi_j P_ji) / 2.

    The undirected network of the additive reversibilisation (P + P*) / 2; where P is reversible it is P's own.

    Raises:
        ShapeError: P is not square, or the law is not one number a row.

    Source: Fill 1991.
    """
    check_walk("conductances", weights, stationary)
    flow = stationary[:, None] * weights
    return (flow + flow.T) / 2


def spectral_gap(weights: Operator, stationary: Law) -> Float[Array, ""]:
    """Compute one minus the second largest eigenvalue of the additive reversibilisation of a walk.

    lambda = 1 - sigma_2(D^-1/2 C D^-1/2),  C the conductances, D their row sums

    The rate at which the heat flow e^(-t (I - P)) of a reversible P forgets; for any P a lower bound of the decay
    rate of the variance under it. Zero for a walk that falls apart.

    Args:
        weights: P, row-stochastic.
        stationary: pi, positive, kept by P (``qga.routing.stationary``). NaN where it has zeros, as that of a causal
            map has: take the walk on ``conductances`` with uniform shares there.

    Needs an eigenvalue solver, which the CPU has. Its derivative is finite where the second eigenvalue is simple.

    Raises:
        ShapeError: P is not square or has less than two rows, or the law is not one number a row.

    Error: a few eps.
    Source: Fill 1991; Levin, Peres and Wilmer 2009.
    """
    _check_two("spectral_gap", weights)
    return 1 - jnp.linalg.eigvalsh(_normalise(conductances(weights, stationary)))[-2]


def fiedler(weights: Operator, stationary: Law) -> Float[Array, " rows"]:
    """Compute the slowest mode of a walk: the eigenvector of ``spectral_gap``, as a function on the rows.

    Normalised to sum_i pi_i f_i^2 = 1 with a positive entry of largest magnitude; sum_i pi_i f_i = 0.

    Needs an eigenvalue solver, which the CPU has.

    Raises:
        ShapeError: P is not square or has less than two rows, or the law is not one number a row.

    Source: Fiedler 1973.
    """
    _check_two("fiedler", weights)
    network = conductances(weights, stationary)
    degrees = jnp.sum(network, axis=1)
    mode = jnp.linalg.eigh(_normalise(network))[1][:, -2] / jnp.sqrt(degrees)
    return mode * jnp.sign(mode[jnp.argmax(jnp.abs(mode))])


def conductance(weights: Operator, stationary: Law, side: Bool[Array, " rows"]) -> Float[Array, ""]:
    """Measure how readily a walk leaves a set: the flow out of it over the mass of its smaller side.

    h(S) = sum_{i in S, j not in S} pi_i P_ij / min(pi(S), 1 - pi(S)); NaN where a side is empty.

    Args:
        weights: P, row-stochastic.
        stationary: pi, kept by P.
        side: True for the rows of S.

    Raises:
        ShapeError: P is not square, or the law or the side is not one number a row.

    Example:
        >>> float(conductance(jnp.full((2, 2), 0.5), jnp.full(2, 0.5), jnp.array([True, False])))
        0.5
    """
    check_walk("conductance", weights, stationary)
    if side.shape != stationary.shape:
        refuse(
            ShapeError,
            "conductance: every row is on one side of a cut.",
            got=f"side {describe(side)}, weights {describe(weights)}",
            want=f"side [{weights.shape[0]}]",
            fix="mark the rows of the set with True.",
        )
    inside = side.astype(weights.dtype)
    flow = (stationary * inside) @ weights @ (1 - inside)
    smaller = jnp.minimum(jnp.sum(stationary * inside), jnp.sum(stationary * (1 - inside)))
    has_sides = jnp.any(side) & ~jnp.all(side)
    return jnp.where(has_sides, flow / jnp.where(has_sides, smaller, 1), jnp.nan)


def cheeger_bounds(gap: Float[Array, ""]) -> Bounds:
    """Bound the smallest conductance of any cut by the spectral gap: gap / 2 <= h <= sqrt(2 gap).

    Source: Cheeger 1970; Jerrum and Sinclair 1989.
    """
    return Bounds(gap / 2, jnp.sqrt(2 * jnp.maximum(gap, 0)))


def sweep_cut(weights: Operator, stationary: Law) -> Cut:
    """Find the narrowest of the cuts that the slowest mode orders: rows below each threshold of ``fiedler``.

    Its conductance lies between the smallest of all and sqrt(2 gap), the constructive half of Cheeger's inequality.

    Needs an eigenvalue solver and a sort, which the CPU has.

    Raises:
        ShapeError: P is not square or has less than two rows, or the law is not one number a row.

    Source: Chung 1997.
    """
    _check_two("sweep_cut", weights)
    network = conductances(weights, stationary)
    order = jnp.argsort(fiedler(weights, stationary))
    sorted_network, masses = network[order][:, order], stationary[order]
    mass, other = jnp.cumsum(masses)[:-1], jnp.cumsum(masses[::-1])[::-1][1:]
    # Flow out of the first k rows: what they send minus what stays among them.
    sent = jnp.cumsum(jnp.sum(sorted_network, axis=1))[:-1]
    kept = jnp.diagonal(jnp.cumsum(jnp.cumsum(sorted_network, axis=0), axis=1))[:-1]
    narrowness = (sent - kept) / jnp.minimum(mass, other)
    best = jnp.argmin(narrowness)
    low = jnp.zeros(order.shape, bool).at[order].set(jnp.arange(order.shape[0]) <= best)
    return Cut(jnp.where(mass[best] <= 0.5, low, ~low), narrowness[best])


def effective_resistance(network: Operator) -> Operator:
    """Compute the resistance between every two nodes of an electrical network.

    R_ij = L+_ii + L+_jj - 2 L+_ij,  L the Laplacian of the conductances

    A metric. NaN where the network falls apart.

    Args:
        network: symmetric, non-negative conductances; the diagonal does not matter.

    Needs an inverse, which the CPU has.

    Raises:
        ShapeError: the network is not square.

    Error: eps over the spectral gap.
    Source: Klein and Randic 1993.

    Example:
        >>> round(float(effective_resistance(jnp.ones((4, 4)))[0, 1]), 6)
        0.5
    """
    check_square("effective_resistance", network)
    nodes = network.shape[0]
    links = network * (1 - jnp.eye(nodes, dtype=network.dtype))
    laplacian = jnp.diag(jnp.sum(links, axis=1)) - links
    # Shifting the constant mode by the mean conductance makes the matrix regular and leaves differences alone.
    shift = jnp.trace(laplacian) / nodes**2
    inverse = jnp.where(_reach(network).all(), jnp.linalg.inv(laplacian + shift), jnp.nan)
    diagonal = jnp.diagonal(inverse)
    resistance = diagonal[:, None] + diagonal[None] - inverse - inverse.T
    return resistance * (1 - jnp.eye(nodes, dtype=network.dtype))


def kemeny_constant(weights: Operator, stationary: Law) -> Float[Array, ""]:
    """Compute the mean number of steps to a place drawn from the stationary law, the same from every start.

    K = sum_j pi_j m_ij = Tr (I - P + 1 pi^T)^-1 - 1,  m the mean hitting times with m_ii = 0

    NaN where the walk has more than one recurrent class: it then depends on the start.

    Needs an inverse, which the CPU has.

    Raises:
        ShapeError: P is not square, or the law is not one number a row.

    Source: Kemeny and Snell 1960.

    Example:
        >>> float(kemeny_constant(jnp.full((4, 4), 0.25), jnp.full(4, 0.25)))
        3.0
    """
    check_walk("kemeny_constant", weights, stationary)
    rows = weights.shape[0]
    hitting = jnp.trace(jnp.linalg.inv(jnp.eye(rows, dtype=weights.dtype) - weights + stationary[None])) - 1
    # One recurrent class: some place can be reached from everywhere.
    return jnp.where(_reach(weights).all(axis=0).any(), hitting, jnp.nan)


def detect_bottlenecks(network: Operator, count: int) -> Bottlenecks:
    """List the edges of an undirected network that are hardest to do without.

    leverage_ij = c_ij R_ij, the probability that a uniform spanning tree weighted by conductances uses the edge

    A bridge has leverage 1, an edge with many detours nearly 0; the leverages of all edges sum to nodes - 1.

    Args:
        network: symmetric, non-negative, connected conductances, such as ``conductances`` of a tile operator.
        count: how many edges to list; pairs without an edge come last, with leverage 0.

    Raises:
        OptionError: ``count`` is below 1 or above the number of pairs.
        ShapeError: the network is not square.

    Needs an inverse and a sort, which the CPU has.

    Source: Kirchhoff 1847; Spielman and Srivastava 2011.
    """
    check_square("detect_bottlenecks", network)
    nodes = network.shape[0]
    pairs = nodes * (nodes - 1) // 2
    if not 1 <= count <= pairs:
        refuse(
            OptionError,
            "detect_bottlenecks: count says how many edges to list.",
            got=f"count={count}, {nodes} nodes",
            want=f"1 <= count <= {pairs}",
            fix="ask for fewer edges.",
        )
    rows, columns = jnp.triu_indices(nodes, 1)
    leverage = (network * effective_resistance(network))[rows, columns]
    values, places = lax.top_k(leverage, count)
    return Bottlenecks(jnp.stack([rows[places], columns[places]], axis=1), values)


def _reach(network: Operator) -> Bool[Array, "rows rows"]:
    """Tell which places can be reached from which, by squaring."""
    rows = network.shape[0]
    reach = ((network > 0) | jnp.eye(rows, dtype=bool)).astype(network.dtype)
    for _ in range(max(rows - 1, 1).bit_length()):
        reach = jnp.minimum(reach @ reach, 1)
    return reach > 0


def _normalise(network: Operator) -> Operator:
    roots = jnp.sqrt(jnp.sum(network, axis=1))
    return network / (roots[:, None] * roots[None])


def _check_two(name: str, weights: Operator) -> None:
    if weights.ndim != 2 or weights.shape[0] < 2:
        refuse(
            ShapeError,
            f"{name}: a walk on one place has no second eigenvalue and no cut.",
            got=describe(weights),
            want="[rows, rows] with at least two rows",
            fix="cut finer tiles.",
        )
