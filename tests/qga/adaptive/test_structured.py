"""Attention over points: every bound holds against float64, whatever the points are, and far tiles are replaced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from qga import OptionError, adaptive_attention, attention, structured_attention
from qga.adaptive import nodes, point_plan, structured
from qga.tiling import Certified

# So many that nodes pay, and no whole tiles.
QUERIES, KEYS, HEADS, EPS = 2500, 2700, 2, 1e-2
Points = tuple[np.ndarray, np.ndarray, np.ndarray]
Result = tuple[Any, Any]


def attend(query: Any, key: Any, value: Any, scale: Any) -> Result:
    return structured_attention(query, key, value, scale=scale, resolution=Certified(EPS))


run = jax.jit(attend)


def draw(width: int = 2, channels: int = 3, queries: int = QUERIES, keys: int = KEYS) -> Points:
    random = np.random.default_rng(3)
    query = random.uniform(size=(1, queries, HEADS, width)).astype(np.float32)
    key = random.uniform(size=(1, keys, 1, width)).astype(np.float32)
    value = np.sin(5 * key @ random.normal(size=(width, channels))) + random.normal(size=(1, keys, 1, channels)) / 20
    return query, key, value.astype(np.float32)


def exact_weights(query: np.ndarray, key: np.ndarray, scale: Any) -> np.ndarray:
    """Weights of all keys in double precision, [batch, queries, heads, keys]."""
    query, key = (np.asarray(each, np.float64) for each in (query, key))
    squares = np.sum(np.square(query[:, :, :, None] - np.swapaxes(key, 1, 2)[:, None]), axis=-1)
    scores = -np.reshape(np.float64(scale), (-1, 1)) / 2 * squares
    weights = np.exp(scores - np.max(scores, axis=-1, keepdims=True))
    return weights / np.sum(weights, axis=-1, keepdims=True)


def check(points: Points, scale: Any, found: Result) -> None:
    """Every query's error is below its bound, and the promise is kept."""
    query, key, value = points
    out, certificate = found
    exact = exact_weights(query, key, scale) @ np.float64(value)[:, None, :, 0]
    errors = np.linalg.norm(np.float64(out) - exact, axis=-1)
    assert np.all(errors <= np.asarray(certificate.out_error))
    assert bool(jnp.all(certificate.sound == (certificate.total_variation <= EPS)))


def needle(points: Points) -> Points:
    """One key of a huge value in the middle of the others."""
    value = points[2].copy()
    value[0, 500] = 1e4
    return points[0], points[1], value


def duplicates(points: Points) -> Points:
    query, key, value = (each.copy() for each in points)
    key[0, 100:600] = key[0, 100]
    query[0, :300] = key[0, 100]
    return query, key, value


def far_away(points: Points) -> Points:
    """Points far from the origin, and queries far from every key."""
    query, key, value = points[0] + 100, points[1] + 100, points[2]
    query[0, :5] += 30
    return query, key, value


def outliers(points: Points) -> Points:
    query, key, value = (each.copy() for each in points)
    key[0, 7], query[0, 9], key[0, 8] = 1e4, -1e6, -1e20
    return query, key, value


def clusters(points: Points) -> Points:
    query, key, value = points
    return np.round(2 * query) + 1e-3 * query, np.round(2 * key) + 1e-3 * key, value


SETS: dict[str, tuple[Callable[[Points], Points], float]] = {
    "smooth": (lambda points: points, 10.0), "narrow": (lambda points: points, 4000.0),
    "flat": (lambda points: points, 0.0), "needle": (needle, 10.0), "duplicates": (duplicates, 30.0),
    "far away": (far_away, 20.0), "outliers": (outliers, 20.0), "clusters": (clusters, 40.0),
}  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_every_query_is_closer_than_its_bound(name: str) -> None:
    change, scale = SETS[name]
    points, scales = change(draw()), np.float32([scale, scale / 2])
    found = run(*points, scales)
    check(points, scales, found)
    if name not in ("outliers", "far away"):
        assert bool(jnp.all(found[1].sound))


@pytest.mark.parametrize("lost", ["query", "key"])
def test_what_is_no_number_is_not_sound(lost: str) -> None:
    points = draw()
    points[("query", "key").index(lost)][0, 5] = np.nan
    out, certificate = run(*points, 100.0)
    is_lost = np.any(np.isnan(out), axis=-1)
    assert np.sum(is_lost) == (HEADS if lost == "query" else is_lost.size)
    assert not np.any(np.asarray(certificate.sound)[is_lost])
    assert np.all(np.isinf(np.asarray(certificate.out_error)[is_lost]))
    if lost == "query":
        assert np.all(np.asarray(certificate.sound)[~is_lost])


def test_points_whose_squares_overflow_are_not_sound() -> None:
    query, key, value = draw(queries=70, keys=90)
    for size, is_sound in ((1.0, True), (1e30, False)):
        out, certificate = run(np.float32(size) * query, np.float32(size) * key, value, np.float32([1.0, 1.0]))
        assert bool(jnp.all(certificate.sound)) == is_sound == bool(jnp.all(jnp.isfinite(out)))
        assert bool(jnp.any(certificate.sound)) == is_sound
        assert np.all(np.isinf(np.asarray(certificate.out_error))) != is_sound


def test_far_tiles_are_replaced_and_narrow_ones_left_out() -> None:
    points = draw()
    smooth, narrow = (run(*points, np.float32([scale, scale]))[1] for scale in (4.0, 4000.0))
    assert float(jnp.mean(smooth.saved)) > 0.9
    assert not np.any(np.asarray(smooth.tiles_exact))
    assert float(jnp.mean(narrow.tiles_skipped)) > 0.3 * 43
    for certificate in (smooth, narrow):
        total = certificate.tiles_exact + certificate.tiles_coarse + certificate.tiles_skipped
        assert np.all(np.asarray(total) == 43)


@pytest.mark.parametrize("broken", ["window", pytest.param("weight", marks=pytest.mark.exhaustive)])
def test_what_is_worse_than_its_bound_is_noticed(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    points, scales = draw(), np.float32([10.0, 300.0])
    nodes_of, lost, reach_of = nodes.nodes_of, nodes._lost, point_plan.reach_of
    if broken == "window":
        monkeypatch.setattr(structured, "nodes_of", lambda *given: replace(nodes_of(*given), reach=1.0))
        monkeypatch.setattr(nodes, "_lost", lambda reach, *given: lost(reach + 3, *given))
    else:
        monkeypatch.setattr(structured, "_WORTH", 2.0)
        too_low = lambda *given: (lambda reach: reach._replace(upper=reach.upper - 14))(reach_of(*given))  # noqa: E731
        monkeypatch.setattr(point_plan, "reach_of", too_low)
    found = jax.jit(lambda *given: attend(*given))(*points, scales)
    with pytest.raises(AssertionError):
        check(points, scales, found)


def test_weights_are_as_near_as_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values that are all different directions show the weights themselves."""
    monkeypatch.setattr(structured, "_PAYS", 1.0)
    query, key, _ = draw(queries=1024, keys=1024)
    value = np.eye(1024, dtype=np.float32)[None, :, None]
    out, certificate = jax.jit(lambda *given: attend(*given))(query, key, value, np.float32([8.0, 100.0]))
    assert float(jnp.mean(certificate.saved)) > 0.9
    weights = exact_weights(query, key, [8.0, 100.0])
    found = np.float64(out)
    assert np.all(np.sum(np.abs(found - weights), axis=-1) / 2 <= np.asarray(certificate.total_variation))
    there = found > 0
    divergence = np.sum(
        np.where(there, found * np.log(np.where(there, found / np.maximum(weights, 1e-300), 1)), 0), axis=-1
    )
    assert np.all(divergence <= np.asarray(certificate.kl) + 1e-6)


def is_close_in_full(eps: float, scale: float) -> bool:
    """Tell whether bounds of some queries on a line, in double precision, hold against 40 digits; all are sound."""
    query, key, value = (each[:, :, :1].astype(np.float64) for each in draw(1, 1))
    attend = jax.jit(lambda *rows: structured_attention(*rows[:3], scale=rows[3], resolution=Certified(eps)))
    out, certificate = attend(query, key, value, np.float64([scale]))
    assert bool(jnp.all(certificate.sound))
    assert float(jnp.mean(certificate.saved)) > 0.9
    with mpmath.workdps(40):
        errors = []
        for at in range(0, QUERIES, QUERIES // 4):
            steps = [mpmath.mpf(float(each)) - mpmath.mpf(float(query[0, at, 0, 0])) for each in key[0, :, 0, 0]]
            weights = [mpmath.exp(-mpmath.mpf(scale) / 2 * step**2) for step in steps]
            exact = mpmath.fdot(weights, map(float, value[0, :, 0, 0])) / mpmath.fsum(weights)
            errors.append(abs(mpmath.mpf(float(out[0, at, 0, 0])) - exact) <= float(certificate.out_error[0, at, 0]))
    return all(errors)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("eps", "scale"),
    [(1e-10, 0.0), *(pytest.param(*each, marks=pytest.mark.exhaustive) for each in ((1e-11, 10.0), (1e-6, 300.0)))],
)
def test_double_precision_keeps_small_promises(eps: float, scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structured, "_PAYS", 1.0)
    assert is_close_in_full(eps, scale)
    if scale == 0:
        monkeypatch.setattr(nodes, "least_of", lambda dtype: 1e-7)
        assert not is_close_in_full(eps, scale)


@pytest.mark.exhaustive
@pytest.mark.parametrize("width", [1, 3, 5, 40])
def test_every_width_is_within_its_bound(width: int) -> None:
    points, scales = draw(width), np.float32([6.0, 60.0]) / width
    check(points, scales, run(*points, scales))


def test_nodes_in_space_are_within_their_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structured, "_PAYS", 20.0)
    points, scales = draw(3), np.float32([2.0, 10.0])
    found = jax.jit(lambda *given: attend(*given))(*points, scales)
    assert float(jnp.mean(found[1].saved)) > 0.9
    check(points, scales, found)


def test_what_cannot_pay_is_exact_attention() -> None:
    """In space nodes cost more than they save for so few points: nothing is sorted, everything is scored."""
    points = draw(3)
    out, certificate = run(*points, np.float32([10.0, 10.0]))
    np.testing.assert_array_equal(certificate.tiles_exact, 43)
    exact = jax.jit(lambda *rows: attention(*rows, metric="gauss", scale=10.0))(*points)
    np.testing.assert_allclose(out, exact, atol=2e-5)


@pytest.mark.exhaustive
def test_a_line_of_few_points_is_scored() -> None:
    points = draw(1, 1, 5, 7)
    found = run(*points, np.float32([9.0, 90.0]))
    check(points, np.float32([9.0, 90.0]), found)
    np.testing.assert_array_equal(found[1].tiles_exact, 1)


@pytest.mark.exhaustive
def test_half_precision_and_rows_without_batch() -> None:
    query, key, value = (each.astype(np.float16) for each in draw())
    out, certificate = run(query[0], key[0], value[0], 10.0)
    assert out.dtype == jnp.float16
    check((query, key, value), 10.0, (out[None], jax.tree.map(lambda each: each[None], certificate)))


def test_vulkan_makes_the_same_plan(vulkan: jax.Device) -> None:
    points, scales = draw(), np.float32([40.0, 400.0])
    cpu, other = (
        run(*(jax.device_put(each, device) for each in (*points, scales))) for device in (jax.devices("cpu")[0], vulkan)
    )
    assert other[0].devices() == {vulkan}
    np.testing.assert_array_equal(cpu[1].tiles_coarse, other[1].tiles_coarse)
    np.testing.assert_array_equal(cpu[1].tiles_skipped, other[1].tiles_skipped)
    check(points, scales, other)
    np.testing.assert_allclose(other[0], cpu[0], atol=2e-5)


@pytest.mark.parametrize(
    ("resolution", "scale", "got"),
    [(Certified(0.0), 1.0, "eps=0.0"), (0.5, 1.0, "0.5"), (Certified(1e-2), -1.0, "scale=-1.0"),
     (Certified(1e-2, products="half"), 1.0, "half")],
)  # fmt: skip
def test_impossible_options_are_refused(resolution: Any, scale: float, got: str) -> None:
    with pytest.raises(OptionError) as failure:
        structured_attention(*draw(queries=8, keys=8), scale=scale, resolution=resolution)
    assert got in str(failure.value)
    assert "pass resolution=qga.tiling.Certified(1e-2)" in str(failure.value)


@pytest.mark.parametrize("function", [structured_attention, partial(adaptive_attention, metric="gauss")])
@pytest.mark.parametrize(
    ("queries", "keys", "width", "channels"),
    [
        *(pytest.param(*each, marks=pytest.mark.exhaustive) for each in ((0, 3, 2, 1), (3, 3, 0, 1))),
        (3, 0, 2, 1), (3, 3, 2, 0),
    ],
)  # fmt: skip
def test_arrays_may_be_empty(function: Any, queries: int, keys: int, width: int, channels: int) -> None:
    asking, looked_at, value = (jnp.ones((n, 1, m)) for n, m in ((queries, width), (keys, width), (keys, channels)))
    out, certificate = function(asking, looked_at, value, resolution=Certified(EPS))
    np.testing.assert_array_equal(out, np.full((queries, 1, channels), 1.0 if keys else 0.0))
    np.testing.assert_array_equal(out, attention(asking, looked_at, value, metric="gauss"))
    assert bool(jnp.all(certificate.sound))


def test_results_are_those_of_attention() -> None:
    points = draw()
    out, _ = run(*points, np.float32([10.0, 10.0]))
    np.testing.assert_allclose(
        out, jax.jit(lambda *rows: attention(*rows, metric="gauss", scale=10.0))(*points), atol=1e-2
    )


def test_gradients_are_those_of_attention() -> None:
    query, key, value = (each[:, :, :1] for each in draw(channels=2))
    cotangent = np.cos(4 * query)
    functions = attend, lambda *given: attention(*given[:3], metric="gauss", scale=given[3])[None]
    ours, exact = (
        jax.jit(jax.grad(lambda *given, function=function: jnp.sum(cotangent * function(*given)[0]), (0, 1, 2, 3)))
        for function in functions
    )

    def difference(scale: float) -> float:
        """Return the largest distance of our gradients at one scale and exact ones at another, by their lengths."""
        pairs = zip(
            ours(query, key, value, jnp.float32([11])), exact(query, key, value, jnp.float32([scale])), strict=True
        )
        return max(float(jnp.linalg.norm(one - other) / jnp.linalg.norm(other)) for one, other in pairs)

    assert float(jnp.mean(run(query, key, value, jnp.float32([11]))[1].saved)) > 0.5
    assert difference(11) < EPS < difference(11.5)


def test_a_scale_of_zero_has_a_derivative() -> None:
    query, key, value = (each[:, :, :1] for each in draw(channels=2))
    functions = attend, lambda *given: attention(*given[:3], metric="gauss", scale=given[3])[None]
    ours, exact = (
        jax.jit(jax.grad(lambda scale, *rows, each=each: jnp.sum(rows[0] * each(*rows, scale)[0])))(
            jnp.zeros(1), query, key, value
        )
        for each in functions
    )
    # Second derivatives of the ripple, which are at most this part of those of a weight along either axis.
    np.testing.assert_allclose(ours, exact, rtol=2 * EPS)
