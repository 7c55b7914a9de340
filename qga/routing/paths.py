"""Sums over all paths between tiles, and the cheapest ones: free energies, tropical products, shortest paths."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float
from scipy.sparse import csr_array
from scipy.sparse.csgraph import yen

from ..errors import DomainError, OptionError, ShapeError, describe, refuse
from .composition import Operator, check_square


class Path(NamedTuple):
    """One route.

    Attributes:
        cost: sum of the costs of its steps.
        nodes: from the source to the target.
    """

    cost: float
    nodes: tuple[int, ...]


def free_energy(weights: Operator, costs: Operator, theta: float | Float[Array, ""]) -> Operator:
    """Measure how far each place is from each other by a sum over all paths: randomised shortest paths.

    phi(i, t) = -(1 / theta) log(z_it / z_tt),   z = (I - W)^-1,   W_ij = P_ij e^(-theta c_ij)

    z_it sums the probability of every path times e^(-theta cost); phi is the free energy of paths absorbed at t.
    As theta grows it falls to the cost of the cheapest path; as theta goes to 0 it becomes the mean cost of a random
    walk to t. It obeys the directed triangle inequality.

    Args:
        weights: P, row-stochastic, irreducible.
        costs: c, positive where P is.
        theta: inverse temperature, positive.

    Returns:
        [source, target], zero on the diagonal. NaN or infinite where W leaves the range of its dtype (theta times
        the cost of a path beyond about 85 in float32): take the tropical limit, ``shortest_costs``, there.

    Needs a linear solver, which the CPU has.

    Raises:
        ShapeError: the weights are not square, or the costs are of another shape.
        DomainError: ``theta`` is not positive (checked when it is a plain number).

    Error: the condition number of I - W, about 1 / (theta times the mean cost) for small theta.
    Source: Kivimaki, Shimbo and Saerens 2014.
    """
    check_square("free_energy", weights)
    if costs.shape != weights.shape:
        refuse(
            ShapeError,
            "free_energy: every step has a cost.",
            got=f"weights {describe(weights)}, costs {describe(costs)}",
            want="two arrays of one shape",
            fix="write infinity where a step is not possible.",
        )
    _check_theta("free_energy", theta)
    identity = jnp.eye(weights.shape[0], dtype=weights.dtype)
    paths = jnp.linalg.inv(identity - weights * jnp.exp(-theta * costs))
    return -(jnp.log(paths) - jnp.log(jnp.diagonal(paths))[None]) / theta


def log_product(
    first: Float[Array, "rows middle"], second: Float[Array, "middle columns"], theta: float | Float[Array, ""]
) -> Float[Array, "rows columns"]:
    """Multiply in the log semiring: -(1 / theta) log sum_k e^(-theta (a_ik + b_kj)).

    A soft minimum over the middle; as theta grows it becomes ``tropical_product``, from below, and is off by at most
    log(middle) / theta. A row without any road is infinite, and has no derivative.

    Raises:
        ShapeError: the two do not meet.
        DomainError: ``theta`` is not positive (checked when it is a plain number).

    Cost: rows middle columns numbers of memory.
    Source: Litvinov 2007 (Maslov dequantisation).

    Example:
        >>> round(float(log_product(jnp.zeros((1, 2)), jnp.zeros((2, 1)), 1.0)[0, 0] / jnp.log(2.0)), 6)
        -1.0
    """
    _check_meeting("log_product", first, second)
    _check_theta("log_product", theta)
    exponents = -theta * (first[:, :, None] + second[None])
    peak = lax.stop_gradient(jnp.max(exponents, axis=1, keepdims=True))
    safe = jnp.where(peak == -jnp.inf, 0, peak)
    return -(jnp.log(jnp.sum(jnp.exp(exponents - safe), axis=1)) + safe[:, 0]) / theta


def tropical_product(
    first: Float[Array, "rows middle"], second: Float[Array, "middle columns"]
) -> Float[Array, "rows columns"]:
    """Multiply in the tropical semiring: min_k (a_ik + b_kj), the cheapest way through one middle place.

    Raises:
        ShapeError: the two do not meet.

    Cost: rows middle columns numbers of memory.

    Example:
        >>> tropical_product(jnp.array([[1.0, 5.0]]), jnp.array([[7.0], [2.0]])).tolist()
        [[7.0]]
    """
    _check_meeting("tropical_product", first, second)
    return jnp.min(first[:, :, None] + second[None], axis=1)


def shortest_costs(costs: Operator) -> Operator:
    """Find the cost of the cheapest path between every two places, by tropical squaring.

    Args:
        costs: of one step, non-negative; infinite where there is none.

    Raises:
        ShapeError: the costs are not square.

    Cost: rows^3 log2(rows) operations, memory of rows^2.
    Source: Aho, Hopcroft and Ullman 1974.

    Example:
        >>> shortest_costs(jnp.array([[0.0, 1.0, 5.0], [1.0, 0.0, 1.0], [5.0, 1.0, 0.0]]))[0].tolist()
        [0.0, 1.0, 2.0]
    """
    check_square("shortest_costs", costs)
    rows = costs.shape[0]
    direct = jnp.where(jnp.eye(rows, dtype=bool), 0, costs)

    def square(_: int, best: Operator) -> Operator:
        # Row by row: all sums at once would take rows^3 numbers.
        return lax.map(lambda row: jnp.min(row[:, None] + best, axis=0), best)

    return lax.fori_loop(0, max(rows - 1, 1).bit_length(), square, direct)


def paths(costs: np.ndarray, *, source: int, target: int, count: int) -> list[Path]:
    """List the cheapest routes without loops between two places, cheapest first.

    Runs on the host; not traceable.

    Args:
        costs: [rows, rows] of one step, positive; infinite or zero where there is none.
        source: where routes begin.
        target: where they end, another place.
        count: how many at most.

    Raises:
        ShapeError: the costs are not square.
        DomainError: a cost is negative.
        OptionError: a place does not exist, the two are one, or ``count`` is below 1.

    Source: Yen 1971, as SciPy has it.

    Example:
        >>> paths(np.array([[0, 1, 5], [1, 0, 1], [5, 1, 0.0]]), source=0, target=2, count=2)
        [Path(cost=2.0, nodes=(0, 1, 2)), Path(cost=5.0, nodes=(0, 2))]
    """
    check_square("paths", costs)
    if (costs < 0).any():
        refuse(
            DomainError,
            "paths: a step does not pay.",
            got=f"smallest cost {costs.min()}",
            want="costs >= 0",
            fix="shift or clip the costs.",
        )
    rows = costs.shape[0]
    if not (0 <= source < rows and 0 <= target < rows) or source == target or count < 1:
        refuse(
            OptionError,
            "paths: a route leads from one place to another.",
            got=f"source={source}, target={target}, count={count}, {rows} places",
            want=f"two different places below {rows}, and count >= 1",
            fix="name two places of the operator.",
        )
    graph = csr_array(np.where(np.isfinite(costs), costs, 0.0))
    found, before = yen(graph, source, target, count, return_predecessors=True)
    return [Path(float(cost), _trace(steps, source, target)) for cost, steps in zip(found, before, strict=True)]


def _trace(before: np.ndarray, source: int, target: int) -> tuple[int, ...]:
    nodes = [target]
    while nodes[-1] != source:
        nodes.append(int(before[nodes[-1]]))
    return tuple(reversed(nodes))


def _check_meeting(name: str, first: Array, second: Array) -> None:
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[0]:
        refuse(
            ShapeError,
            f"{name}: the columns of the first factor are the rows of the second.",
            got=f"first {describe(first)}, second {describe(second)}",
            want="[rows, middle] and [middle, columns]",
            fix="pass the costs to the middle places first.",
        )


def _check_theta(name: str, theta: float | Array) -> None:
    if isinstance(theta, int | float) and not theta > 0:
        refuse(
            DomainError,
            f"{name}: an inverse temperature is positive.",
            got=f"theta={theta}",
            want="theta > 0",
            fix="use tropical_product and shortest_costs for the cold limit, and a small theta for the hot one.",
        )
