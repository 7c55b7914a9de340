"""Derivatives of ``qga.attention`` beyond the first gradient, and how it goes through transformations of JAX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qga import attention
from tests.qga.dense_attention import dense_attention
from tests.qga.exact.compare import is_real, of_dtype, run, size_of
from tests.qga.exact.options import Arrays, Row, Shape, bias_of, draw_segments
from tests.qga.tolerances import assert_close, assert_far

SMALL = Shape(batch=2, queries=5, keys=7, heads=4, key_heads=2, width=4, channels=3)


def _draw(random: np.random.Generator, shape: Shape) -> Arrays:
    return {
        "bias": random.normal(size=(1, shape.heads, shape.queries, shape.keys)),
        "alibi": random.uniform(0.1, 0.5, shape.heads), "sinks": random.normal(size=shape.heads),
        "by_pair": random.normal(size=(shape.heads, shape.queries + shape.keys)),
        "scale": random.uniform(0.3, 1, shape.heads), **draw_segments(random, shape),
    }  # fmt: skip


def _options(arrays: Arrays) -> Arrays:
    shift = arrays["query"].shape[1] - 1

    def score_mod(score: Any, batch: Any, head: Any, query: Any, key: Any) -> Any:
        return score * arrays["by_pair"][head, key - query + shift]

    return {
        "segment_ids": (arrays["asking"], arrays["looked_at"]), "score_mod": score_mod, "softcap": 3.0,
        **{name: arrays[name] for name in ("bias", "alibi", "sinks", "scale")},
    }  # fmt: skip


FULL = Row("everything", _options, _draw, SMALL, 3)
RAYS = Row("fidelity", lambda a: {"metric": "fidelity", "scale": a["bias"][0, :, 0, 0], "is_causal": True},
           bias_of(False, True, False, False), SMALL, 3)  # fmt: skip
ONE = Row("one query", lambda a: {"bias": a["bias"], "window": (4, 2)}, bias_of(True, True, True, True),
          SMALL._replace(queries=1), 3)  # fmt: skip


def totals(row: Row, arrays: Arrays, **more: Any) -> tuple[Callable[[Arrays], Any], Callable[[Arrays], Any], Arrays]:
    """Return the sum of a bent result by tiles and by the dense formula, as functions of what is real."""
    moving = {name: each for name, each in arrays.items() if is_real(each)}

    def total(function: Callable, **more: Any) -> Callable[[Arrays], Any]:
        def of(moving: Arrays) -> Any:
            out, log_sums = run(function, row, arrays | moving, **more)
            return jnp.sum(jnp.sin(out)) + jnp.sum(jnp.square(jnp.where(jnp.isneginf(log_sums), 0, log_sums)))

        return of

    return total(attention, tile=row.tile, return_lse=True, **more), total(dense_attention), moving


def require_same(got: Any, want: Any, dtype: Any = np.float64) -> None:
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert one.dtype == dtype
        assert_close(one, other, depth=50, scale=10 * size_of(np.asarray(other)))
    assert_far(jax.tree.leaves(got)[0], 1.01 * jax.tree.leaves(want)[0] + 0.01)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("row", [FULL, RAYS, ONE], ids=lambda row: row.name)
@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_second_derivatives_are_those_of_the_dense_formula(row: Row, mode: str, random: np.random.Generator) -> None:
    ours, dense, moving = totals(row, of_dtype(row.arrays(random), jnp.float64))
    way = jax.tree.map(jnp.cos, moving)

    def along(total: Callable[[Arrays], Any]) -> Callable[[Arrays], Any]:
        if mode == "forward":
            return jax.jit(lambda moving: jax.jvp(jax.grad(total), (moving,), (way,))[1])
        inner = lambda moving: sum(jax.tree.leaves(jax.tree.map(jnp.vdot, jax.grad(total)(moving), way)))  # noqa: E731
        return jax.jit(jax.grad(inner))

    require_same(along(ours)(moving), along(dense)(moving))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("row", [FULL, RAYS, ONE], ids=lambda row: row.name)
def test_all_derivatives_include_forward_mode(row: Row, random: np.random.Generator) -> None:
    ours, dense, moving = totals(row, of_dtype(row.arrays(random), jnp.float64), derivatives="all")
    way = jax.tree.map(jnp.cos, moving)
    got, want = (
        jax.jit(lambda moving, total=each: jax.jvp(total, (moving,), (way,)))(moving) for each in (ours, dense)
    )
    require_same(got, want)


def test_reverse_derivatives_have_no_forward_mode_of_the_first_order(random: np.random.Generator) -> None:
    ours, _, moving = totals(ONE, of_dtype(ONE.arrays(random), jnp.float32))
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(ours, (moving,), (moving,))


def test_memory_that_is_made_again_and_a_loop_change_no_gradient(random: np.random.Generator) -> None:
    shape = Shape(batch=1, queries=9, keys=9, heads=2, key_heads=2, width=4, channels=4)
    arrays = of_dtype(
        Row("", shape=shape).arrays(random) | bias_of(False, True, True, True)(random, shape), jnp.float32
    )

    def total(function: Callable, wrap: Callable, arrays: Arrays) -> Any:
        def layer(rows: Any, _: None) -> tuple[Any, None]:
            keys = rows + arrays["key"]
            return rows + function(rows, keys, jnp.tanh(keys), arrays["bias"], is_causal=True), None

        return jnp.sum(jnp.square(jax.lax.scan(wrap(layer), arrays["query"], length=3)[0]))

    dense = lambda *rows, **more: dense_attention(*rows, **more)[0]  # noqa: E731
    tiles = lambda *rows, **more: attention(*rows, tile=4, **more)  # noqa: E731
    plain, again, want = (
        jax.jit(lambda arrays, f=f, w=w: jax.grad(lambda arrays: total(f, w, arrays))(arrays))(arrays)
        for f, w in ((tiles, lambda layer: layer), (tiles, jax.checkpoint), (dense, lambda layer: layer))
    )
    require_same(plain, want, np.float32)
    require_same(again, want, np.float32)


def test_more_axes_of_a_batch_are_mapped_like_a_loop() -> None:
    entries = [of_dtype(FULL.arrays(np.random.default_rng(seed)), jnp.float32) for seed in (1, 2)]

    def gradient(arrays: Arrays) -> Arrays:
        total, _, moving = totals(FULL, arrays)
        return jax.grad(total)(moving)

    mapped = jax.jit(jax.vmap(gradient))(jax.tree.map(lambda *each: jnp.stack(each), *entries))
    one = jax.jit(gradient)
    require_same(mapped, jax.tree.map(lambda *each: jnp.stack(each), *map(one, entries)), np.float32)


def test_compiled_or_not_is_rounding_alone(random: np.random.Generator) -> None:
    arrays = of_dtype(FULL.arrays(random), jnp.float32)
    ours, _, moving = totals(FULL, arrays)
    require_same(jax.jit(jax.grad(ours))(moving), jax.grad(ours)(moving), np.float32)


def test_arrays_that_a_function_closes_over_are_differentiated_outside_of_jit_too(random: np.random.Generator) -> None:
    ours, dense, moving = totals(FULL, of_dtype(FULL.arrays(random), jnp.float32))
    alone = {"by_pair": moving["by_pair"]}
    got, want = (jax.grad(lambda part, f=f: f(moving | part))(alone) for f in (ours, dense))
    require_same(got, want, np.float32)
