"""Attention where numbers are few, large or not there: rows that see nothing, huge scores, 16 bits, many options."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qga import attention
from tests.qga.dense_attention import dense_attention
from tests.qga.exact.compare import measure, of_dtype, require_equal, run, size_of, tiled, truth
from tests.qga.exact.options import ROWS, Arrays, Row, Shape, bias_of, draw_mask, draw_segments
from tests.qga.tolerances import VULKAN_ROUNDINGS, assert_close, assert_far

BY_NAME = {row.name: row for row in ROWS}
NARROW = ["bias of pairs", "places", "sorted segments", "tables", "cosine of a number", "one query, lengths", "sinks"]
BLIND = Row("one query", lambda a: {"segment_ids": (a["asking"], jnp.zeros(71, jnp.int32))},
            lambda random, shape: {"asking": np.int32([[0], [1]])}, Shape(queries=1))  # fmt: skip
TINY = Shape(batch=2, queries=5, keys=6, heads=4, key_heads=2, width=4, channels=3)


@pytest.mark.parametrize("row", [BY_NAME["mask"], BY_NAME["lengths"], BLIND], ids=lambda row: row.name)
def test_queries_that_see_nothing_give_zeros_and_move_nothing(row: Row, random: np.random.Generator) -> None:
    arrays = of_dtype(row.arrays(random), jnp.float32)
    out, log_sums, gradients = tiled(row, arrays)
    blind = np.isneginf(np.asarray(log_sums))
    assert blind.any()
    assert not blind.all()
    assert not np.asarray(out)[blind].any()
    assert not np.asarray(gradients["query"])[blind].any()
    assert all(np.isfinite(each).all() for each in (out, *gradients.values()))
    assert np.asarray(out)[~blind].all()


def test_sinks_of_minus_infinity_are_no_sinks(random: np.random.Generator) -> None:
    row, none = BY_NAME["mask"], jnp.full(4, -jnp.inf)
    arrays = of_dtype(row.arrays(random), jnp.float32)
    got = tiled(row, arrays, sinks=none)
    require_equal(got, truth(row, arrays), row)


@pytest.mark.parametrize("options", [{}, {"is_causal": True, "softcap": 30.0}, {"score_mod": lambda s, *places: s * 2}])
def test_huge_scores_are_a_choice_of_the_largest(options: dict[str, Any], random: np.random.Generator) -> None:
    row = Row("", lambda _: {"scale": 1e4, **options})
    arrays = of_dtype(row.arrays(random), jnp.float32)
    out, log_sums, gradients = tiled(row, arrays)
    assert all(np.isfinite(each).all() for each in (out, log_sums, *gradients.values()))
    if not options:
        scores = jnp.einsum("bqhw,bkhw->bhqk", arrays["query"], jnp.repeat(arrays["key"], 2, axis=2))
        best = jnp.swapaxes(jnp.argmax(scores, axis=-1), 1, 2)
        entry, head = jnp.arange(2)[:, None, None], jnp.arange(4)[None, None, :] // 2
        picked = arrays["value"][jnp.broadcast_to(entry, best.shape), best, jnp.broadcast_to(head, best.shape)]
        apart = np.abs(np.diff(np.sort(np.swapaxes(scores, 1, 2), axis=-1)[..., -2:], axis=-1))[..., 0] > 0.01
        assert_close(np.asarray(out)[apart], np.asarray(picked)[apart], scale=4.0)


@pytest.mark.parametrize("metric", ["hyperbolic", "born_hyperbolic"])
def test_a_curvature_near_zero_costs_no_digits(metric: str, random: np.random.Generator) -> None:
    row = Row("", lambda _: {"metric": metric, "curvature": -1e-7}, shape=TINY)
    flat = Row("", lambda _: {"metric": "gauss", "scale": 1.0 if metric == "hyperbolic" else 2.0}, shape=TINY)
    arrays = of_dtype(row.arrays(random), jnp.float32)
    compute = partial(run, attention)
    got, want = (jax.jit(partial(compute, each))(arrays) for each in (row, flat))
    assert_close(got, want, depth=6, scale=8.0)
    assert_far(got, jax.jit(partial(compute, Row("")))(arrays))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("name", NARROW)
def test_16_bits_round_their_numbers_alone(name: str, dtype: Any, random: np.random.Generator) -> None:
    row = BY_NAME[name]
    arrays = of_dtype(row.arrays(random), dtype)
    got, want = tiled(row, arrays), truth(row, arrays)
    eps = float(jnp.finfo(dtype).eps)
    assert got[0].dtype == dtype
    assert got[1].dtype == jnp.float32
    # Scores are wide, weights are rounded once, sums are wide, results are rounded once.
    assert np.abs(np.asarray(got[0], float) - want[0]).max() <= 4 * eps * size_of(want[0])
    for key, other in want[2].items():
        assert got[2][key].dtype == dtype
        assert np.abs(np.asarray(got[2][key], float) - other).max() <= 16 * eps * size_of(other), key
    assert np.abs(np.asarray(got[0], float) - np.flip(want[0], 1)).max(initial=0) > 100 * eps or row.shape.queries == 1


def test_two_calls_give_the_same_bits(random: np.random.Generator) -> None:
    row = BY_NAME["tables"]
    arrays = of_dtype(row.arrays(random), jnp.float32)
    compute = jax.jit(partial(measure, attention, row, tile=row.tile, return_lse=True))
    for one, other in zip(*(jax.tree.leaves(compute(arrays)) for _ in range(2)), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize(
    "axes",
    [
        pytest.param(tuple(map(int, f"{number:04b}")), marks=[pytest.mark.exhaustive] * (number % 5 != 0))
        for number in range(16)
    ],
)
def test_a_bias_has_any_of_its_axes(axes: tuple[int, ...], random: np.random.Generator) -> None:
    row = Row("", lambda a: {"bias": a["bias"]}, bias_of(*map(bool, axes)), TINY, 4)
    arrays = of_dtype(row.arrays(random), jnp.float32)
    got = jax.jit(partial(run, attention, row, tile=4))(arrays)
    want = run(dense_attention, row, arrays)[0]
    assert_close(got, want, depth=6, scale=4.0)
    if axes[3]:
        assert_far(got, run(dense_attention, Row(""), arrays)[0])


def _mod(score: Any, batch: Any, head: Any, query: Any, key: Any) -> Any:
    return score + 0.3 * (head + batch - query * key).astype(score.dtype)


PARTS: dict[str, list[Any]] = {
    "bias": [None, bias_of(True, True, True, True), bias_of(False, True, False, True)],
    "mask": [None, draw_mask], "segments": [None, draw_segments, partial(draw_segments, is_sorted=False)],
    "window": [None, 2, (3, None), (1, 4)], "is_causal": [False, True], "softcap": [None, 2.0],
    "alibi": [None, 0.3], "sinks": [None, 0.5], "query_offset": [None, [3, -1]], "key_lengths": [None, [0, 4]],
    "query_lengths": [None, [5, 2]], "score_mod": [None, _mod],
    "mask_mod": [None, lambda batch, head, query, key: (query + key + head) % 3 > 0],
    "metric": ["dot", "gauss", "cosine", "fidelity"], "scale": [None, 2.0], "key_heads": [1, 2, 4],
    "queries": [1, 5, 9], "keys": [1, 6, 9], "tile": [3, 4, 64],
}  # fmt: skip
GRID = st.fixed_dictionaries({name: st.sampled_from(each) for name, each in PARTS.items()})


def drawn_row(parts: dict[str, Any]) -> tuple[Row, Arrays]:
    """Make a row of options and its arrays of what was drawn."""
    parts = dict(parts)
    shape = TINY._replace(**{name: parts.pop(name) for name in ("key_heads", "queries", "keys")})
    tile, drawing = parts.pop("tile"), [parts.pop(name) for name in ("bias", "mask", "segments")]

    def draw(random: np.random.Generator, shape: Shape) -> Arrays:
        return {name: each for draw in drawing if draw for name, each in draw(random, shape).items()}

    def options(arrays: Arrays) -> Arrays:
        found = {name: arrays[name] for name in ("bias", "mask") if name in arrays}
        if "asking" in arrays:
            found["segment_ids"] = arrays["asking"], arrays["looked_at"]
        for name in ("alibi", "sinks"):
            if parts[name] is not None:
                found[name] = jnp.full(4, parts[name], arrays["query"].dtype)
        for name in ("query_offset", "key_lengths", "query_lengths"):
            found[name] = None if parts[name] is None else jnp.asarray(parts[name], jnp.int32)
        return parts | found

    row = Row("drawn", options, draw, shape, tile)
    return row, of_dtype(row.arrays(np.random.default_rng(5)), jnp.float32)


@settings(deadline=None, max_examples=4, derandomize=True)
@given(parts=GRID)
def test_options_go_together(parts: dict[str, Any]) -> None:
    row, arrays = drawn_row(parts)
    out, log_sums = jax.jit(partial(run, attention, row, tile=row.tile, return_lse=True))(arrays)
    with jax.enable_x64(True):
        wide = of_dtype({name: np.asarray(each) for name, each in arrays.items()}, jnp.float64)
        want = run(dense_attention, row, wide)
    for one, other in zip((out, log_sums), want, strict=True):
        assert_close(one, other, depth=16, scale=4 * size_of(np.asarray(other)))


@settings(deadline=None, max_examples=2, derandomize=True)
@given(parts=GRID)
def test_options_go_together_on_vulkan(parts: dict[str, Any], vulkan: jax.Device) -> None:
    row, arrays = drawn_row(parts)
    compute = jax.jit(partial(measure, attention, row, tile=row.tile, return_lse=True))
    there = compute(jax.device_put(arrays, vulkan))
    for one, other in zip(jax.tree.leaves(there), jax.tree.leaves(compute(arrays)), strict=True):
        assert one.devices() == {vulkan}
        assert_close(one, other, depth=16, scale=4 * size_of(np.asarray(other)), roundings=VULKAN_ROUNDINGS)


@pytest.mark.parametrize("derivatives", ["reverse", "all"])
@pytest.mark.parametrize("name", ["places", "table"])
def test_what_a_tile_has_beyond_the_end_has_a_derivative(
    name: str, derivatives: Any, random: np.random.Generator
) -> None:
    options: dict[str, Any] = {
        "places": lambda _: {
            "score_mod": lambda score, b, h, query, key: score * jnp.sqrt((6 - key).astype(score.dtype))
        },
        "table": lambda a: {
            "bias": jnp.full((2, 4, 5, 6), 30, a["query"].dtype),
            "score_mod": lambda s, *_: jnp.sqrt(s),
        },
    }
    row = Row("", options[name], shape=TINY, tile=4)
    arrays = of_dtype(row.arrays(random), jnp.float32)
    require_equal(tiled(row, arrays, derivatives=derivatives), truth(row, arrays), row)


def test_tables_of_numpy_are_arrays(random: np.random.Generator) -> None:
    tables = {"bias": np.float32(random.normal(size=(4, 1, 6))), "mask": random.random((2, 1, 1, 6)) < 0.7}
    arrays = of_dtype(Row("", shape=TINY).arrays(random), jnp.float32)
    got, want = (
        jax.jit(partial(run, attention, Row("", lambda _, given=given: given)))(arrays)
        for given in (tables, jax.tree.map(jnp.asarray, tables))
    )
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("offset", [None, 3])
def test_a_window_may_be_as_wide_as_numbers_go(offset: int | None, random: np.random.Generator) -> None:
    row = Row("", lambda _: {"window": 2**31 - 1, "query_offset": offset}, shape=TINY)
    arrays = of_dtype(row.arrays(random), jnp.float32)
    require_equal(tiled(row, arrays), truth(Row("", shape=TINY), arrays), row)


def test_no_batch_entries_are_no_results() -> None:
    none = jnp.zeros((0, 5, 4, 4))
    assert attention(none, none, none, is_causal=True).shape == none.shape
