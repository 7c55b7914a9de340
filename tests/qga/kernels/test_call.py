"""The executor runs a body over its grid as Pallas does, and the platform decides which of the two runs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax
from jax.experimental import pallas as pl

from qga.kernels import Block, Kernel, TileRef, call_pallas, execute, launch

interpret = partial(call_pallas, interpret=True)


def scale_and_sum(place: tuple, rows: Any, factor: Any, scaled: Any, total: Any) -> None:
    """Scale a block of rows by its place, and add its rows up in two loads."""
    scaled[...] = rows[...] * factor[0, 0] + place[0].astype(jnp.float32) - place[1].astype(jnp.float32)

    def add(number: Any, carry: Any) -> Any:
        return carry + jnp.sum(rows[pl.ds(2 * number, 2), :], axis=0)

    total[...] = lax.fori_loop(0, rows.shape[0] // 2, add, jnp.zeros(rows.shape[1:], rows.dtype))


def kernel(heads: int, rows: int) -> Kernel:
    tiles = -(-rows // 4)
    whole = Block((1, 1), lambda head, tile: (0, 0))
    block = Block((None, 4, 3), lambda head, tile: (head, tile, 0))
    sums = Block((None, None, 3), lambda head, tile: (head, tile, 0))
    results = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((heads, rows, 3), (heads, tiles, 3))]
    return Kernel(scale_and_sum, (heads, tiles), [block, whole], [block, sums], results, "scale")


def arrays(random: np.random.Generator, heads: int, rows: int) -> tuple[jax.Array, jax.Array]:
    return jnp.asarray(random.normal(size=(heads, rows, 3)), jnp.float32), jnp.full((1, 1), 3.0)


@pytest.mark.parametrize("rows", [1, 3, 4, 5, 13])
def test_executor_is_interpret_mode_to_the_bit(rows: int, random: np.random.Generator) -> None:
    operands = arrays(random, 2, rows)
    got, want = (jax.jit(partial(run, kernel(2, rows)))(*operands) for run in (execute, interpret))
    assert all(np.array_equal(one, other) for one, other in zip(got, want, strict=True))


def sum_of_pairs(place: tuple, rows: Any, total: Any) -> None:
    """Add rows up in two loads whose first elements are a counter's and, as another dtype, a place's."""
    column = place[1] * 0

    def add(number: Any, carry: Any) -> Any:
        return carry + jnp.sum(rows[pl.ds(2 * number, 2), pl.ds(column, 3)], axis=0)

    total[...] = lax.fori_loop(0, 2, add, jnp.zeros(3, rows.dtype))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("last", [0, np.int32(0), np.int64(0)])
def test_executor_is_interpret_mode_with_wide_integers(dtype: str, last: Any, random: np.random.Generator) -> None:
    with jax.enable_x64(True):
        rows = jnp.asarray(random.normal(size=(2, 12, 3)), dtype)
        block = Block((None, 4, 3), lambda head, tile: (head, tile, jnp.asarray(last)))
        sums = Block((None, None, 3), lambda head, tile: (head, tile, 0))
        pairs = Kernel(sum_of_pairs, (2, 3), [block], [sums], [jax.ShapeDtypeStruct((2, 3, 3), dtype)], "pairs")
        (got,), (want,) = (jax.jit(partial(run, pairs))(rows) for run in (execute, interpret))
        assert np.array_equal(got, want)
        np.testing.assert_allclose(
            got, np.asarray(rows, float).reshape(2, 3, 4, 3).sum(2), rtol=0, atol=8 * float(jnp.finfo(dtype).eps)
        )


@pytest.mark.parametrize("wide", [False, True])
def test_places_are_of_32_bits_for_both(wide: bool, random: np.random.Generator) -> None:
    seen = []

    def note(place: tuple, rows: Any, factor: Any, scaled: Any, total: Any) -> None:
        seen.extend(each.dtype for each in place)
        scale_and_sum(place, rows, factor, scaled, total)

    with jax.enable_x64(wide):
        for run in (execute, interpret):
            jax.eval_shape(partial(run, replace(kernel(2, 5), body=note)), *arrays(random, 2, 5))
    assert set(seen) == {jnp.dtype("int32")}


def test_executor_computes_what_the_body_says(random: np.random.Generator) -> None:
    rows, factor = arrays(random, 2, 6)
    scaled, total = execute(kernel(2, 6), rows, factor)
    head, tile = np.arange(2)[:, None, None], np.arange(6)[None, :, None] // 4
    np.testing.assert_allclose(scaled, 3 * np.asarray(rows) + head - tile, rtol=1e-6)
    np.testing.assert_allclose(total[:, 1], np.asarray(rows)[:, 4:].sum(1), rtol=1e-5)


def test_a_changed_input_changes_its_own_block_only(random: np.random.Generator) -> None:
    rows, factor = arrays(random, 2, 8)
    before, after = (execute(kernel(2, 8), each, factor)[1] for each in (rows, rows.at[1, 5].add(1)))
    assert np.array_equal(np.argwhere(np.asarray(before) != np.asarray(after))[:, :2], [[1, 1]] * 3)


@pytest.mark.parametrize("run", [execute, interpret, launch])
def test_vmap_is_a_loop(run: Any, random: np.random.Generator) -> None:
    rows, factor = arrays(random, 3, 5)
    function = jax.jit(partial(run, kernel(1, 5)))
    mapped = jax.jit(jax.vmap(function, in_axes=(0, None)))(rows[:, None], factor)
    looped = [function(each[None], factor) for each in rows]
    for number, got in enumerate(mapped):
        np.testing.assert_allclose(got, np.stack([each[number] for each in looped]), rtol=1e-6)


def test_scan_carries_what_a_kernel_writes(random: np.random.Generator) -> None:
    rows, factor = arrays(random, 1, 5)
    function = partial(launch, kernel(1, 5))
    looped, _ = jax.jit(lambda rows: lax.scan(lambda rows, _: (function(rows, factor)[0], None), rows, length=3))(rows)
    want = rows
    for _ in range(3):
        want = jax.jit(function)(want, factor)[0]
    np.testing.assert_allclose(looped, want, rtol=1e-6)


def test_an_exported_kernel_runs_again(random: np.random.Generator) -> None:
    operands = arrays(random, 2, 5)
    function = jax.jit(partial(launch, kernel(2, 5)))
    again = export.deserialize(export.export(function, platforms=["cpu"])(*operands).serialize())
    for got, want in zip(again.call(*operands), function(*operands), strict=True):
        assert np.array_equal(got, want)


@pytest.mark.usefixtures("vulkan")
def test_the_platform_decides_what_runs(random: np.random.Generator) -> None:
    traced = jax.jit(partial(launch, kernel(2, 5))).trace(*arrays(random, 2, 5))
    texts = {name: traced.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "vulkan")}
    assert "qga.tile" in texts["vulkan"]
    assert "stablehlo.while" not in texts["vulkan"]
    assert "qga.tile" not in texts["cpu"]


def test_vulkan_runs_the_kernel(vulkan: jax.Device, random: np.random.Generator) -> None:
    operands = arrays(random, 2, 5)
    function = jax.jit(partial(launch, kernel(2, 5)))
    for got, want in zip(function(*jax.device_put(operands, vulkan)), function(*operands), strict=True):
        assert got.devices() == {vulkan}
        np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize(
    "index", [..., 1, (1, 2), slice(1, 3), (slice(None), 2), (..., slice(0, 2)), (pl.ds(1, 2), slice(None)), (0, ...)]
)
def test_a_reference_reads_and_writes_as_an_array(index: Any) -> None:
    array = np.arange(12.0, dtype=np.float32).reshape(4, 3)
    place = (slice(1, 3), slice(None)) if isinstance(index, tuple) and isinstance(index[0], pl.Slice) else index
    ref = TileRef(jnp.asarray(array))
    assert np.array_equal(ref[index], array[place])
    ref[index] = -ref[index]
    array[place] *= -1
    assert np.array_equal(ref.value, array)


def test_a_reference_takes_what_broadcasts_in_its_own_dtype() -> None:
    ref = TileRef(jnp.zeros((2, 3), jnp.bfloat16))
    ref[0, :] = 1.0
    assert np.array_equal(ref[...].astype(jnp.float32), [[1, 1, 1], [0, 0, 0]])
    assert ref.dtype == jnp.bfloat16
