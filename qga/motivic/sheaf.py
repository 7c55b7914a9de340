"""Cellular sheaves on a graph: whether local fields agree along the edges, and the flow that makes them agree."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ..errors import DomainError, ShapeError, describe, refuse
from ..flow.heat import heat

Field = Float[Array, "nodes width"]
Edges = Int[Array, "edges 2"]
Maps = Float[Array, "edges 2 stalk width"]


class Consistency(NamedTuple):
    """How far a field is from a global section.

    Attributes:
        radius: x^T L x / x^T x, at least 0; zero exactly where all edges agree.
        error: radius / ceiling, from 0 to 1 up to rounding.
        ceiling: an upper bound of the largest eigenvalue of L.
    """

    radius: Float[Array, ""]
    error: Float[Array, ""]
    ceiling: Float[Array, ""]


class Sections(NamedTuple):
    """The global sections of a sheaf, counted numerically.

    Attributes:
        dimension: how many eigenvalues of L count as zero.
        zero: the largest eigenvalue that counts as zero; minus infinity where none does.
        gap: the smallest that does not; infinity where all do. The count means something where gap is far above zero.
    """

    dimension: Int[Array, ""]
    zero: Float[Array, ""]
    gap: Float[Array, ""]


def coboundary(field: Field, edges: Edges, maps: Maps) -> Float[Array, "edges stalk"]:
    """Compare the two ends of each edge in the edge's own frame: (delta x)_e = F_e,head x_head - F_e,tail x_tail.

    Args:
        field: x, one vector for each node.
        edges: tail and head of each edge, as nodes from 0; other numbers give garbage under jit.
        maps: F, the restriction maps of tail and head of each edge.

    Returns:
        One vector for each edge, zero where its ends agree.

    Raises:
        ShapeError: shapes do not fit together.

    Source: Hansen and Ghrist 2019.

    Example:
        >>> same = jnp.ones((1, 2, 1, 1))
        >>> coboundary(jnp.array([[2.0], [5.0]]), jnp.array([[0, 1]]), same).tolist()
        [[3.0]]
    """
    _check("coboundary", edges, maps, field)
    ends = jnp.einsum("etsw,etw->ets", maps, field[edges])
    return ends[:, 1] - ends[:, 0]


def sheaf_laplacian(edges: Edges, maps: Maps, *, nodes: int) -> Callable[[Field], Field]:
    """Make the sheaf Laplacian x -> L x, L = delta^T delta, as a function; no matrix is formed.

    L_ii = sum_e F_e,i^T F_e,i,  L_ij = -F_e,i^T F_e,j

    Symmetric and positive, because it is delta^T delta. Its kernel is the global sections, the fields that agree along
    every edge. For orthogonal maps it is the connection Laplacian (Singer and Wu 2012), for maps of one it is the
    graph Laplacian, once for each component.

    Args:
        edges: tail and head of each edge, as nodes from 0.
        maps: F, the restriction maps of tail and head of each edge.
        nodes: how many nodes there are.

    Raises:
        ShapeError: shapes do not fit together.

    Cost: a field takes edges * stalk * width multiplications, four times.
    Source: Hansen and Ghrist 2019.
    """
    _check("sheaf_laplacian", edges, maps)

    def apply(field: Field) -> Field:
        differences = coboundary(field, edges, maps)
        pulled = jnp.einsum("etsw,es->etw", maps, differences)
        total = jnp.zeros((nodes, maps.shape[-1]), pulled.dtype).at[edges[:, 1]].add(pulled[:, 1])
        return total.at[edges[:, 0]].add(-pulled[:, 0])

    return apply


def sheaf_ceiling(edges: Edges, maps: Maps, *, nodes: int) -> Float[Array, ""]:
    """Bound the largest eigenvalue of the sheaf Laplacian: 2 max_i |D_i|, D_i = sum_e F_e,i^T F_e,i.

    |a - b|^2 <= 2 |a|^2 + 2 |b|^2 on each edge gives x^T L x <= 2 sum_i x_i^T D_i x_i; the norm of D_i is bounded by
    its largest row sum. For orthogonal maps this is twice the largest degree.

    Args:
        edges: tail and head of each edge, as nodes from 0.
        maps: F, the restriction maps of tail and head of each edge.
        nodes: how many nodes there are.

    Raises:
        ShapeError: shapes do not fit together.
    """
    _check("sheaf_ceiling", edges, maps)
    width = maps.shape[-1]
    grams = jnp.einsum("etsv,etsw->etvw", maps, maps)
    sums = jnp.zeros((nodes, width, width), maps.dtype)
    sums = sums.at[edges[:, 0]].add(grams[:, 0]).at[edges[:, 1]].add(grams[:, 1])
    return 2 * jnp.max(jnp.sum(jnp.abs(sums), axis=-1), initial=0)


def consistency(field: Field, edges: Edges, maps: Maps) -> Consistency:
    """Measure how much a field disagrees with itself along the edges: x^T L x / x^T x, and the same from 0 to 1.

    Args:
        field: x, one vector for each node.
        edges: tail and head of each edge, as nodes from 0.
        maps: F, the restriction maps of tail and head of each edge.

    Returns:
        The radius, its share of ``sheaf_ceiling``, and that bound. NaN where there is nothing to compare: radius and
        error of a field of zeros, error where all maps are zero or there are no edges.

    Raises:
        ShapeError: shapes do not fit together.
    """
    _check("consistency", edges, maps, field)
    radius = jnp.sum(jnp.square(coboundary(field, edges, maps))) / jnp.sum(jnp.square(field))
    ceiling = sheaf_ceiling(edges, maps, nodes=field.shape[0])
    return Consistency(radius, radius / ceiling, ceiling)


def sheaf_sections_dimension(edges: Edges, maps: Maps, *, nodes: int) -> Sections:
    """Count the independent global sections: the dimension of the kernel of L.

    An eigenvalue counts as zero up to nodes * width * eps of the largest. Needs an eigenvalue solver, which the CPU
    has. For orthogonal maps on a connected graph it is the dimension of the vectors that every ``holonomy`` fixes.

    Args:
        edges: tail and head of each edge, as nodes from 0.
        maps: F, the restriction maps of tail and head of each edge.
        nodes: how many nodes there are.

    Returns:
        The count, and the eigenvalues on both sides of the threshold: the certificate that it is one.

    Raises:
        ShapeError: shapes do not fit together.

    Cost: (nodes * width)^3; the matrix is formed.
    """
    _check("sheaf_sections_dimension", edges, maps)
    size = nodes * maps.shape[-1]
    laplacian = sheaf_laplacian(edges, maps, nodes=nodes)
    basis = jnp.eye(size, dtype=maps.dtype).reshape(size, nodes, -1)
    values = jnp.linalg.eigvalsh(jax.vmap(laplacian)(basis).reshape(size, size))
    is_zero = values <= size * jnp.finfo(values.dtype).eps * values[-1]
    return Sections(
        jnp.sum(is_zero, dtype=jnp.int32),
        jnp.max(jnp.where(is_zero, values, -jnp.inf)),
        jnp.min(jnp.where(is_zero, jnp.inf, values)),
    )


def holonomy(path: Int[Array, "steps 2"], maps: Maps) -> Float[Array, "width width"]:
    """Carry a vector along a path of edges with orthogonal maps: H = T_last ... T_first.

    T_e = F_e,head^T F_e,tail  along an edge, its transpose against it

    A vector at the start of a closed path belongs to a global section only if H leaves it as it is.

    Args:
        path: for each step the edge, and 0 to walk it from tail to head or 1 to walk it back.
        maps: F, orthogonal; for other maps the transpose is no inverse and H no transport.

    Raises:
        ShapeError: shapes do not fit together.

    Error: a few eps a step.
    Source: Singer and Wu 2012.

    Example:
        >>> turned = jnp.array([[[[0.0, -1.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]]])
        >>> holonomy(jnp.array([[0, 0], [0, 0]]), turned).tolist()
        [[-1.0, 0.0], [0.0, -1.0]]
    """
    if path.ndim != 2 or path.shape[1] != 2 or maps.ndim != 4 or maps.shape[1] != 2:
        refuse(
            ShapeError,
            "holonomy: each step of a path is an edge and a direction.",
            got=f"path {describe(path)}, maps {describe(maps)}",
            want="path [steps, 2], maps [edges, 2, stalk, width]",
            fix="write a step along edge e as (e, 0) and one against it as (e, 1).",
        )

    def step(carried: Array, move: Array) -> tuple[Array, None]:
        pair = maps[move[0]]
        return pair[1 - move[1]].T @ (pair[move[1]] @ carried), None

    return lax.scan(step, jnp.eye(maps.shape[-1], dtype=maps.dtype), path)[0]


def sheaf_diffuse(
    field: Field, edges: Edges, maps: Maps, time: float | Float[Array, ""], *, order: int
) -> tuple[Field, Float[Array, ""]]:
    """Let a field flow towards agreement: e^(-t L) x, which carries vectors from frame to frame as it averages them.

    M = I - 2 L / c,  e^(-t L) = sum_m Pois(m; t c / 2) M^m,  cut at m = order and renormalised

    c is ``sheaf_ceiling``, so M never lengthens a field. The cut sum is an average of powers of M: it lengthens no
    field either, and keeps every global section.

    Args:
        field: x, one vector for each node.
        edges: tail and head of each edge, as nodes from 0.
        maps: F, the restriction maps of tail and head of each edge.
        time: t, at least 0, in units of 1 / L; NaN comes out where a traced time is negative.
        order: terms after the first; ``qga.flow.order_for(time * ceiling / 2, tolerance)`` chooses it.

    Returns:
        The field at time t, and an upper bound of its distance from the exact one in the Euclidean norm over all
        nodes: 2 Pr[Pois(t c / 2) > order] |x|. Rounding comes on top.

    Raises:
        DomainError: ``time`` is negative (checked when it is a plain number).
        OptionError: ``order`` is negative.
        ShapeError: shapes do not fit together.

    Cost: one Laplacian for each term.
    Source: Jensen 1953 (uniformisation); Bodnar et al. 2022 (sheaf diffusion).
    """
    _check("sheaf_diffuse", edges, maps, field)
    if isinstance(time, int | float) and not time >= 0:
        refuse(
            DomainError,
            "sheaf_diffuse: a flow runs forwards.",
            got=f"time={time}",
            want="time >= 0",
            fix="use a time of zero or more; diffusion has no inverse.",
        )
    nodes = field.shape[0]
    laplacian = sheaf_laplacian(edges, maps, nodes=nodes)
    ceiling = sheaf_ceiling(edges, maps, nodes=nodes)
    # Without edges or with maps of zero, L is zero and nothing moves.
    step = jnp.where(ceiling > 0, 2 / jnp.where(ceiling > 0, ceiling, 1), 0)
    clock = jnp.asarray(time, field.dtype) * ceiling / 2
    clock = jnp.where(clock >= 0, clock, jnp.nan)
    # The sum of Poisson weights times powers is that of ``heat``, for a contraction instead of a stochastic matrix.
    flowed, tail = heat(lambda each: each - step * laplacian(each), field, clock, order=order)
    return flowed, 2 * tail * jnp.sqrt(jnp.sum(jnp.square(field)))


def _check(name: str, edges: Edges, maps: Maps, field: Field | None = None) -> None:
    fits = edges.ndim == 2 and edges.shape[1] == 2 and maps.ndim == 4 and maps.shape[:2] == edges.shape
    if not fits or (field is not None and (field.ndim != 2 or field.shape[1] != maps.shape[3])):
        given = "" if field is None else f", field {describe(field)}"
        refuse(
            ShapeError,
            f"{name}: each edge has two ends and a map for each.",
            got=f"edges {describe(edges)}, maps {describe(maps)}{given}",
            want="edges [edges, 2], maps [edges, 2, stalk, width], field [nodes, width]",
            fix="pass one matrix for the tail and one for the head of each edge.",
        )
