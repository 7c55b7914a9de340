"""llvmpipe leaves all loops of an invocation after 65,535 rounds without a word: nothing may come near that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from lowering.compiler import compile_graph
from lowering.errors import UnsupportedError
from lowering.runtime import Device

from .programs import graph_of
from .running import run

LONG = 70_001


def whole(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(-9, 9, shape).astype(np.int32)


def decimal(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def places(*shape: int) -> np.ndarray:
    return np.random.default_rng(2).integers(-1, 6, shape).astype(np.int32)


def user_reduce(x: jax.Array) -> Any:
    zero = np.int32(0)
    return lax.reduce((x, x), (zero, zero), lambda a, b: (a[0] + b[0], a[1] ^ b[1]), tuple(range(x.ndim)))


EXACT: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "columns": (lambda x: x.sum(0), (whole(300_000, 9),)),
    "argmax of columns": (lambda x: x.argmax(0), (decimal(300_000, 9),)),
    "a rule of the user's": (user_reduce, (whole(LONG),)),
    "a rule of the user's over two axes": (user_reduce, (whole(301, 300),)),
    "a running sum": (jnp.cumsum, (whole(LONG),)),
    "a running sum from the end": (lambda x: lax.cumsum(x, axis=1, reverse=True), (whole(2, LONG, 2),)),
    "a running minimum": (lambda x: lax.cummin(x, axis=0), (whole(LONG, 2),)),
    "a scatter that sets": (lambda x, i, u: x.at[i].set(u), (whole(5), places(LONG), whole(LONG))),
    "a scatter of floats": (lambda x, i, u: x.at[i].max(u), (decimal(5, 2), places(LONG), decimal(LONG, 2))),
    "a scatter along two axes": (lambda x, i, u: x.at[i].set(u), (whole(5), places(300, 300), whole(300, 300))),
    "many scatters": (
        jax.vmap(lambda x, i, u: x.at[i].max(u)),
        (decimal(LONG, 3), places(LONG, 2), decimal(LONG, 2)),
    ),
    "a deep product": (lambda a, b: a @ b, (whole(2, 2_200_001), whole(2_200_001, 1))),
    "a product over two axes": (lambda a, b: jnp.tensordot(a, b, 2), (whole(1, 1500, 1500), whole(1500, 1500, 1))),
}


def results(device: Device, function: Callable[..., Any], arguments: tuple[Any, ...]) -> list[np.ndarray]:
    program = compile_graph(graph_of(function, *arguments), device.capabilities)
    return run(device, program, [np.asarray(argument) for argument in arguments])


@pytest.mark.parametrize("name", EXACT)
def test_long_loops_give_what_the_cpu_gives(device: Device, name: str) -> None:
    function, arguments = EXACT[name]
    want = jax.tree.leaves(jax.jit(function)(*arguments))
    for left, right in zip(results(device, function, arguments), want, strict=True):
        np.testing.assert_array_equal(left, np.asarray(right))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_running_sums_in_parts_round_once(device: Device, dtype: Any) -> None:
    array = (np.abs(decimal(9001)) * 0.01).astype(dtype)
    (got,) = results(device, jnp.cumsum, (array,))
    want = np.cumsum(array.astype(np.float64))
    unit = float(jnp.finfo(dtype).eps) if dtype is not jnp.float32 else 1e-5
    assert np.abs(got.astype(np.float64) - want).max() <= unit * np.abs(want).max()


def test_long_division_inside_a_sum_keeps_its_rounds(device: Device) -> None:
    array = decimal(600_000) * np.float32(1e6)
    (got,) = results(device, lambda x: jnp.abs(lax.rem(x, np.float32(0.37))).sum(), (array,))
    want = np.abs(np.fmod(array.astype(np.float64), np.float64(np.float32(0.37)))).sum()
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_a_window_that_takes_too_many_rounds_is_refused(device: Device) -> None:
    if device.capabilities.loop_rounds is None:
        pytest.skip("this driver lets loops go round as often as they like")
    with pytest.raises(UnsupportedError, match="at most 65,535 times") as refused:
        results(device, lambda x: lax.reduce_window(x, 0, lax.add, (LONG,), (99,), "VALID"), (whole(2 * LONG),))
    assert "up to 70,001 rounds" in str(refused.value)
    assert "test_long_loops.py" in str(refused.value)


@pytest.mark.parametrize("places_of_nan", [(39, 163), (3000, 77, 4999), (4999,)])
def test_argmax_of_the_first_nan(device: Device, places_of_nan: tuple[int, ...]) -> None:
    array = np.zeros(5000, np.float32)
    array[list(places_of_nan)] = np.nan
    found = results(device, lambda x: (x.argmax(), x.argmin(), x.reshape(50, 100).T.argmax(0)), (array,))
    assert [int(found[0]), int(found[1])] == [min(places_of_nan)] * 2
    np.testing.assert_array_equal(found[2], array.reshape(50, 100).argmax(1))
