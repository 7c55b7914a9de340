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
