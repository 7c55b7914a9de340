"""The Ihara zeta function of a mask read as a graph, and whether the mask is as well connected as can be."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Complex, Float

from .zeta import complex_of, require_square

Adjacency = Float[Array, "nodes nodes"]


class Ramanujan(NamedTuple):
    """How a regular graph stands against the best that is possible.

    Attributes:
        holds: True where the graph is regular and connected and every non-trivial eigenvalue is within the bound.
        second: largest |eigenvalue| besides the degree and, once, minus the degree (which a bipartite graph has). A
            graph of several parts has the degree again, and ``second`` says so.
        mixing: largest |eigenvalue| besides the degree alone: what ``mixing_bound`` asks for. The degree itself for
            a bipartite graph, whose halves are not connected within.
        bound: 2 sqrt(degree - 1).
        is_regular: whether all nodes have one degree; without it ``holds`` is False and means nothing.
    """

    holds: Bool[Array, ""]
    second: Float[Array, ""]
    mixing: Float[Array, ""]
    bound: Float[Array, ""]
    is_regular: Bool[Array, ""]


def ihara_log_determinant(adjacency: Adjacency, points: Complex[Array, "*points"]) -> Complex[Array, "*points"]:
    """Evaluate the logarithm of the Ihara zeta function of a graph.

    zeta(u)^-1 = (1 - u^2)^(edges - nodes) det(I - u A + u^2 (D - I)),   a product over its prime cycles

    Args:
        adjacency: A, symmetric, zeros and ones, without loops.
        points: u, where the value is finite; the imaginary part is a principal value.

    Needs a determinant, which the CPU has.

    Raises:
        ShapeError: A is not square.

    Source: Bass 1992; Terras 2010.
    """
    require_square("ihara_log_determinant", adjacency)
    dtype, nodes = complex_of(adjacency), adjacency.shape[0]
    links, identity = adjacency.astype(dtype), jnp.eye(nodes, dtype=dtype)
    degrees = jnp.sum(links, axis=1)
    excess = jnp.sum(links) / 2 - nodes

    def at(point: Array) -> Array:
        sign, size = jnp.linalg.slogdet(identity - point * links + point**2 * jnp.diag(degrees - 1))
        return -(excess * jnp.log(1 - point**2) + jnp.log(sign) + size.astype(dtype))

    return jax.vmap(at)(points.astype(dtype).reshape(-1)).reshape(points.shape)


def is_ramanujan(adjacency: Adjacency) -> Ramanujan:
    """Test whether a regular graph is Ramanujan: |lambda| <= 2 sqrt(q) for all eigenvalues but +-(q + 1).

    Exactly then its Ihara zeta function obeys the Riemann hypothesis of graphs. Large graphs of that degree cannot
    stay below that bound by any fixed margin (Alon and Boppana), so a mask that passes starves no two sets of blocks of
    connections (``mixing_bound``) as far as its density allows.

    Args:
        adjacency: symmetric, zeros and ones, without loops.

    Raises:
        ShapeError: A is not square.

    Needs an eigenvalue solver, which the CPU has; equality counts as within, up to rounding.

    Source: Lubotzky, Phillips and Sarnak 1988.
    """
    require_square("is_ramanujan", adjacency)
    degrees = jnp.sum(adjacency, axis=1)
    degree = jnp.max(degrees)
    # Ascending; the last is the degree.
    values = jnp.linalg.eigvalsh(adjacency)[:-1]
    slack = 16 * jnp.finfo(values.dtype).eps * degree * adjacency.shape[0] ** 0.5
    mixing = jnp.max(jnp.abs(values), initial=0)
    is_bipartite = jnp.min(values, initial=0) <= slack - degree
    second = jnp.where(is_bipartite, jnp.max(jnp.abs(values[1:]), initial=0), mixing)
    is_connected = jnp.max(values, initial=-jnp.inf) < degree - slack
    bound = 2 * jnp.sqrt(jnp.maximum(degree - 1, 0))
    is_regular = jnp.all(degrees == degree)
    holds = is_regular & is_connected & (second <= bound + slack)
    return Ramanujan(holds, second, mixing, bound, is_regular)


def mixing_bound(
    mixing: Float[Array, ""], first_size: Float[Array, ""], second_size: Float[Array, ""]
) -> Float[Array, ""]:
    """Bound |edges between S and T - degree |S| |T| / nodes| of a regular graph: lambda sqrt(|S| |T|).

    Args:
        mixing: lambda, the largest |eigenvalue| besides the degree; -degree counts (``Ramanujan.mixing``).
        first_size: nodes of S.
        second_size: nodes of T.

    Source: Alon and Chung 1988 (expander mixing lemma).
    """
    return mixing * jnp.sqrt(first_size * second_size)
