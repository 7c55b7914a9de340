"""Tile kernels keep sums in matrix units where the driver lists a product, and give what they give without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import pallas as pl

from lowering import lower
from lowering.pallas import CompilerParams
from lowering.pjrt import initialize
from lowering.runtime import Device

ROWS, DEPTH, COLUMNS, KEYS, WIDTH = 128, 96, 64, 64, 32
# Operands of 11 bits, sums in f32 of terms up to about 16; weights are rounded to f16 once in `attended`.
ERROR = {"summed": 1e-5, "turned": 1e-5, "attended": 2e-3}


def summed(left: Any, right: Any, options: CompilerParams) -> Any:
    """Multiply, the depth along the grid: the sum lives through branches and rounds of a loop."""

    def kernel(x: Any, y: Any, out: Any) -> None:
        @pl.when(pl.program_id(2) == 0)
        def _() -> None:
            out[...] = jnp.zeros_like(out)

        out[...] += jnp.dot(x[...], y[...], preferred_element_type=jnp.float32)

    return pl.pallas_call(
        kernel, out_shape=jax.ShapeDtypeStruct((ROWS, COLUMNS), jnp.float32),
        grid=(ROWS // 64, COLUMNS // 32, DEPTH // 32),
        in_specs=[pl.BlockSpec((64, 32), lambda i, j, k: (i, k)), pl.BlockSpec((32, 32), lambda i, j, k: (k, j))],
        out_specs=pl.BlockSpec((64, 32), lambda i, j, k: (i, j)), compiler_params=options,
    )(left, right)  # fmt: skip


def turned(left: Any, right: Any, options: CompilerParams) -> Any:
    """Multiply transposed operands that are whole arrays; elements of the sum are wanted at once."""

    def kernel(x: Any, y: Any, out: Any) -> None:
        out[...] = jnp.maximum(jnp.dot(x[...].T, y[...].T, preferred_element_type=jnp.float32), 0.0)

    shape = jax.ShapeDtypeStruct((left.shape[1], right.shape[0]), jnp.float32)
    return pl.pallas_call(kernel, out_shape=shape, compiler_params=options)(left, right)


def attended(queries: Any, keys: Any, options: CompilerParams) -> Any:
    """Average keys by the softmax of scores: two products with rows' statistics between them."""

    def kernel(q: Any, k: Any, out: Any) -> None:
        def step(index: Any, state: Any) -> Any:
            peak, mass, total = state
            tile = k[pl.ds(index * 32, 32), :]
            scores = jnp.dot(q[...], tile.T, preferred_element_type=jnp.float32)
            new = jnp.maximum(peak, scores.max(-1))
            weights, scale = jnp.exp(scores - new[:, None]), jnp.exp(peak - new)
            product = jnp.dot(weights.astype(tile.dtype), tile, preferred_element_type=jnp.float32)
            return new, mass * scale + weights.sum(-1), total * scale[:, None] + product

        start = jnp.full((64,), -1e30), jnp.zeros((64,)), jnp.zeros((64, WIDTH))
        _, mass, total = lax.fori_loop(0, KEYS // 32, step, start)
        out[...] = total / mass[:, None]

    return pl.pallas_call(
        kernel, out_shape=jax.ShapeDtypeStruct((ROWS, WIDTH), jnp.float32), grid=(ROWS // 64,),
        in_specs=[pl.BlockSpec((64, WIDTH), lambda i: (i, 0)), pl.BlockSpec((KEYS, WIDTH), lambda i: (0, 0))],
        out_specs=pl.BlockSpec((64, WIDTH), lambda i: (i, 0)), compiler_params=options,
    )(queries, keys)  # fmt: skip


def truth(name: str, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    left, right = left.astype(np.float64), right.astype(np.float64)
    if name == "summed":
        return left @ right
    if name == "turned":
        return np.maximum(left.T @ right.T, 0)
    weights = np.exp(left @ right.T)
    return weights @ right / weights.sum(1, keepdims=True)


CASES: dict[str, tuple[Callable[..., Any], tuple[int, int], tuple[int, int]]] = {
    "summed": (summed, (ROWS, DEPTH), (DEPTH, COLUMNS)),
    "turned": (turned, (64, 64), (32, 64)),
    "attended": (attended, (ROWS, WIDTH), (KEYS, WIDTH)),
}


@pytest.mark.parametrize("matrix_units", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_tiles_on_matrix_units_are_the_product(device: Device, name: str, matrix_units: bool) -> None:
    capabilities = device.capabilities
    if not any((row.a, row.c, row.scope) == ("f16", "f32", "subgroup") for row in capabilities.matrices):
        pytest.skip(f"{device.name} lists no matrix product of f16 into f32")
    initialize()
    function, *shapes = CASES[name]
    random = np.random.default_rng(3)
    left, right = (random.normal(size=shape).astype(np.float16) for shape in shapes)
    options = CompilerParams(matrix_units=matrix_units)
    lowered = lower(lambda x, y: function(x, y, options))(left, right)
    kernels = lowered.program(capabilities).kernels
    assert any("CooperativeMatrixKHR" in kernel.text() for kernel in kernels) is matrix_units
    got, want = np.asarray(lowered.compile(device)(left, right)), truth(name, left, right)
    allowed = ERROR[name] * np.abs(want).max()
    assert np.abs(got - want).max() <= allowed
    assert np.abs(got[::-1] - want).max() > allowed
