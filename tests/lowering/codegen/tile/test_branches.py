"""A program that does nothing under its condition neither reads nor writes its block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from jax.experimental import pallas as pl

from lowering.codegen.tile.blocks import Block, Memory, Step
from lowering.codegen.tile.memory import prepare
from shaders.capabilities import Capabilities

from ..bands.support import fusions_of, tile_node

ROWS, COLUMNS, TILE = 32, 16, 8
random = np.random.default_rng(6)
X, HELD = (random.normal(size=(ROWS, COLUMNS)).astype(np.float32) for _ in range(2))
FLAGS = np.int32([0, 1, 1, 0])
Body = Callable[..., None]


def guarded(flag: Any, x: Any, out: Any) -> None:
    @pl.when(flag[0] > 0)
    def _() -> None:
        out[...] = 2 * x[...]


def chosen(flag: Any, x: Any, out: Any) -> None:
    """Write in both branches."""

    @pl.when(flag[0] > 0)
    def _() -> None:
        out[...] = 2 * x[...]

    @pl.when(flag[0] == 0)
    def _() -> None:
        out[...] = out[...] + 1


def moved(flag: Any, x: Any, out: Any) -> None:
    """Keep what is there, upside down: another window than the one that is written."""
    rows = jax.lax.broadcasted_iota(np.int32, (TILE, COLUMNS), 0)
    shifted = jax.numpy.where(rows == 0, out[pl.ds(TILE - 1, 1), :], out[...])
    out[...] = jax.lax.cond(flag[0] > 0, lambda: 2 * x[...], lambda: shifted)


def call(body: Body) -> Callable[..., Any]:
    """Return the function that calls a kernel, whose result starts as what is held."""
    block = pl.BlockSpec((TILE, COLUMNS), lambda i: (i, 0))

    def kernel(flag: Any, x: Any, _: Any, out: Any) -> None:
        body(flag, x, out)

    return pl.pallas_call(
        kernel, out_shape=jax.ShapeDtypeStruct(X.shape, X.dtype), grid=(ROWS // TILE,),
        in_specs=[pl.BlockSpec((1,), lambda i: (i,)), block, block], out_specs=block, input_output_aliases={2: 0},
    )  # fmt: skip


def turned(flag: Any, x: Any, out: Any, other: Any) -> None:
    """Keep numbers that begin at the place that is written, in another shape: most of them come from elsewhere."""
    place = flag[1]
    kept = out[pl.ds(place, 4), pl.ds(place, 4)].reshape(2, TILE)
    out[pl.ds(place, 2), pl.ds(place, TILE)] = jax.lax.cond(flag[0] > 0, lambda: 2 * x[:2, :TILE], lambda: kept)
    other[...] = x[:TILE, :]


def watched(flag: Any, x: Any, out: Any, other: Any) -> None:
    """Look at what is held between the branch and the update."""
    kept = out[pl.ds(flag[1], TILE), :]
    chosen = jax.lax.cond(flag[0] > 0, lambda: 2 * x[:TILE, :], lambda: kept)
    other[...] = out[pl.ds(flag[1] + 1, TILE), :]
    out[pl.ds(flag[1], TILE), :] = chosen


def call_whole(body: Body) -> Callable[..., Any]:
    """Return the function that calls a kernel once, with whole arrays and another output of a tile's size."""

    def kernel(flag: Any, x: Any, _: Any, out: Any, other: Any) -> None:
        body(flag, x, out, other)

    results = [jax.ShapeDtypeStruct(shape, X.dtype) for shape in (X.shape, (TILE, COLUMNS))]
    return pl.pallas_call(kernel, out_shape=results, input_output_aliases={2: 0})


def opened(body: Body, capabilities: Capabilities) -> tuple[Block, Memory]:
    (fusion,) = fusions_of(call(body), FLAGS, X, HELD, capabilities=capabilities)
    return prepare(tile_node(fusion))


def branches(block: Block) -> list[Step]:
    return [step for step, _ in block.walk() if step.op == "case"]


def test_a_branch_that_is_not_taken_has_no_steps(capabilities: Capabilities) -> None:
    cell, memory = opened(guarded, capabilities)
    (case,) = branches(cell)
    assert all(value in memory.arrays for value in case.outputs)
    assert [bool(block.steps) for block in case.blocks] == [False, True]
    assert not [step for step in cell.steps if step.op == "dynamic_update_slice"]


def test_a_branch_that_gives_another_window_writes_it(capabilities: Capabilities) -> None:
    cell, _ = opened(moved, capabilities)
    (case,) = branches(cell)
    writers = [[step.op for step in block.steps].count("dynamic_update_slice") for block in case.blocks]
    assert writers == [1, 1]


@pytest.mark.parametrize("body", [guarded, chosen, moved])
def test_kernels_compute_what_jax_does(body: Body, vulkan: jax.Device) -> None:
    taken = np.repeat(FLAGS > 0, TILE)[:, None]
    kept = {guarded: HELD, chosen: HELD + 1, moved: HELD.copy()}[body]
    if body is moved:
        kept[::TILE] = HELD[TILE - 1 :: TILE]
    given = [jax.device_put(each, vulkan) for each in (FLAGS, X, HELD)]
    np.testing.assert_array_equal(np.asarray(jax.jit(call(body))(*given)), np.where(taken, 2 * X, kept))
    # The arrays that were given are still there.
    np.testing.assert_array_equal(np.asarray(given[2]), HELD)


def test_an_array_that_is_watched_until_it_is_updated_stays_in_memory(capabilities: Capabilities) -> None:
    (fusion,) = fusions_of(call_whole(watched), FLAGS[:2], X, HELD, capabilities=capabilities)
    cell, memory = prepare(tile_node(fusion))
    (case,) = branches(cell)
    assert [value.shape for value in case.outputs] == [(TILE, COLUMNS)]
    assert cell.outputs[0] in memory.arrays


@pytest.mark.parametrize("is_taken", [False, True])
@pytest.mark.parametrize("body", [turned, watched])
def test_kernels_of_whole_arrays_compute_what_jax_does(body: Body, is_taken: bool, vulkan: jax.Device) -> None:
    place, want = 5, HELD.copy()
    if body is turned:
        want[place : place + 2, place : place + TILE] = (
            2 * X[:2, :TILE] if is_taken else HELD[place : place + 4, place : place + 4].reshape(2, TILE)
        )
    elif is_taken:
        want[place : place + TILE] = 2 * X[:TILE]
    other = X[:TILE] if body is turned else HELD[place + 1 : place + 1 + TILE]
    given = [jax.device_put(each, vulkan) for each in (np.int32([is_taken, place]), X, HELD)]
    for found, wanted in zip(jax.jit(call_whole(body))(*given), (want, other), strict=True):
        np.testing.assert_array_equal(np.asarray(found), wanted)
