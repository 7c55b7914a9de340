"""Complexes of vertices, edges and faces: boundaries, Hodge Laplacians and Betti numbers, exactly, on the host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import gcd
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Int

from ..errors import OptionError, ShapeError, refuse
from .euler import Connectivity, check_mask

_SQUARE = (1, 1, -1, -1)
_TRIANGLE = (1, -1, 1)


@dataclass(frozen=True)
class Complex:
    """A complex of dimension two at most. The arrays are NumPy's: a complex is structure, and never traced.

    Attributes:
        vertices: how many there are.
        edges: tail and head of each edge, as vertices.
        faces: the edges around each face.
        signs: whether a face runs along (1) or against (-1) each of its edges.
    """

    vertices: int
    edges: Int[np.ndarray, "edges 2"]
    faces: Int[np.ndarray, "faces sides"]
    signs: tuple[int, ...]


class MaskBetti(NamedTuple):
    """The topology of a mask.

    Attributes:
        islands: connected parts.
        holes: parts of the rest that the mask encloses.
    """

    islands: int
    holes: int


def complex_of_mask(mask: Bool[np.ndarray, "rows columns"], *, connectivity: Connectivity = 4) -> Complex:
    """Build the cubical complex of a mask. Runs on the host; not traceable.

    Cells are those that ``euler`` counts: for connectivity 4 places, neighbouring pairs and full 2 x 2 blocks; for
    8 the places as closed squares with their sides and corners.

    Args:
        mask: True where the set is.
        connectivity: 4 or 8.

    Raises:
        OptionError: another connectivity.
        ShapeError: the mask is no boolean matrix.
    """
    mask = np.asarray(mask)
    check_mask("complex_of_mask", jax.ShapeDtypeStruct(mask.shape, mask.dtype), connectivity)
    if connectivity == 4:
        points, down, right = mask, mask[:-1] & mask[1:], mask[:, :-1] & mask[:, 1:]
        squares = down[:, :-1] & down[:, 1:]
    else:
        padded = np.pad(mask, 1)
        # An edge between two corners is a side of the places left and right of it, or above and below it.
        down, right = (padded[:, :-1] | padded[:, 1:])[1:-1], (padded[:-1] | padded[1:])[:, 1:-1]
        points = (padded[:-1] | padded[1:])[:, :-1] | (padded[:-1] | padded[1:])[:, 1:]
        squares = mask
    vertex = _number(points)
    first_right = int(down.sum())
    downward, rightward = _number(down), first_right + _number(right)
    edges = [
        np.stack([vertex[:-1][down], vertex[1:][down]], axis=1),
        np.stack([vertex[:, :-1][right], vertex[:, 1:][right]], axis=1),
    ]
    # Round the square: down on the left, right below, up on the right, left above.
    sides = [downward[:, :-1], rightward[1:], downward[:, 1:], rightward[:-1]]
    faces = np.stack([side[squares] for side in sides], axis=1)
    return Complex(int(points.sum()), np.concatenate(edges), faces, _SQUARE)


def complex_of_graph(
    vertices: int, edges: Sequence[Sequence[int]], triangles: Sequence[Sequence[int]] | None = None
) -> Complex:
    """Build a simplicial complex from a graph and its filled triangles. Runs on the host; not traceable.

    Args:
        vertices: how many there are.
        edges: pairs of different vertices, each pair once, in any order.
        triangles: triples of vertices whose three edges are there; by default every such triple, which makes the
            clique complex up to dimension two. Cells of dimension three and more are left out, so the second Betti
            number of a graph with four mutual neighbours counts hollow tetrahedra.

    Raises:
        ShapeError: an edge that is a loop, repeated or outside the graph, or a triangle without its edges.

    Cost: vertices^3 steps where the triangles are looked for.
    """
    pairs = [(min(edge), max(edge)) for edge in edges]
    number = {pair: index for index, pair in enumerate(pairs)}
    is_graph = all(0 <= low < high < vertices for low, high in pairs) and len(number) == len(pairs)
    triples = _cliques(vertices, number) if triangles is None else [sorted(triple) for triple in triangles]
    sides = [[(b, c), (a, c), (a, b)] for a, b, c in triples]
    if not is_graph or not all(side in number for triple in sides for side in triple):
        refuse(
            ShapeError,
            "complex_of_graph: a face needs its edges, and an edge its two ends.",
            got=f"vertices={vertices}, edges={list(edges)}, triangles={triangles}",
            want="edges of two different vertices, each once, and triangles of edges",
            fix="list every side of every triangle, and no edge twice.",
        )
    faces = np.asarray([[number[side] for side in triple] for triple in sides], np.int64).reshape(-1, 3)
    return Complex(vertices, np.asarray(pairs, np.int64).reshape(-1, 2), faces, _TRIANGLE)


def complex_product(first: Complex, second: Complex) -> Complex:
    """Multiply two graphs: a square for each pair of edges. Runs on the host; not traceable.

    chi(A x B) = chi(A) chi(B), and the Betti numbers multiply as polynomials (Kuenneth): two circles make a torus.

    Args:
        first: a complex without faces.
        second: a complex without faces.

    Raises:
        ShapeError: a factor has faces; the product would have dimension three or more.

    Source: Kuenneth 1923; Hatcher 2002, section 3.B.

    Example:
        >>> circle = complex_of_graph(3, [(0, 1), (1, 2), (0, 2)], [])
        >>> betti(complex_product(circle, circle))
        (1, 2, 1)
    """
    if len(first.faces) or len(second.faces):
        refuse(
            ShapeError,
            "complex_product: a complex has dimension two at most.",
            got=f"factors with {len(first.faces)} and {len(second.faces)} faces",
            want="two graphs",
            fix="leave the faces out.",
        )
    rows, columns = first.vertices, second.vertices
    tails, heads = first.edges[:, :1], first.edges[:, 1:]
    moves_first = np.stack([each * columns + np.arange(columns) for each in (tails, heads)], axis=-1)
    places = np.arange(rows)[:, None, None] * columns
    moves_second = places + second.edges[None]
    # Edge (edge e of the first, vertex v of the second) is number e * columns + v; the others follow.
    offset = len(first.edges) * columns
    left, below = np.arange(len(first.edges))[:, None] * columns, np.arange(len(second.edges))[None]
    sides = [
        left + second.edges[None, :, 0],
        offset + heads * len(second.edges) + below,
        left + second.edges[None, :, 1],
        offset + tails * len(second.edges) + below,
    ]
    edges = np.concatenate([moves_first.reshape(-1, 2), moves_second.reshape(-1, 2)])
    faces = np.stack(np.broadcast_arrays(*sides), axis=-1).reshape(-1, 4)
    return Complex(rows * columns, edges, faces, _SQUARE)


def boundary(cells: Complex, degree: int) -> Int[np.ndarray, "rows columns"]:
    """Write a boundary operator as a matrix of integers. Runs on the host; not traceable.

    d_1(edge) = head - tail,  d_2(face) = its edges with signs,  d_1 d_2 = 0

    Args:
        cells: a complex.
        degree: of the cells whose boundary is taken, 1 or 2; 0 and 3 give the zero maps at the ends.

    Raises:
        OptionError: another degree.

    Source: Hatcher 2002, section 2.1.

    Example:
        >>> boundary(complex_of_graph(2, [(0, 1)]), 1).tolist()
        [[-1], [1]]
    """
    if degree not in range(4):
        refuse(
            OptionError,
            "boundary: cells have dimension two at most.",
            got=f"degree={degree}",
            want="0 <= degree <= 3",
            fix="use 1 for edges and 2 for faces.",
        )
    counts = (0, *cell_counts(cells), 0)
    matrix = np.zeros((counts[degree], counts[degree + 1]), np.int64)
    sides, signs = _sides(cells, degree)
    for side, sign in zip(sides.T, signs, strict=True):
        np.add.at(matrix, (side, np.arange(len(side))), sign)
    return matrix


def cell_counts(cells: Complex) -> tuple[int, int, int]:
    """Count vertices, edges and faces; their alternating sum is the Euler characteristic."""
    return cells.vertices, len(cells.edges), len(cells.faces)


def hodge_laplacian(cells: Complex, degree: int) -> Int[np.ndarray, "cells cells"]:
    """Compute L_k = d_k^T d_k + d_(k+1) d_(k+1)^T in integers. Runs on the host; not traceable.

    The dimension of its kernel is the Betti number of the degree; L_0 is the graph Laplacian.

    Args:
        cells: a complex.
        degree: k, from 0 to 2.

    Raises:
        OptionError: another degree.

    Source: Eckmann 1944.

    Example:
        >>> hodge_laplacian(complex_of_graph(2, [(0, 1)]), 0).tolist()
        [[1, -1], [-1, 1]]
    """
    down, up = boundary(cells, degree), boundary(cells, degree + 1)
    return down.T @ down + up @ up.T


def betti(cells: Complex) -> tuple[int, int, int]:
    """Compute the Betti numbers over the rationals: parts, independent loops, enclosed voids. Runs on the host.

    beta_k = c_k - rank d_k - rank d_(k+1)

    The ranks are exact: columns are reduced in Python integers, without fractions and without a prime, so torsion
    is not seen and nothing is rounded. Not traceable.

    Cost: cubic in the cells at worst; close to linear for masks.

    Example:
        >>> betti(complex_of_graph(3, [(0, 1), (1, 2), (0, 2)], []))
        (1, 1, 0)
    """
    vertices, edges, faces = cell_counts(cells)
    first, second = (_rank(*_sides(cells, degree)) for degree in (1, 2))
    return vertices - first, edges - first - second, faces - second


def betti_numbers_of_mask(mask: Bool[np.ndarray, "rows columns"], *, connectivity: Connectivity = 4) -> MaskBetti:
    """Count the islands and the holes of a mask, exactly. Runs on the host; not traceable.

    Args:
        mask: True where the set is.
        connectivity: how islands touch, 4 or 8; holes touch in the other way.

    Raises:
        OptionError: another connectivity.
        ShapeError: the mask is no boolean matrix.

    Example:
        >>> ring = np.ones((3, 3), bool)
        >>> ring[1, 1] = False
        >>> betti_numbers_of_mask(ring)
        MaskBetti(islands=1, holes=1)
    """
    return MaskBetti(*betti(complex_of_mask(mask, connectivity=connectivity))[:2])


def _number(cells: Bool[np.ndarray, "rows columns"]) -> Int[np.ndarray, "rows columns"]:
    """Number the cells that are there, row by row."""
    return np.cumsum(cells).reshape(cells.shape) - 1


def _cliques(vertices: int, edges: dict[tuple[int, int], int]) -> list[Sequence[int]]:
    return [
        triple for triple in combinations(range(vertices), 3) if all(pair in edges for pair in combinations(triple, 2))
    ]


def _sides(cells: Complex, degree: int) -> tuple[Int[np.ndarray, "cells sides"], tuple[int, ...]]:
    """Return the cells around each cell of a degree, and their signs."""
    if degree == 1:
        return cells.edges, (-1, 1)
    if degree == 2:
        return cells.faces, cells.signs
    return np.zeros(((cells.vertices if degree == 0 else 0), 0), np.int64), ()


def _rank(sides: Int[np.ndarray, "cells sides"], signs: tuple[int, ...]) -> int:
    """Count independent columns, by fraction-free elimination of sparse integer columns."""
    pivots: dict[int, dict[int, int]] = {}
    for around in sides.tolist():
        column: dict[int, int] = {}
        for side, sign in zip(around, signs, strict=True):
            column[side] = column.get(side, 0) + sign
        column = {row: entry for row, entry in column.items() if entry}
        while column:
            last = max(column)
            if last not in pivots:
                pivots[last] = column
                break
            column = _eliminate(column, pivots[last], last)
    return len(pivots)


def _eliminate(column: dict[int, int], pivot: dict[int, int], row: int) -> dict[int, int]:
    """Cancel an entry of a column with a multiple of another, and divide by the common factor."""
    ours, theirs = pivot[row], column[row]
    mixed = {key: ours * column.get(key, 0) - theirs * pivot.get(key, 0) for key in column.keys() | pivot.keys()}
    mixed = {key: entry for key, entry in mixed.items() if entry}
    common = gcd(*mixed.values())
    return {key: entry // common for key, entry in mixed.items()}
