"""An in-place kernel must not read what it has overwritten, whichever order its lanes run in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

# Several workgroups, so that lanes of different ones meet.
SIZE = 20011


def step_updates(x: jax.Array, start: jax.Array) -> jax.Array:
    piece = jax.lax.dynamic_slice(x, (start,), (SIZE - 3,))
    return jax.lax.dynamic_update_slice(x, piece * 2 + 1, (start,))


def moved_updates(x: jax.Array, start: jax.Array) -> jax.Array:
    piece = jax.lax.dynamic_slice(x, (start,), (SIZE - 3,))
    return jax.lax.dynamic_update_slice(x, piece, (start + 1,))


def reversed_updates(x: jax.Array, start: jax.Array) -> jax.Array:
    piece = jax.lax.dynamic_slice(x, (start,), (SIZE - 3,))
    return jax.lax.dynamic_update_slice(x, piece[::-1], (start,))


def sliced_updates(x: jax.Array, start: jax.Array) -> jax.Array:
    del start
    return x.at[1:].set(x[:-1])


def swapped_rows(x: jax.Array, start: jax.Array) -> jax.Array:
    pair = jnp.stack([start, start + 7])
    return x.at[pair].set(x[pair[::-1]])


def viewed_updates(x: jax.Array, start: jax.Array) -> jax.Array:
    del start
    pair = jnp.array([3, 9])
    return x.at[pair].set(x.reshape(1, SIZE)[0, pair[::-1]])


def looped_updates(x: jax.Array, start: jax.Array) -> jax.Array:
    return jax.lax.fori_loop(0, 3, lambda k, x: moved_updates(x, start + k), x)


def updates_read_crosswise(x: jax.Array, start: jax.Array) -> jax.Array:
    def step(k: jax.Array, x: jax.Array) -> jax.Array:
        updated = x.at[k].set(x[start])
        return updated + updated[::-1]

    return jax.lax.fori_loop(0, 2, step, x)


def updates_spread(x: jax.Array, start: jax.Array) -> jax.Array:
    def step(k: jax.Array, rows: jax.Array) -> jax.Array:
        updated = rows.at[k].set(rows[start])
        return updated + updated[:, :1]

    rows = jax.lax.fori_loop(0, 2, step, x[: 11 * 1819].reshape(11, 1819))
    return jnp.concatenate([rows.reshape(-1), x[11 * 1819 :]])


MOVING = (
    moved_updates,
    reversed_updates,
    sliced_updates,
    swapped_rows,
    viewed_updates,
    looped_updates,
    updates_read_crosswise,
    updates_spread,
)


@pytest.mark.parametrize("is_donated", [False, True])
@pytest.mark.parametrize("function", [step_updates, *MOVING])
def test_in_place_update_sees_the_operand_as_it_was(
    function: Callable[..., Any], is_donated: bool, vulkan: Any
) -> None:
    x = np.arange(SIZE, dtype=np.float32)
    start = np.int32(2)
    with jax.default_device(jax.devices("cpu")[0]):
        want = np.asarray(jax.jit(function)(x, start))
    jitted = jax.jit(function, donate_argnums=(0,) if is_donated else ())
    got = jitted(jax.device_put(x, vulkan), jax.device_put(start, vulkan))
    np.testing.assert_array_equal(np.asarray(got), want)
