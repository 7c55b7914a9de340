"""Sheaves on graphs: Laplacian, sections, holonomy, consistency and diffusion (theory M-3)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import networkx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import block_diag, expm

from qga import DomainError, OptionError, ShapeError, flow, motivic
from tests.qga.tolerances import assert_close, assert_far, bound

# Eigenvalues of a small symmetric matrix with entries below ten are good to a few eps of its norm.
EIGEN_SCALE = 50.0
# A figure of eight: two triangles that share node 0, so two independent cycles.
EIGHT = np.array([[0, 1], [1, 2], [2, 0], [0, 3], [3, 4], [4, 0]])
FIRST_LOOP, SECOND_LOOP = np.array([[0, 0], [1, 0], [2, 0]]), np.array([[3, 0], [4, 0], [5, 0]])
NODES = 5


def orthogonal(random: np.random.Generator, *shape: int, width: int = 3) -> np.ndarray:
    return np.linalg.qr(random.normal(size=(*shape, width, width)))[0]


def coboundary_matrix(edges: np.ndarray, maps: np.ndarray, nodes: int) -> np.ndarray:
    """Write delta block by block, from the definition."""
    stalk, width = maps.shape[2:]
    delta = np.zeros((len(edges) * stalk, nodes * width))
    for index, (tail, head) in enumerate(edges):
        rows = slice(index * stalk, (index + 1) * stalk)
        delta[rows, head * width : (head + 1) * width] += maps[index, 1]
        delta[rows, tail * width : (tail + 1) * width] -= maps[index, 0]
    return delta


def dense(edges: np.ndarray, maps: np.ndarray, nodes: int) -> np.ndarray:
    delta = coboundary_matrix(edges, maps, nodes)
    return delta.T @ delta


def laplacian_of(edges: np.ndarray, maps: np.ndarray, nodes: int) -> np.ndarray:
    """Read the matrix of the library's Laplacian off its columns."""
    size = nodes * maps.shape[-1]
    apply = motivic.sheaf_laplacian(jnp.asarray(edges), jnp.asarray(maps), nodes=nodes)
    return np.asarray(jax.vmap(apply)(jnp.eye(size).reshape(size, nodes, -1)).reshape(size, size))


def sections(edges: np.ndarray, maps: np.ndarray, nodes: int = NODES) -> motivic.Sections:
    return motivic.sheaf_sections_dimension(jnp.asarray(edges), jnp.asarray(maps), nodes=nodes)


def gauge(edges: np.ndarray, maps: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Turn the frame of each node: F_e,i -> F_e,i g_i^T."""
    return np.einsum("etsw,etvw->etsv", maps, frames[edges])


def turn(angle: float) -> np.ndarray:
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])


def with_holonomies(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Make the figure of eight flat but for one edge of each loop."""
    maps = np.tile(np.eye(3), (len(EIGHT), 2, 1, 1))
    maps[2, 0], maps[5, 0] = first, second
    return maps


def test_coboundary_is_the_block_matrix(random: np.random.Generator, dtype: np.dtype) -> None:
    maps, field = random.normal(size=(6, 2, 2, 3)).astype(dtype), random.normal(size=(NODES, 3)).astype(dtype)
    got = motivic.coboundary(jnp.asarray(field), jnp.asarray(EIGHT), jnp.asarray(maps))
    want = coboundary_matrix(EIGHT, maps.astype(float), NODES) @ field.astype(float).ravel()
    assert_close(got.ravel(), want, depth=6, scale=6.0)


@pytest.mark.usefixtures("x64")
def test_laplacian_is_the_square_of_the_coboundary(random: np.random.Generator) -> None:
    maps = random.normal(size=(6, 2, 2, 3))
    want = dense(EIGHT, maps, NODES)
    assert_close(laplacian_of(EIGHT, maps, NODES), want, depth=12, scale=10.0)
    maps[0, 0, 0, 0] += 1e-3
    assert_far(laplacian_of(EIGHT, maps, NODES), want, depth=12, scale=10.0)


@pytest.mark.usefixtures("x64")
def test_laplacian_of_maps_of_one_is_that_of_the_graph() -> None:
    graph = networkx.petersen_graph()
    edges = np.array(graph.edges)
    got = laplacian_of(edges, np.ones((len(edges), 2, 1, 1)), 10)
    assert np.array_equal(got, networkx.laplacian_matrix(graph).toarray())


def test_laplacian_counts_loops_and_double_edges(dtype: np.dtype) -> None:
    edges = np.array([[0, 1], [0, 1], [1, 1]])
    maps = np.ones((3, 2, 1, 1), dtype)
    assert np.array_equal(laplacian_of(edges, maps, 2), [[2, -2], [-2, 2]])


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.sampled_from([(2, 1, 1), (5, 2, 3), (4, 3, 2)]), st.integers(0, 10**6))
def test_laplacian_is_positive_and_below_its_ceiling(sizes: tuple[int, int, int], seed: int) -> None:
    random = np.random.default_rng(seed)
    nodes, stalk, width = sizes
    edges = random.integers(0, nodes, (7, 2)).astype(np.int32)
    maps = random.normal(size=(7, 2, stalk, width)).astype(np.float32)
    values = np.linalg.eigvalsh(dense(edges, maps.astype(float), nodes))
    ceiling = float(motivic.sheaf_ceiling(jnp.asarray(edges), jnp.asarray(maps), nodes=nodes))
    assert values[-1] <= ceiling * (1 + bound(np.float32, depth=7))
    got = np.linalg.eigvalsh(laplacian_of(edges, maps, nodes).astype(float))
    assert got[0] >= -bound(np.float32, depth=7, scale=ceiling)


def test_ceiling_is_reached_on_two_opposed_nodes(dtype: np.dtype) -> None:
    # One edge, orthogonal maps: the eigenvalues are 0 and 2, and 2 is the ceiling.
    maps = jnp.asarray(np.tile(turn(0.3), (1, 2, 1, 1)), dtype)
    ceiling = motivic.sheaf_ceiling(jnp.array([[0, 1]]), maps, nodes=2)
    # Row sums of a Gram matrix that is the identity up to rounding.
    assert_close(ceiling, 2.0, depth=9, scale=3.0)
    field = jnp.asarray([[1, 0, 0], [-1, 0, 0]], dtype)
    assert_close(motivic.consistency(field, jnp.array([[0, 1]]), maps).error, 1.0, depth=9, scale=3.0)


@pytest.mark.usefixtures("x64")
def test_flat_sheaf_has_as_many_sections_as_its_stalks_are_wide(random: np.random.Generator) -> None:
    # Frames turned node by node: F_e,i = h_e g_i^T has holonomy one on every cycle.
    frames, shared = orthogonal(random, NODES), orthogonal(random, len(EIGHT))
    maps = np.einsum("esv,etwv->etsw", shared, frames[EIGHT])
    found = sections(EIGHT, maps)
    assert found.dimension == 3
    assert abs(found.zero) <= bound(np.float64, depth=15, scale=EIGEN_SCALE)
    assert found.gap > 0.5
    assert sections(EIGHT, orthogonal(random, 6, 2)).dimension < 3


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("first", "second", "dimension"),
    [
        (np.eye(3), np.eye(3), 3),
        (turn(0.7), np.eye(3), 1),
        (turn(0.7), turn(-1.1), 1),
        (turn(0.7), turn(0.5)[[2, 0, 1]][:, [2, 0, 1]], 0),
        (np.diag([1.0, 1.0, -1.0]), np.eye(3), 2),
        (np.diag([1.0, 1.0, -1.0]), np.diag([1.0, -1.0, 1.0]), 1),
        (-np.eye(3), np.eye(3), 0),
    ],
)
def test_sections_are_what_the_holonomy_fixes(first: np.ndarray, second: np.ndarray, dimension: int) -> None:
    maps = with_holonomies(first, second)
    loops = [np.asarray(motivic.holonomy(jnp.asarray(loop), jnp.asarray(maps))) for loop in (FIRST_LOOP, SECOND_LOOP)]
    fixed = 3 - np.linalg.matrix_rank(np.concatenate([loop - np.eye(3) for loop in loops]), tol=1e-9)
    assert fixed == dimension
    assert sections(EIGHT, maps).dimension == dimension


@pytest.mark.usefixtures("x64")
def test_spectrum_of_a_twisted_cycle_is_that_of_a_shifted_wave() -> None:
    # A rotation by alpha round a cycle of n: eigenvalues 2 - 2 cos((2 pi k + alpha) / n), Singer and Wu 2012.
    nodes, angle = 5, 0.9
    edges = np.array([(k, (k + 1) % nodes) for k in range(nodes)])
    maps = np.tile(np.eye(2), (nodes, 2, 1, 1))
    maps[0, 0] = turn(angle)[:2, :2]
    got = np.linalg.eigvalsh(laplacian_of(edges, maps, nodes))
    waves = [2 - 2 * np.cos((2 * np.pi * k + sign * angle) / nodes) for k in range(nodes) for sign in (1, -1)]
    assert_close(got, np.sort(waves), depth=10, scale=EIGEN_SCALE)
    flat = [2 - 2 * np.cos(2 * np.pi * k / nodes) for k in range(nodes) for _ in range(2)]
    assert_far(got, np.sort(flat), depth=10)


@pytest.mark.usefixtures("x64")
def test_sections_of_maps_that_forget_are_not_those_of_a_holonomy() -> None:
    # The negative twin: a map of rank one carries no vector back, and leaves more sections than loops would.
    maps = with_holonomies(turn(0.7), turn(0.5)[[2, 0, 1]][:, [2, 0, 1]])
    assert sections(EIGHT, maps).dimension == 0
    forgetful = maps.copy()
    forgetful[:, :, 1:] = 0
    assert sections(EIGHT, forgetful).dimension > 3


@pytest.mark.usefixtures("x64")
def test_sections_of_separate_parts_add_up() -> None:
    edges = np.array([[0, 1], [2, 3]])
    assert sections(edges, np.tile(np.eye(2), (2, 2, 1, 1)), 5).dimension == 3 * 2


@pytest.mark.usefixtures("x64")
def test_spectrum_does_not_see_the_frames(random: np.random.Generator) -> None:
    maps = orthogonal(random, 6, 2)
    want = np.linalg.eigvalsh(laplacian_of(EIGHT, maps, NODES))
    turned = gauge(EIGHT, maps, orthogonal(random, NODES))
    assert_close(np.linalg.eigvalsh(laplacian_of(EIGHT, turned, NODES)), want, depth=15, scale=EIGEN_SCALE)
    # The negative twin: turning one end of one edge alone is no change of frames.
    maps[0, 0] = maps[0, 0] @ turn(0.4)
    assert_far(np.linalg.eigvalsh(laplacian_of(EIGHT, maps, NODES)), want, depth=15, scale=EIGEN_SCALE)


@pytest.mark.usefixtures("x64")
def test_holonomy_turns_with_the_frame_of_its_start(random: np.random.Generator) -> None:
    maps, frames = orthogonal(random, 6, 2), orthogonal(random, NODES)
    before, after = (
        np.asarray(motivic.holonomy(jnp.asarray(FIRST_LOOP), jnp.asarray(each)))
        for each in (maps, gauge(EIGHT, maps, frames))
    )
    assert_close(after, frames[0] @ before @ frames[0].T, depth=18)
    assert_far(after, before)


@pytest.mark.usefixtures("x64")
def test_holonomy_of_a_path_walked_back_is_the_inverse(random: np.random.Generator) -> None:
    maps = jnp.asarray(orthogonal(random, 6, 2))
    back = np.stack([FIRST_LOOP[::-1, 0], 1 - FIRST_LOOP[::-1, 1]], axis=1)
    there, again = (motivic.holonomy(jnp.asarray(each), maps) for each in (FIRST_LOOP, back))
    assert_close(again @ there, np.eye(3), depth=18)


@pytest.mark.usefixtures("x64")
def test_consistency_is_the_rayleigh_quotient(random: np.random.Generator) -> None:
    maps, field = random.normal(size=(6, 2, 2, 3)), random.normal(size=(NODES, 3))
    matrix, vector = dense(EIGHT, maps, NODES), field.ravel()
    got = motivic.consistency(jnp.asarray(field), jnp.asarray(EIGHT), jnp.asarray(maps))
    assert_close(got.radius, vector @ matrix @ vector / (vector @ vector), depth=30, scale=20.0)
    assert 0 < got.error < 1
    assert np.linalg.eigvalsh(matrix)[-1] <= got.ceiling
    assert_close(got.error * got.ceiling, got.radius, scale=20.0)


def test_consistency_of_a_section_is_zero(random: np.random.Generator, dtype: np.dtype) -> None:
    frames = orthogonal(random, NODES).astype(dtype)
    maps = jnp.asarray(np.swapaxes(frames, 1, 2)[EIGHT])
    section = jnp.asarray(frames @ np.array([1.0, -2.0, 0.5], dtype))
    assert motivic.consistency(section, jnp.asarray(EIGHT), maps).radius <= bound(dtype, 9, 5.0) ** 2
    moved = section.at[2, 0].add(0.01)
    assert motivic.consistency(moved, jnp.asarray(EIGHT), maps).radius > 100 * bound(dtype, 9, 5.0) ** 2


def test_consistency_of_nothing_is_not_a_number() -> None:
    maps = jnp.ones((1, 2, 1, 1))
    assert jnp.isnan(motivic.consistency(jnp.zeros((2, 1)), jnp.array([[0, 1]]), maps).radius)
    assert jnp.isnan(motivic.consistency(jnp.ones((2, 1)), jnp.array([[0, 1]]), 0 * maps).error)


@pytest.mark.parametrize("time", [0.0, 0.2, 1.5])
@pytest.mark.parametrize("order", [0, 3, 10, 40])
def test_diffusion_error_is_within_the_bound(
    time: float, order: int, random: np.random.Generator, dtype: np.dtype
) -> None:
    maps, field = random.normal(size=(6, 2, 2, 3)).astype(dtype), random.normal(size=(NODES, 3)).astype(dtype)
    got, error = motivic.sheaf_diffuse(jnp.asarray(field), jnp.asarray(EIGHT), jnp.asarray(maps), time, order=order)
    want = expm(-time * dense(EIGHT, maps.astype(float), NODES)) @ field.astype(float).ravel()
    off = np.linalg.norm(np.asarray(got, float).ravel() - want)
    assert off <= float(error) + bound(dtype, depth=12 * max(order, 1), scale=float(np.linalg.norm(field)))


def test_diffusion_bound_is_not_vacuous(random: np.random.Generator) -> None:
    maps, field = orthogonal(random, 6, 2), random.normal(size=(NODES, 3))
    arrays = jnp.asarray(field), jnp.asarray(EIGHT), jnp.asarray(maps)
    got, error = motivic.sheaf_diffuse(*arrays, 0.5, order=4)
    want = expm(-0.5 * dense(EIGHT, maps, NODES)) @ field.ravel()
    off = np.linalg.norm(np.asarray(got, float).ravel() - want)
    assert 1e-3 < off < error < 0.2 * np.linalg.norm(field)
    assert motivic.sheaf_diffuse(*arrays, 0.5, order=flow.order_for(0.5 * 8 / 2, 1e-6))[1] < 1e-5


@pytest.mark.usefixtures("x64")
def test_diffusion_keeps_sections_and_shortens_the_rest(random: np.random.Generator) -> None:
    maps = with_holonomies(turn(0.7), np.eye(3))
    section, other = np.tile([0.0, 0.0, 1.0], (NODES, 1)), random.normal(size=(NODES, 3))
    arrays = jnp.asarray(EIGHT), jnp.asarray(maps), 2.0
    kept, _ = motivic.sheaf_diffuse(jnp.asarray(section), *arrays, order=3)
    assert_close(kept, section, depth=12, scale=3.0)
    moved, _ = motivic.sheaf_diffuse(jnp.asarray(other), *arrays, order=3)
    assert np.linalg.norm(moved) < np.linalg.norm(other)
    assert_close(jnp.sum(moved * section), np.sum(other * section), depth=20, scale=5.0)


@pytest.mark.usefixtures("x64")
def test_diffusion_ends_in_the_nearest_section(random: np.random.Generator) -> None:
    maps, field = with_holonomies(turn(3.0), np.eye(3)), random.normal(size=(NODES, 3))
    arrays = jnp.asarray(field), jnp.asarray(EIGHT), jnp.asarray(maps)
    far, error = motivic.sheaf_diffuse(*arrays, 150.0, order=flow.order_for(600.0, 1e-10))
    values, vectors = np.linalg.eigh(dense(EIGHT, maps, NODES))
    kernel = vectors[:, values < 1e-9]
    assert np.exp(-150 * values[kernel.shape[1]]) < 1e-12
    assert error < 1e-8
    assert np.linalg.norm(np.asarray(far).ravel() - kernel @ kernel.T @ field.ravel()) < 1e-8


@pytest.mark.usefixtures("x64")
def test_diffusion_of_components_is_diffusion_of_each(random: np.random.Generator) -> None:
    # Maps of one do not mix components: each diffuses as on the plain graph.
    field = random.normal(size=(NODES, 2))
    maps = jnp.asarray(np.tile(np.eye(2), (6, 2, 1, 1)))
    got, _ = motivic.sheaf_diffuse(jnp.asarray(field), jnp.asarray(EIGHT), maps, 0.4, order=40)
    graph = networkx.laplacian_matrix(networkx.Graph(EIGHT.tolist()), nodelist=range(NODES)).toarray()
    assert_close(got, expm(-0.4 * graph) @ field, depth=40, scale=3.0)
    assert_close(got.T.ravel(), block_diag(*[expm(-0.4 * graph)] * 2) @ field.T.ravel(), depth=40, scale=3.0)


def test_nothing_moves_without_edges(dtype: np.dtype) -> None:
    field = jnp.arange(6, dtype=dtype).reshape(3, 2)
    edges, maps = jnp.zeros((0, 2), jnp.int32), jnp.zeros((0, 2, 2, 2), dtype)
    out, error = motivic.sheaf_diffuse(field, edges, maps, 5.0, order=2)
    assert np.array_equal(out, field)
    assert error == 0


def test_time_runs_forwards() -> None:
    arrays = jnp.ones((2, 1)), jnp.array([[0, 1]]), jnp.ones((1, 2, 1, 1))
    with pytest.raises(DomainError) as error:
        motivic.sheaf_diffuse(*arrays, -0.5, order=2)
    assert str(error.value) == (
        "sheaf_diffuse: a flow runs forwards.\n"
        "  got:  time=-0.5\n"
        "  want: time >= 0\n"
        "  fix:  use a time of zero or more; diffusion has no inverse."
    )
    assert jnp.isnan(motivic.sheaf_diffuse(*arrays, jnp.float32(-0.5), order=2)[0]).all()


def test_a_negative_order_is_refused() -> None:
    with pytest.raises(OptionError, match="got:  order=-1"):
        motivic.sheaf_diffuse(jnp.ones((2, 1)), jnp.array([[0, 1]]), jnp.ones((1, 2, 1, 1)), 1.0, order=-1)


def test_maps_of_other_edges_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"edges int32\[1, 2\], maps float32\[2, 2, 1, 1\], field float32\[2, 1\]"):
        motivic.coboundary(jnp.ones((2, 1)), jnp.array([[0, 1]]), jnp.ones((2, 2, 1, 1)))


def test_a_path_of_edges_alone_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"holonomy: .*\n  got:  path int32\[3\]"):
        motivic.holonomy(jnp.arange(3), jnp.ones((3, 2, 1, 1)))
