"""Kernels where a number of Python has 64 bits: they run, and their code is what it is without."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import pallas as pl

import qga
from lowering import lower
from lowering.compiler import optimise
from lowering.pjrt import initialize

from ..codegen.bands.support import schedules_of
from ..plan.support import machine
from .kernels import CASES, call, like, normal, rows
from .kernels_of_tiles import CASES as CASES_OF_TILES
from .running import assert_as_interpreted

ALL = {**CASES, **CASES_OF_TILES}
# Here the program itself asks for arrays of integers by functions that make them of 64 bits.
OF_WIDE_ARRAYS = ("places_of_extremes", "places_counted_and_added_to", "scan_over_rows")
# In these JAX had no words for windows that start at integers of two sizes, or for a position of 64 bits.
OF_TWO_SIZES = (
    "alias_of_blocks", "alias_of_blocks_in_reverse", "array_without_blocks", "empty_grid", "grid_in_an_array",
    "masked_loads_and_stores", "overlapping_operand_blocks", "prefetched_places", "ragged_product",
    "revisited_output", "squeezed_blocks",
)  # fmt: skip
H100 = machine("h100")


@pytest.fixture(autouse=True, scope="module")
def registered() -> None:
    initialize()


def with_and_without(what: Callable[[], Any]) -> tuple[Any, Any]:
    """Return what a function gives with wide integers and without."""
    with jax.enable_x64(True):
        wide = what()
    with jax.enable_x64(False):
        return wide, what()


def lines_of(function: Callable[..., Any], *arguments: Any) -> list[str]:
    """Return the operations of a compiled function with their types, without order and numbers."""
    text = optimise(lower(function)(*arguments).graph, H100).text(with_places=False)
    return sorted(re.sub(r"%\d+", "%", line).strip() for line in text.splitlines())


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.exhaustive] * (i % 4 != 0))
        for i, name in enumerate(name for name in ALL if name not in OF_WIDE_ARRAYS)
    ],
)
def test_wide_integers_do_not_change_a_kernel(name: str) -> None:
    function = partial(ALL[name].function, interpret=False)
    wide, narrow = with_and_without(lambda: lines_of(function, *ALL[name].arguments))
    assert wide == narrow


@pytest.mark.parametrize("name", OF_TWO_SIZES + OF_WIDE_ARRAYS)
def test_kernel_with_wide_integers_gives_what_the_interpreter_gives(name: str, vulkan: Any) -> None:
    with jax.enable_x64(True):
        assert_as_interpreted(ALL[name], vulkan)


def halves(x: Any, interpret: bool = False) -> Any:
    """Sum rows at places computed from a counter and a position in every way that keeps them small."""

    def kernel(a: Any, o: Any) -> None:
        place = pl.program_id(0)

        def add(number: Any, total: Any) -> Any:
            start = jnp.where(number > 1, jnp.minimum(number, 7) // 2, number % 3)
            return total + a[pl.ds(start + place % 2, 2), :]

        o[...] = lax.fori_loop(0, 9, add, jnp.zeros((2, 16), a.dtype))

    return call(kernel, x, out=like(x[:10]), grid=(5,), in_specs=[rows(8, 16)], out_specs=rows(2, 16),
                interpret=interpret)  # fmt: skip


def test_arithmetic_of_counters_has_32_bits(vulkan: Any) -> None:
    x = normal(40, 16)
    with jax.enable_x64(True):
        assert not [line for line in lines_of(halves, x) if "i64" in line]
        got = jax.jit(halves)(jax.device_put(x, vulkan))
        np.testing.assert_allclose(got, jax.jit(partial(halves, interpret=True))(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "given"), [("grid_in_an_array", 1), ("prefetched_places", 0)])
def test_integers_of_64_bits_say_where_blocks_are(name: str, given: int, vulkan: Any) -> None:
    arguments = [each.astype(np.int64) if i == given else each for i, each in enumerate(ALL[name].arguments)]
    # JAX's own interpreter compares positions with such a size of a grid.
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        assert_as_interpreted(replace(ALL[name], arguments=tuple(arguments)), vulkan)


# -- attention ---------------------------------------------------------------------------------------------------------


def attention(is_causal: bool, derivatives: Any, tile: int = 128) -> Callable[..., Any]:
    """Return the gradients of a sum of attention, and its value."""
    return gradients(partial(qga.dot_attention, is_causal=is_causal, tile=tile, derivatives=derivatives))


def dense(*arrays: Any) -> Any:
    """Compute what causal attention gives by its formula."""

    def mix(queries: Any, keys: Any, values: Any) -> Any:
        scores = queries @ keys.T / np.sqrt(keys.shape[1])
        return jax.nn.softmax(jnp.where(jnp.tri(*scores.shape, dtype=bool), scores, -jnp.inf), axis=1) @ values

    return gradients(mix)(*arrays)


def gradients(mix: Callable[..., Any]) -> Callable[..., Any]:
    def total(*arrays: Any) -> Any:
        out = mix(*arrays)
        return jnp.sum(jnp.square(out)), out

    return jax.grad(total, argnums=(0, 1, 2), has_aux=True)


@pytest.mark.parametrize("is_causal", [False, True])
def test_attention_has_the_schedules_that_it_has_without_wide_integers(is_causal: bool) -> None:
    array = jax.ShapeDtypeStruct((256, 64), jnp.float16)
    function = attention(is_causal, "reverse")
    wide, narrow = with_and_without(lambda: schedules_of(function, array, array, array, capabilities=H100))
    assert wide == narrow
    assert [schedule.mode for schedule in wide] == ["bands"] * 4


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("derivatives", ["reverse", "all"])
def test_attention_and_its_gradients_with_wide_integers(dtype: str, derivatives: str, vulkan: Any) -> None:
    with jax.enable_x64(True):
        arrays = [jnp.asarray(normal(9, 6) * sign, dtype) for sign in (1, -1, 0.5)]
        got = jax.tree.leaves(jax.jit(attention(True, derivatives, tile=4))(*jax.device_put(arrays, vulkan)))
        want = jax.tree.leaves(jax.jit(dense)(*(each.astype("float64") for each in arrays)))
    eps = max(float(jnp.finfo(dtype).eps), float(jnp.finfo("float32").eps) if dtype == "float16" else 0)
    for one, other in zip(got, want, strict=True):
        assert one.dtype == dtype
        np.testing.assert_allclose(np.asarray(one, "float64"), other, rtol=16 * eps, atol=16 * eps)
