"""Attention beside the dense truth: values, log sums and gradients of everything that has one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qga import attention
from tests.qga.dense_attention import dense_attention
from tests.qga.exact.options import Arrays, Row
from tests.qga.tolerances import CPU_ROUNDINGS, assert_close

MAIN = ("query", "key", "value")


def run(function: Callable, row: Row, arrays: Arrays, **more: Any) -> Any:
    """Call an attention with a row's options."""
    return function(*(arrays[name] for name in MAIN), **row.options(arrays), **more)


def is_real(array: Any) -> bool:
    """Tell whether an array has a derivative."""
    return jnp.issubdtype(array.dtype, jnp.floating)


def measure(function: Callable, row: Row, arrays: Arrays, **more: Any) -> tuple[Any, Any, Arrays]:
    """Return averages, log sums, and the gradients of a sum of both with unlike weights."""
    moving = {name: each for name, each in arrays.items() if is_real(each)}

    def total(moving: Arrays) -> tuple[Any, tuple[Any, Any]]:
        out, log_sums = run(function, row, arrays | moving, **more)
        seen = jnp.where(jnp.isneginf(log_sums), 0, log_sums)
        weigh = [weights_of(each) for each in (out, seen)]
        wide = [jnp.sum((weight * each).astype(seen.dtype)) for weight, each in zip(weigh, (out, seen), strict=True)]
        return wide[0] + wide[1], (out, log_sums)

    gradients, (out, log_sums) = jax.grad(total, has_aux=True)(moving)
    return out, log_sums, gradients


def weights_of(array: Any) -> Any:
    """Return numbers that go up and down, which every dtype holds exactly."""
    numbers = np.arange(array.size).reshape(array.shape) * 37 % 64
    return jnp.asarray((numbers - 32) / 32, array.dtype)


def of_dtype(arrays: Arrays, dtype: Any) -> Arrays:
    """Return arrays for JAX, real ones in a dtype."""
    return {name: jnp.asarray(each, dtype if is_real(np.asarray(each)) else None) for name, each in arrays.items()}


def truth(row: Row, arrays: Arrays, **more: Any) -> tuple[np.ndarray, np.ndarray, Arrays]:
    """Return the same of the dense formula, in float64."""
    with jax.enable_x64(True):
        wide = of_dtype({name: np.asarray(each) for name, each in arrays.items()}, jnp.float64)
        return jax.tree.map(np.asarray, jax.jit(partial(measure, dense_attention, row, **more))(wide))


def tiled(row: Row, arrays: Arrays, **more: Any) -> tuple[Any, Any, Arrays]:
    """Return the same of ``qga.attention``, compiled."""
    return jax.jit(partial(measure, attention, row, tile=row.tile, return_lse=True, **more))(arrays)


def require_equal(got: Any, want: Any, row: Row, roundings: float = CPU_ROUNDINGS) -> None:
    """Compare all of it; a gradient in a number sums over all rows, and so do their roundings."""
    depth = max(row.shape.keys, row.shape.queries, 1)
    for one, other in zip(got[:2], want[:2], strict=True):
        assert_close(one, other, depth=depth, scale=size_of(other), roundings=roundings)
    for name, other in want[2].items():
        rows = row.shape.batch * row.shape.heads * row.shape.queries if np.ndim(other) == 0 else 1
        assert_close(got[2][name], other, depth=depth * max(rows, 1), scale=4 * size_of(other), roundings=roundings)


def size_of(array: np.ndarray) -> float:
    """Return the largest magnitude, at least one."""
    return float(np.max(np.abs(array), initial=1.0, where=np.isfinite(array)))
