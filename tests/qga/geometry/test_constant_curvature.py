"""Spaces of constant curvature: equations, isometries, stable distances, the flat limit (theory G-1, G-2, T-16)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm

from qga import OptionError, ShapeError
from qga.geometry import constant_curvature as space
from tests.qga.tolerances import assert_close, assert_far, bound

CURVATURES = [-2.5, -1.0, -1e-6, 0.0, 1e-6, 0.6]
CURVED = [-2.5, -1.0, 0.6]
# A chain of about ten operations, each of which rounds once.
CHAIN = 10.0


def draw_points(random: np.random.Generator, curvature: float, count: int, dtype: np.dtype) -> list[jax.Array]:
    spatial = jnp.asarray(0.4 * random.normal(size=(count, 5, 3)), dtype)
    return list(space.project(spatial, curvature=curvature))


def draw_tangent(random: np.random.Generator, point: jax.Array, curvature: float) -> jax.Array:
    spatial = jnp.asarray(random.normal(size=(5, 3)), point.dtype)
    time = -curvature * jnp.sum(point[:, 1:] * spatial, axis=-1) / point[:, 0]
    return jnp.concatenate([time[:, None], spatial], axis=-1)


def lorentz(random: np.random.Generator, curvature: float) -> np.ndarray:
    """Draw a matrix that keeps t^2 + kappa |x|^2: boosts and rotations."""
    form = np.diag([1.0, curvature, curvature, curvature])
    turns = random.normal(size=(4, 4))
    return expm(np.linalg.solve(form, 0.4 * (turns - turns.T)))


@pytest.mark.parametrize("curvature", CURVED)
def test_project_makes_points(curvature: float, random: np.random.Generator, dtype: np.dtype) -> None:
    (point,) = draw_points(random, curvature, 1, dtype)
    assert_close(space.inner(point, point, curvature=curvature), np.full(5, 1 / curvature), scale=CHAIN)
    assert_far(space.inner(1.01 * point, 1.01 * point, curvature=curvature), np.full(5, 1 / curvature))


def test_project_has_no_point_beyond_the_equator() -> None:
    assert np.isnan(space.project(jnp.array([1.5]), curvature=1.0)[0])


@pytest.mark.parametrize("curvature", CURVATURES)
def test_exponential_undoes_logarithm(curvature: float, random: np.random.Generator, dtype: np.dtype) -> None:
    start, end = draw_points(random, curvature, 2, dtype)
    tangent = space.logarithm(start, end, curvature=curvature)
    assert_close(space.exponential(start, tangent, curvature=curvature), end, scale=CHAIN)
    assert_far(space.exponential(start, 1.01 * tangent, curvature=curvature), end)


@pytest.mark.parametrize("curvature", CURVATURES)
def test_logarithm_undoes_exponential(curvature: float, random: np.random.Generator, dtype: np.dtype) -> None:
    (start,) = draw_points(random, curvature, 1, dtype)
    tangent = draw_tangent(random, start, curvature)
    end = space.exponential(start, tangent, curvature=curvature)
    # Walking stretches by up to cosh of the length, and so does the rounding.
    assert_close(space.logarithm(start, end, curvature=curvature), tangent, scale=5 * CHAIN)


@pytest.mark.parametrize("curvature", CURVED)
def test_exponential_stays_in_the_space(curvature: float, random: np.random.Generator, dtype: np.dtype) -> None:
    (start,) = draw_points(random, curvature, 1, dtype)
    end = space.exponential(start, draw_tangent(random, start, curvature), curvature=curvature)
    size = float(jnp.max(jnp.square(end))) / abs(curvature)
    assert_close(space.inner(end, end, curvature=curvature), np.full(5, 1 / curvature), scale=CHAIN * max(size, 1))


@pytest.mark.parametrize("curvature", CURVATURES)
def test_exponential_walks_the_length_of_the_tangent(
    curvature: float, random: np.random.Generator, dtype: np.dtype
) -> None:
    (start,) = draw_points(random, curvature, 1, dtype)
    tangent = draw_tangent(random, start, curvature)
    length = jnp.sqrt(space.inner(tangent, tangent, curvature=curvature))
    tangent = tangent / length[:, None]
    end = space.exponential(start, tangent, curvature=curvature)
    assert_close(space.distance(start, end, curvature=curvature), np.ones(5), scale=2 * CHAIN)
    assert_far(space.distance(start, start + tangent, curvature=-1.0), np.ones(5))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("curvature", CURVED)
def test_distance_is_the_arc_of_the_inner_product(curvature: float, random: np.random.Generator) -> None:
    first, second = draw_points(random, curvature, 2, np.dtype(float))
    cosine = curvature * np.asarray(space.inner(first, second, curvature=curvature))
    want = (np.arccos(cosine) if curvature > 0 else np.arccosh(cosine)) / abs(curvature) ** 0.5
    assert_close(space.distance(first, second, curvature=curvature), want, scale=CHAIN)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    places=st.lists(st.floats(-0.625, 0.625, width=32), min_size=6, max_size=6),
    curvature=st.sampled_from([-2.0, -0.1, 0.0, 0.1, 0.9]),
)
def test_distance_obeys_the_triangle_inequality(places: list[float], curvature: float) -> None:
    points = space.project(jnp.asarray(places, jnp.float32).reshape(3, 2), curvature=curvature)
    one, two, three = (
        float(space.distance(points[i], points[j], curvature=curvature)) for i, j in ((0, 1), (1, 2), (0, 2))
    )
    assert three <= one + two + bound(np.float32, scale=CHAIN)
    assert max(one + two + three, 0) == one + two + three


def exact_distance(first: np.ndarray, second: np.ndarray) -> float:
    with mpmath.workdps(50):
        one, two = ([mpmath.mpf(float(x)) for x in point] for point in (first, second))
        times = [mpmath.sqrt(1 + mpmath.fsum(x * x for x in point)) for point in (one, two)]
        inner = times[0] * times[1] - mpmath.fsum(a * b for a, b in zip(one, two, strict=True))
        return float(mpmath.acosh(inner))


@pytest.mark.parametrize(("norm", "allowed"), [(0.5, 2e-7), (30.0, 1e-5)])
@pytest.mark.parametrize("separation", [1e-2, 1e-3, 1e-4, 1e-5, 1e-6])
def test_distance_of_near_points_keeps_its_digits(
    norm: float, allowed: float, separation: float, random: np.random.Generator
) -> None:
    for _ in range(10):
        place, step = random.normal(size=(2, 4))
        first = (norm * place / np.linalg.norm(place)).astype(np.float32)
        second = (first + norm * separation * step / np.linalg.norm(step)).astype(np.float32)
        want = exact_distance(first, second)
        one, two = (space.project(jnp.asarray(each), curvature=-1.0) for each in (first, second))
        got = float(space.distance(one, two, curvature=-1.0))
        # The claimed ratio, or three roundings of the root, the product and the asinh.
        assert abs(got - want) <= max(allowed, 3 * 2.0**-23) * want


def test_distance_by_arccosh_loses_every_digit() -> None:
    # The negative twin of the test above.
    first = space.project(jnp.array([0.5, 0.0], jnp.float32), curvature=-1.0)
    second = space.project(jnp.array([0.50001, 0.0], jnp.float32), curvature=-1.0)
    naive = float(jnp.arccosh(jnp.maximum(-space.inner(first, second, curvature=-1.0), 1)))
    want = exact_distance(np.asarray(first[1:]), np.asarray(second[1:]))
    assert abs(naive - want) > 0.5 * want


def test_distance_of_antipodes_keeps_its_digits() -> None:
    south = jnp.array([-1.0, 1e-5, 0.0], jnp.float32)
    got = space.distance(jnp.array([1.0, 0.0, 0.0], jnp.float32), south, curvature=1.0)
    assert_close(got, np.pi - 1e-5, scale=4.0)


@pytest.mark.parametrize("curvature", CURVATURES)
def test_transport_keeps_inner_products(curvature: float, random: np.random.Generator, dtype: np.dtype) -> None:
    start, end = draw_points(random, curvature, 2, dtype)
    one, two = (draw_tangent(random, start, curvature) for _ in range(2))
    moved = [space.transport(tangent, start, end, curvature=curvature) for tangent in (one, two)]
    want = space.inner(one, two, curvature=curvature)
    # In the ambient form the time parts, of order kappa, are squared and divided by kappa.
    assert_close(space.inner(*moved, curvature=curvature), want, scale=10 * CHAIN)
    assert_far(space.inner(moved[0], 1.01 * moved[1], curvature=curvature), want)


@pytest.mark.parametrize("curvature", CURVED)
def test_transport_makes_tangents(curvature: float, random: np.random.Generator, dtype: np.dtype) -> None:
    start, end = draw_points(random, curvature, 2, dtype)
    tangent = draw_tangent(random, start, curvature)
    moved = space.transport(tangent, start, end, curvature=curvature)
    assert_close(space.inner(moved, end, curvature=curvature), np.zeros(5), scale=5 * CHAIN)
    assert_far(space.inner(tangent, end, curvature=curvature), np.zeros(5))


@pytest.mark.parametrize("curvature", CURVATURES)
def test_transport_is_undone_by_the_way_back(curvature: float, random: np.random.Generator, dtype: np.dtype) -> None:
    start, end = draw_points(random, curvature, 2, dtype)
    tangent = draw_tangent(random, start, curvature)
    there = space.transport(tangent, start, end, curvature=curvature)
    assert_close(space.transport(there, end, start, curvature=curvature), tangent, scale=5 * CHAIN)


@pytest.mark.parametrize("curvature", CURVED)
def test_transport_carries_the_direction_of_the_geodesic(
    curvature: float, random: np.random.Generator, dtype: np.dtype
) -> None:
    start, end = draw_points(random, curvature, 2, dtype)
    there = space.transport(space.logarithm(start, end, curvature=curvature), start, end, curvature=curvature)
    assert_close(there, -space.logarithm(end, start, curvature=curvature), scale=5 * CHAIN)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("curvature", CURVED)
def test_distance_is_invariant_under_isometries(curvature: float, random: np.random.Generator) -> None:
    first, second = draw_points(random, curvature, 2, np.dtype(float))
    turn = jnp.asarray(lorentz(random, curvature))
    want = space.distance(first, second, curvature=curvature)
    # The matrix itself is off by its rounding times the size of its entries.
    scale = CHAIN * float(jnp.max(jnp.abs(turn))) ** 2
    assert_close(space.distance(first @ turn.T, second @ turn.T, curvature=curvature), want, scale=scale)
    assert_far(space.distance(first @ turn.T, second, curvature=curvature), want, scale=scale)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("curvature", [-1.0, 0.6])
def test_angles_of_a_triangle_show_its_area(curvature: float) -> None:
    # Golden: the regular triangle of side a in curvature -1 has cos(angle) = cosh a / (1 + cosh a) (Beardon 1983),
    # and area pi - 3 angle; on the sphere the same with cos.
    side = 0.8
    scaled = side * abs(curvature) ** 0.5
    ratio = np.cosh(scaled) if curvature < 0 else np.cos(scaled)
    want = np.arccos(ratio / (1 + ratio))
    origin = jnp.array([1.0, 0.0, 0.0])
    corners = [
        space.exponential(origin, jnp.array([0.0, side * np.cos(t), side * np.sin(t)]), curvature=curvature)
        for t in (0.0, want)
    ]
    assert_close(space.distance(*corners, curvature=curvature), side, scale=CHAIN)
    one = space.logarithm(corners[0], origin, curvature=curvature)
    two = space.logarithm(corners[0], corners[1], curvature=curvature)
    angle = np.arccos(float(space.inner(one, two, curvature=curvature)) / side**2)
    assert abs(angle - want) <= bound(np.float64, scale=CHAIN)
    assert np.sign(3 * angle - np.pi) == np.sign(curvature)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["exponential", "logarithm", "distance", "transport"])
def test_flat_limit_is_reached_linearly(name: str, random: np.random.Generator) -> None:
    first, second, third = 0.5 * random.normal(size=(3, 3))

    def evaluate(curvature: float) -> np.ndarray:
        start, end = (space.project(jnp.asarray(each), curvature=curvature) for each in (first, second))
        spatial = jnp.asarray(third)
        tangent = jnp.concatenate([-curvature * jnp.sum(start[1:] * spatial, keepdims=True) / start[:1], spatial])
        arguments = {"exponential": (start, tangent), "transport": (tangent, start, end)}.get(name, (start, end))
        return np.asarray(getattr(space, name)(*arguments, curvature=curvature))

    flat = evaluate(0.0)
    for sign in (1, -1):
        large, small = (np.abs(evaluate(sign * size) - flat).max() for size in (1e-4, 1e-5))
        assert abs(large / small - 10) < 0.05


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("curvature", [-1.0, 0.0, 0.6])
def test_flat_formulas_hold_at_the_origin(curvature: float) -> None:
    origin, tangent = jnp.array([1.0, 0.0, 0.0]), jnp.array([0.0, 0.3, 0.4])
    end = space.exponential(origin, tangent, curvature=curvature)
    assert_close(space.distance(origin, end, curvature=curvature), 0.5, scale=CHAIN)


@pytest.mark.parametrize("curvature", [-1.0, 0.0, 0.6])
def test_derivatives_at_equal_points_are_finite(curvature: float, random: np.random.Generator) -> None:
    (point,) = draw_points(random, curvature, 1, np.dtype(np.float32))
    rules = [
        jax.jacrev(lambda x: space.distance(x, point, curvature=curvature))(point),
        jax.jacrev(lambda x: space.logarithm(x, point, curvature=curvature))(point),
        jax.jacrev(lambda v: space.exponential(point, v, curvature=curvature))(jnp.zeros_like(point)),
        jax.jacrev(lambda x: space.transport(0 * x, x, point, curvature=curvature))(point),
    ]
    assert all(bool(jnp.isfinite(rule).all()) for rule in rules)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("curvature", [-1.0, 0.0, 0.6])
def test_exponential_at_zero_has_the_identity_as_derivative(curvature: float) -> None:
    origin = jnp.array([1.0, 0.0, 0.0])

    def walk(spatial: jax.Array) -> jax.Array:
        return space.exponential(origin, jnp.concatenate([jnp.zeros(1), spatial]), curvature=curvature)

    slope = jax.jacfwd(walk)(jnp.zeros(2))
    assert_close(slope, np.eye(3)[:, 1:])
    # The second derivative is that of cos(sqrt z): -kappa in the time coordinate.
    assert_close(jax.hessian(lambda v: walk(v)[0])(jnp.zeros(2)), -curvature * np.eye(2), scale=CHAIN)


def test_poincare_ball_is_the_hyperboloid(random: np.random.Generator, dtype: np.dtype) -> None:
    (point,) = draw_points(random, -2.5, 1, dtype)
    place = space.to_poincare(point, curvature=-2.5)
    assert_close(space.from_poincare(place, curvature=-2.5), point, scale=CHAIN)
    assert_far(space.from_poincare(1.01 * place, curvature=-2.5), point)


@pytest.mark.usefixtures("x64")
def test_poincare_ball_has_its_distance(random: np.random.Generator) -> None:
    # Golden: d = arccosh(1 + 2 |u - v|^2 / ((1 - |u|^2)(1 - |v|^2))) (Beardon 1983, 7.2).
    u, v = 0.3 * random.normal(size=(2, 3))
    want = np.arccosh(1 + 2 * ((u - v) @ (u - v)) / ((1 - u @ u) * (1 - v @ v)))
    one, two = (space.from_poincare(jnp.asarray(each), curvature=-1.0) for each in (u, v))
    assert_close(space.distance(one, two, curvature=-1.0), want, scale=CHAIN)


def test_coordinates_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError) as error:
        space.distance(jnp.ones(3), jnp.ones(4), curvature=-1.0)
    assert str(error.value) == (
        "distance: points and tangents have the same coordinates, time first.\n"
        "  got:  float32[3] and float32[4]\n"
        "  want: two arrays [*batch, 1 + width]\n"
        "  fix:  complete spatial coordinates with qga.geometry.constant_curvature.project."
    )


def test_infinite_curvature_is_refused() -> None:
    with pytest.raises(OptionError, match="got:  curvature=inf"):
        space.project(jnp.ones(3), curvature=float("inf"))


def test_poincare_ball_of_a_sphere_is_refused() -> None:
    with pytest.raises(OptionError, match="the Poincare ball is hyperbolic"):
        space.to_poincare(jnp.ones(3), curvature=1.0)
