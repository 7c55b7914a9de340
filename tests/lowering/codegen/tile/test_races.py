"""No tile kernel depends on which invocation comes first; each barrier that keeps it so is needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl

from lowering.codegen.tile import dot, staging
from shaders.capabilities import Capabilities

from ...pallas import kernels, kernels_of_tiles
from ...pallas.random_kernels import OPERATIONS, RandomKernel
from .races import RaceError, barriers_of, decode, run_kernel, without
from .support import Tile, buffers_of, results_of, tile_of, wanted

# Roundings of small numbers through at most four sums of sixteen.
ALLOWED = 1e-5
# Kernels that store to arrays and read them back, or update tiles, and whose numbers have at most 32 bits.
TABLE = {
    name: case
    for name, case in (*kernels.CASES.items(), *kernels_of_tiles.CASES.items())
    if name.removesuffix("_in_memory")
    in (
        "revisited_output", "overlapping_output_blocks", "alias_of_blocks_in_reverse", "alias_read_behind_the_stores",
        "first_contents_transposed", "operand_with_a_row_replaced", "older_contents_kept", "rows_stored_and_read_back",
        "rows_stored_then_multiplied", "stores_in_branches", "rows_scattered", "every_second_row",
        "places_of_extremes", "places_counted_and_added_to", "scattered_tile_still_read", "scattered_tile_in_a_loop",
        "histogram", "outer_product_of_a_vector_with_itself", "branches_of_arrays", "while_its_sum_is_small",
    )
}  # fmt: skip
# Operations, and at least how many of their kernels' barriers nobody can do without.
GUARDED = {"less_its_largest": 3, "running": 2, "gram_of_sine": 3, "turned": 2, "rows_added": 4, "while_below": 8}


@pytest.fixture(scope="session")
def small(lavapipe: Capabilities) -> Capabilities:
    """A device of subgroups of four, so that small tiles are spread over several of them."""
    return replace(lavapipe, subgroup_size=4, max_invocations=16)


def twice_and_in_a_loop(name: str, capabilities: Capabilities) -> tuple[Tile, list[np.ndarray]]:
    """Return a kernel with an operation by itself, again over what it made, and inside a loop."""
    kernel = RandomKernel(m=10, n=9, operations=((name, 1), (name, 0)), blocks=1, loop=((name, 2),), rounds=2)
    return tile_of(kernel.call, *kernel.arguments(), capabilities=capabilities), list(kernel.arguments())


def assert_without_races(tile: Tile, arguments: list[np.ndarray]) -> None:
    """Run a kernel with its invocations in either order: neither collides, both give what NumPy gives."""
    buffers = buffers_of(tile, arguments)
    for backwards in (False, True):
        found = results_of(tile, run_kernel(tile.kernel, buffers, tile.groups, backwards=backwards))
        for got, want in zip(found, wanted(tile, arguments), strict=True):
            np.testing.assert_allclose(got, want, rtol=ALLOWED, atol=ALLOWED)


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_operation_has_no_race(name: str, small: Capabilities) -> None:
    assert_without_races(*twice_and_in_a_loop(name, small))


@pytest.mark.parametrize("name", sorted(GUARDED))
def test_a_missing_barrier_is_caught(name: str, small: Capabilities) -> None:
    tile, arguments = twice_and_in_a_loop(name, small)
    module, buffers = decode(tile.kernel.words), buffers_of(tile, arguments)
    caught = 0
    for place in barriers_of(module):
        try:
            run_kernel(tile.kernel, buffers, tile.groups, module=without(module, [place]))
        except RaceError:
            caught += 1
    assert caught >= GUARDED[name]


@pytest.mark.parametrize("name", sorted(TABLE))
def test_kernel_of_the_table_has_no_race(name: str, small: Capabilities) -> None:
    case = TABLE[name]
    function = lambda *arguments: case.function(*arguments, interpret=False)  # noqa: E731
    assert_without_races(tile_of(function, *case.arguments, capabilities=small), list(case.arguments))


# -- products in slabs -------------------------------------------------------------------------------------------------


def squared(a: Any, o: Any) -> None:
    y = jnp.exp(a[...] * 0.1)
    o[...] = jnp.dot(y, y)


def times_its_transpose(a: Any, o: Any) -> None:
    y = jnp.exp(a[...] * 0.1)
    o[...] = jnp.dot(y, y.T)


def times_another(a: Any, o: Any) -> None:
    y = jnp.exp(a[...] * 0.1)
    o[...] = jnp.dot(y, jnp.sin(y))


@pytest.mark.parametrize("kernel", [squared, times_its_transpose, times_another])
def test_operands_in_slabs_have_no_race(
    kernel: Callable[..., None], small: Capabilities, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Slabs of a few lines, in memory that holds one operand and a half.
    for module in (dot, staging):
        monkeypatch.setattr(module, "SLAB_BYTES", 512)
    x = np.random.default_rng(0).normal(size=(24, 24)).astype(np.float32)
    function = lambda a: pl.pallas_call(kernel, out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype))(a)  # noqa: E731
    tile = tile_of(function, x, capabilities=replace(small, max_shared_bytes=3600))
    assert_without_races(tile, [x])
