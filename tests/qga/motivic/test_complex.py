"""Complexes: boundaries compose to zero, Betti numbers of known spaces, Euler-Poincare, Hodge (theory M-2)."""

from __future__ import annotations

from itertools import combinations

import flint
import jax.numpy as jnp
import networkx
import numpy as np
import pytest

from qga import OptionError, ShapeError, motivic
from qga.motivic import Complex
from tests.qga.motivic.test_euler import islands_and_holes

# Six vertices: the smallest triangulation of the projective plane. Kuehnel 1987; Hatcher 2002, section 2.1.
PROJECTIVE_PLANE = [
    (0, 1, 2), (0, 2, 3), (0, 3, 4), (0, 4, 5), (0, 1, 5),
    (1, 2, 4), (2, 4, 5), (2, 3, 5), (1, 3, 5), (1, 3, 4),
]  # fmt: skip


def cycle(length: int) -> Complex:
    return motivic.complex_of_graph(length, [(k, (k + 1) % length) for k in range(length)], [])


def path(length: int) -> Complex:
    return motivic.complex_of_graph(length, [(k, k + 1) for k in range(length - 1)])


def surface(triangles: list[tuple[int, int, int]]) -> Complex:
    edges = sorted({pair for triple in triangles for pair in combinations(sorted(triple), 2)})
    return motivic.complex_of_graph(max(map(max, triangles)) + 1, edges, triangles)


def random_complexes(random: np.random.Generator) -> list[Complex]:
    masks = [random.random((6, 7)) < density for density in (0.3, 0.6, 0.9)]
    found = [motivic.complex_of_mask(mask, connectivity=kind) for mask in masks for kind in (4, 8)]
    pairs = list(combinations(range(8), 2))
    found += [motivic.complex_of_graph(8, [pair for pair in pairs if random.random() < p]) for p in (0.2, 0.5, 0.8)]
    return [*found, motivic.complex_product(cycle(3), path(4)), surface(PROJECTIVE_PLANE)]


def rank(matrix: np.ndarray) -> int:
    """Compute a rank over the rationals with FLINT."""
    return flint.fmpz_mat(*matrix.shape, matrix.ravel().tolist()).rank() if matrix.size else 0


def test_boundary_of_a_boundary_is_zero(random: np.random.Generator) -> None:
    for cells in random_complexes(random):
        assert not (motivic.boundary(cells, 1) @ motivic.boundary(cells, 2)).any()


def test_boundary_of_a_face_with_a_wrong_sign_is_seen() -> None:
    square = motivic.complex_of_mask(np.ones((2, 2), bool))
    wrong = Complex(square.vertices, square.edges, square.faces, (1, 1, 1, -1))
    assert (motivic.boundary(wrong, 1) @ motivic.boundary(wrong, 2)).any()


def test_boundaries_at_the_ends_are_zero_maps() -> None:
    cells = cycle(4)
    assert motivic.boundary(cells, 0).shape == (0, 4)
    assert motivic.boundary(cells, 3).shape == (0, 0)


def test_euler_poincare_holds(random: np.random.Generator) -> None:
    for cells in random_complexes(random):
        vertices, edges, faces = motivic.cell_counts(cells)
        parts, loops, voids = motivic.betti(cells)
        assert vertices - edges + faces == parts - loops + voids


def test_betti_is_what_flint_ranks_say(random: np.random.Generator) -> None:
    for cells in random_complexes(random):
        counts = motivic.cell_counts(cells)
        ranks = [rank(motivic.boundary(cells, degree)) for degree in range(4)]
        assert motivic.betti(cells) == tuple(counts[k] - ranks[k] - ranks[k + 1] for k in range(3))


def test_betti_of_known_spaces() -> None:
    # Hatcher 2002, chapter 2: point, circle, sphere, torus, and the projective plane, whose torsion is not rational.
    assert motivic.betti(path(1)) == (1, 0, 0)
    assert motivic.betti(cycle(5)) == (1, 1, 0)
    assert motivic.betti(surface(list(combinations(range(4), 3)))) == (1, 0, 1)
    assert motivic.betti(motivic.complex_product(cycle(3), cycle(4))) == (1, 2, 1)
    assert motivic.betti(motivic.complex_product(cycle(3), path(4))) == (1, 1, 0)
    assert motivic.betti(surface(PROJECTIVE_PLANE)) == (1, 0, 0)


# Seven vertices: the torus of Moebius and Csaszar. Nine: a Klein bottle, a grid glued with a flip.
TORUS = [tuple(sorted((k + a) % 7 for a in shape)) for k in range(7) for shape in ((0, 1, 3), (0, 2, 3))]


def grid(flip: bool, *, open_side: bool = False) -> list[tuple[int, int, int]]:
    """Triangulate a square of three by four whose sides are glued: a torus, Klein bottle, annulus or Moebius band."""

    def place(x: int, y: int) -> int:
        turned = (-y) % 3 if flip and x == 4 else y
        if open_side:
            turned = 2 - y if flip and x == 4 else y
        return (x % 4) * 3 + turned % 3

    rows = range(2) if open_side else range(3)
    squares = [(place(x, y), place(x + 1, y), place(x, y + 1), place(x + 1, y + 1)) for x in range(4) for y in rows]
    return [each for a, b, c, d in squares for each in ((a, b, d), (a, c, d))]


@pytest.mark.parametrize(
    ("triangles", "numbers", "euler"),
    [
        (list(combinations(range(4), 3)), (1, 0, 1), 2),
        ([t for t in combinations(range(6), 3) if not any(a + b == 5 for a, b in combinations(t, 2))], (1, 0, 1), 2),
        (TORUS, (1, 2, 1), 0),
        (grid(flip=False), (1, 2, 1), 0),
        (grid(flip=True), (1, 1, 0), 0),
        (grid(flip=False, open_side=True), (1, 1, 0), 0),
        (grid(flip=True, open_side=True), (1, 1, 0), 0),
        (PROJECTIVE_PLANE, (1, 0, 0), 1),
    ],
    ids=["tetrahedron", "octahedron", "torus of 7", "torus", "Klein bottle", "annulus", "Moebius band", "plane"],
)
def test_known_surfaces(triangles: list, numbers: tuple, euler: int) -> None:
    # Hatcher 2002, chapter 2: over the rationals a Klein bottle is a circle and the projective plane a point.
    cells = surface(triangles)
    vertices, edges, faces = motivic.cell_counts(cells)
    assert motivic.betti(cells) == numbers
    assert vertices - edges + faces == euler
    assert not (motivic.boundary(cells, 1) @ motivic.boundary(cells, 2)).any()
    # The negative twin: an unfilled face, its edges left, takes a void away or makes a loop.
    hollow = Complex(cells.vertices, cells.edges, cells.faces[1:], cells.signs)
    parts, loops, voids = numbers
    assert motivic.betti(hollow) == ((parts, loops, 0) if voids else (parts, loops + 1, 0))


def test_two_tori_joined_are_a_surface_of_two_handles() -> None:
    # Remove a face of each and glue along its three edges: chi = 0 + 0 - 2.
    seam = TORUS[0]
    names = {vertex: vertex if vertex in seam else vertex + 7 for vertex in range(7)}
    order = {name: place for place, name in enumerate(sorted({*range(7), *names.values()}))}
    double = TORUS[1:] + [tuple(order[names[vertex]] for vertex in triangle) for triangle in TORUS[1:]]
    assert motivic.betti(surface(double)) == (1, 4, 1)


def test_loops_of_known_graphs() -> None:
    for graph, loops in ((networkx.petersen_graph(), 6), (networkx.complete_graph(4), 3), (networkx.path_graph(5), 0)):
        cells = motivic.complex_of_graph(len(graph), list(graph.edges), [])
        assert motivic.betti(cells) == (1, loops, 0)


def test_euler_poincare_fails_for_a_boundary_that_is_none() -> None:
    # The negative twin: with a wrong sign d d is not zero, and what is left over is no homology.
    square = motivic.complex_of_mask(np.ones((2, 2), bool))
    wrong = Complex(square.vertices, square.edges, square.faces, (1, 1, 1, -1))
    assert motivic.betti(square) == (1, 0, 0)
    laplacian = motivic.hodge_laplacian(wrong, 1)
    assert len(laplacian) - rank(laplacian) == motivic.betti(wrong)[1]
    down, up = motivic.boundary(wrong, 1), motivic.boundary(wrong, 2)
    assert (down @ up).any()
    assert not np.array_equal(laplacian @ down.T, down.T @ motivic.hodge_laplacian(wrong, 0))
    right = motivic.boundary(square, 1)
    assert np.array_equal(motivic.hodge_laplacian(square, 1) @ right.T, right.T @ motivic.hodge_laplacian(square, 0))


def test_numbers_of_a_product_multiply_as_polynomials() -> None:
    # Kuenneth: (1 + t)(1 + 3 t) for a circle and a figure of three loops.
    loops = motivic.complex_of_graph(4, list(combinations(range(4), 2)), [])
    assert motivic.betti(motivic.complex_product(cycle(3), loops)) == (1, 4, 3)
    assert motivic.betti(motivic.complex_product(loops, loops)) == (1, 6, 9)
    two = motivic.complex_of_graph(6, [(0, 1), (1, 2), (0, 2), (3, 4), (4, 5), (3, 5)], [])
    assert motivic.betti(motivic.complex_product(cycle(3), two)) == (2, 4, 2)


def test_betti_over_the_rationals_is_not_that_over_two_elements() -> None:
    plane = surface(PROJECTIVE_PLANE)
    modulo = [
        flint.nmod_mat(*matrix.shape, matrix.ravel().tolist(), 2).rank()
        for matrix in (motivic.boundary(plane, 1), motivic.boundary(plane, 2))
    ]
    vertices, edges, faces = motivic.cell_counts(plane)
    assert (vertices - modulo[0], edges - sum(modulo), faces - modulo[1]) == (1, 1, 1)


def test_euler_multiplies_on_products() -> None:
    def euler(cells: Complex) -> int:
        vertices, edges, faces = motivic.cell_counts(cells)
        return vertices - edges + faces

    for first in (cycle(3), path(4), motivic.complex_of_graph(5, [(0, 1)])):
        for second in (cycle(5), path(2), motivic.complex_of_graph(4, list(combinations(range(4), 2)), [])):
            product = motivic.complex_product(first, second)
            assert euler(product) == euler(first) * euler(second)
            assert not (motivic.boundary(product, 1) @ motivic.boundary(product, 2)).any()


def test_euler_obeys_inclusion_and_exclusion(random: np.random.Generator) -> None:
    # By homology on both sides: each chi is the alternating sum of Betti numbers, not of cells.
    def euler(triangles: set, edges: set) -> int:
        parts, loops, voids = motivic.betti(motivic.complex_of_graph(7, sorted(edges), sorted(triangles)))
        return parts - loops + voids

    triples = list(combinations(range(7), 3))
    for _ in range(4):
        first, second = ({triple for triple in triples if random.random() < 0.3} for _ in range(2))
        sides = [{pair for triple in each for pair in combinations(triple, 2)} for each in (first, second)]
        union = euler(first | second, sides[0] | sides[1])
        shared = euler(first & second, sides[0] & sides[1])
        assert union == euler(first, sides[0]) + euler(second, sides[1]) - shared
        # The negative twin: an edge that only one of them has is not shared.
        lone = min(sides[0] ^ sides[1])
        assert union != euler(first, sides[0]) + euler(second, sides[1]) - euler(
            first & second, (sides[0] & sides[1]) | {lone}
        )


def test_hodge_laplacian_has_the_betti_numbers_as_kernels(random: np.random.Generator) -> None:
    for cells in random_complexes(random):
        for degree, number in enumerate(motivic.betti(cells)):
            laplacian = motivic.hodge_laplacian(cells, degree)
            assert np.array_equal(laplacian, laplacian.T)
            assert len(laplacian) - rank(laplacian) == number


def test_hodge_laplacian_of_vertices_is_that_of_the_graph(random: np.random.Generator) -> None:
    graph = networkx.gnp_random_graph(7, 0.5, seed=3)
    cells = motivic.complex_of_graph(7, list(graph.edges))
    assert np.array_equal(motivic.hodge_laplacian(cells, 0), networkx.laplacian_matrix(graph).toarray())


def test_clique_complex_fills_every_triangle() -> None:
    graph = networkx.gnp_random_graph(9, 0.6, seed=5)
    cells = motivic.complex_of_graph(9, list(graph.edges))
    assert len(cells.faces) == sum(networkx.triangles(graph).values()) // 3
    assert motivic.betti(cells)[0] == networkx.number_connected_components(graph)


def test_loops_of_a_graph_are_its_cycle_basis() -> None:
    graph = networkx.gnp_random_graph(9, 0.4, seed=6)
    assert motivic.betti(motivic.complex_of_graph(9, list(graph.edges), []))[1] == len(networkx.cycle_basis(graph))


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("density", [0.0, 0.35, 0.6, 1.0])
def test_betti_numbers_of_a_mask_are_islands_and_holes(
    density: float, connectivity: int, random: np.random.Generator
) -> None:
    mask = random.random((12, 15)) < density
    got = motivic.betti_numbers_of_mask(mask, connectivity=connectivity)
    assert tuple(got) == islands_and_holes(mask, connectivity)
    assert got.islands - got.holes == int(motivic.euler(jnp.asarray(mask), connectivity=connectivity))


def test_betti_numbers_of_known_masks() -> None:
    distance = np.hypot(*np.mgrid[-8:9, -8:9])
    assert motivic.betti_numbers_of_mask((distance > 3) & (distance < 7)) == (1, 1)
    assert motivic.betti_numbers_of_mask((distance > 3) & (distance < 7) | (distance < 1)) == (2, 1)
    assert motivic.betti_numbers_of_mask(distance < 7) == (1, 0)


def test_an_edge_outside_the_graph_is_refused() -> None:
    with pytest.raises(ShapeError) as error:
        motivic.complex_of_graph(2, [(0, 2)])
    assert str(error.value) == (
        "complex_of_graph: a face needs its edges, and an edge its two ends.\n"
        "  got:  vertices=2, edges=[(0, 2)], triangles=None\n"
        "  want: edges of two different vertices, each once, and triangles of edges\n"
        "  fix:  list every side of every triangle, and no edge twice."
    )


@pytest.mark.parametrize(("edges", "triangles"), [([(1, 1)], []), ([(0, 1), (1, 0)], []), ([(0, 1)], [(0, 1, 2)])])
def test_loops_repeated_edges_and_bare_triangles_are_refused(edges: list, triangles: list) -> None:
    with pytest.raises(ShapeError, match="a face needs its edges"):
        motivic.complex_of_graph(3, edges, triangles)


def test_products_of_surfaces_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"dimension two at most.\n  got:  factors with 0 and 10 faces"):
        motivic.complex_product(cycle(3), surface(PROJECTIVE_PLANE))


def test_boundary_of_another_degree_is_refused() -> None:
    with pytest.raises(OptionError, match="got:  degree=4"):
        motivic.boundary(cycle(3), 4)
