"""Reductions that do not wait for each other share barriers, those that do have their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl

from lowering.codegen.tile import reduce, staging
from lowering.errors import UnsupportedError
from lowering.pallas import CompilerParams
from shaders.capabilities import Capabilities

from .races import RaceError, barriers_of, decode, run_kernel, without
from .support import Tile, buffers_of, results_of, tile_of, wanted

NUMBERS = np.random.default_rng(5).normal(size=64).astype(np.float32)


@pytest.fixture(scope="module")
def small(lavapipe: Capabilities) -> Capabilities:
    """A device of subgroups of four, so that a small tile is spread over several of them."""
    return replace(lavapipe, subgroup_size=4, max_invocations=16)


def tile(function: Callable[[Any], list[Any]], capabilities: Capabilities) -> Tile:
    """Return a kernel that computes a few numbers of all that it reads."""
    count = len(function(jnp.asarray(NUMBERS)))

    def kernel(x: Any, out: Any) -> None:
        out[...] = jnp.stack(function(x[...]))

    shape = jax.ShapeDtypeStruct((count,), jnp.float32)
    call = pl.pallas_call(kernel, out_shape=shape, compiler_params=CompilerParams(subgroups=4))
    return tile_of(lambda x: call(x), NUMBERS, capabilities=capabilities)


def barriers(function: Callable[[Any], list[Any]], capabilities: Capabilities) -> int:
    """Count the barriers of a kernel."""
    return len(barriers_of(decode(tile(function, capabilities).kernel.words)))


def one(x: Any) -> list[Any]:
    return [jnp.sum(x)]


def four(x: Any) -> list[Any]:
    """Four sums, with arithmetic between them."""
    return [jnp.sum(x), 2 * jnp.max(x), jnp.sum(x * x), jnp.min(jnp.abs(x)) + 1]


def in_a_row(x: Any) -> list[Any]:
    """Four sums, each of which waits for the one before."""
    found = [jnp.max(x)]
    for _ in range(3):
        found.append(jnp.sum(jnp.exp(x - found[-1])))
    return found


def two_chains(x: Any) -> list[Any]:
    """Two chains of two, one after the other."""
    return [jnp.sum(jnp.exp(each - jnp.max(each))) for each in (x, x * x)]


def test_reductions_that_wait_for_nobody_share_barriers(small: Capabilities) -> None:
    assert barriers(four, small) == barriers(one, small) > 0


def test_reductions_that_wait_have_barriers_of_their_own(small: Capabilities) -> None:
    assert barriers(in_a_row, small) >= 4 * barriers(one, small)


def test_chains_go_side_by_side(small: Capabilities) -> None:
    assert barriers(two_chains, small) == barriers(lambda x: two_chains(x)[:1], small)


def test_what_has_no_room_for_all_goes_in_parts(small: Capabilities, monkeypatch: pytest.MonkeyPatch) -> None:
    together = barriers(four, small)
    monkeypatch.setattr(reduce, "_EXCHANGED", 8)
    assert barriers(four, small) > together


@pytest.mark.parametrize("function", [one, four, in_a_row, two_chains])
@pytest.mark.parametrize("backwards", [False, True])
def test_results_are_those_of_numpy(function: Callable[[Any], Any], backwards: bool, small: Capabilities) -> None:
    kernel = tile(function, small)
    found = results_of(kernel, run_kernel(kernel.kernel, buffers_of(kernel, [NUMBERS]), 1, backwards=backwards))
    np.testing.assert_allclose(found[0], wanted(kernel, [NUMBERS])[0], rtol=1e-5)


def test_the_barriers_that_are_left_are_needed(small: Capabilities) -> None:
    kernel = tile(in_a_row, small)
    module, caught = decode(kernel.kernel.words), 0
    for place in barriers_of(module):
        try:
            run_kernel(kernel.kernel, buffers_of(kernel, [NUMBERS]), 1, module=without(module, [place]))
        except RaceError:
            caught += 1
    assert caught >= 4


def in_turn(threads: int, capabilities: Capabilities, rows: np.ndarray) -> Tile:
    """Return a kernel of reductions along columns, one after the other, whose results are written line by line."""

    def kernel(x: Any, out: Any) -> None:
        for number in range(24):
            scaled = x[...] * (number + 1) + number
            out[number, :] = jnp.sum(scaled, axis=0) + (jnp.min(scaled, axis=0) if number % 3 else jnp.max(scaled))

    shape, params = jax.ShapeDtypeStruct((24, rows.shape[1]), jnp.float32), CompilerParams(threads=threads)
    call = pl.pallas_call(kernel, out_shape=shape, compiler_params=params)
    return tile_of(lambda x: call(x), rows, capabilities=capabilities)


def test_small_tiles_leave_memory_to_exchanges(lavapipe: Capabilities, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = NUMBERS[:40].reshape(2, 20).repeat(48, axis=0)
    # Four bytes for each number of the lines that are written, and an exchange or two.
    assert in_turn(256, lavapipe, rows).kernel.shared_bytes <= 4 * (24 * 20 + 2 * 1024)
    monkeypatch.setattr(staging, "_LARGER", 1000)
    with pytest.raises(UnsupportedError, match="must fit into shared memory"):
        _ = in_turn(256, lavapipe, rows)


def test_exchanges_in_turn_do_not_meet(small: Capabilities) -> None:
    rows = NUMBERS[:40].reshape(8, 5)
    kernel = in_turn(16, small, rows)
    found = results_of(kernel, run_kernel(kernel.kernel, buffers_of(kernel, [rows]), 1))
    np.testing.assert_allclose(found[0], wanted(kernel, [rows])[0], rtol=1e-5, atol=1e-5)
