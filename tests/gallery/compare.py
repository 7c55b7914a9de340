"""What every kernel of the gallery is held against: its reference in float64, on the same numbers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.conformance.tolerance import Bound, difference
from tests.gallery.cases import Arrays, Case

# What runs once is best compiled as fast as can be.
QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
compiled = functools.partial(jax.jit, compiler_options=QUICKLY)


def truth(case: Case, arrays: Arrays) -> list[np.ndarray]:
    """Return the reference's results, computed in float64 where the arrays are floats."""
    return _in_float64(compiled(case.reference()), arrays)


def true_gradients(case: Case, arrays: Arrays) -> list[np.ndarray]:
    """Return the reference's gradients of ``weighted``, in float64."""
    return _in_float64(gradients(case, case.reference()), arrays)


def gradients(case: Case, function: Callable[..., Any], *, options: Mapping[str, Any] = QUICKLY) -> Callable[..., Any]:
    """Return the gradients of the weighted sum of a function's first result, compiled with XLA's ``options``."""
    gradient = jax.grad(functools.partial(weighted, function), argnums=case.row.gradients)
    return jax.jit(gradient, compiler_options=dict(options))


def weighted(function: Callable[..., Any], *arrays: jax.Array) -> jax.Array:
    """Add up the first result with weights that differ from place to place."""
    out = jax.tree.leaves(function(*arrays))[0]
    out = out.astype(jnp.float64 if out.dtype == jnp.float64 else jnp.float32)
    # Exact in every dtype, so that they bring no rounding into a comparison.
    weights = (jnp.arange(out.size) * 7 % 11 - 5).astype(out.dtype).reshape(out.shape) / 8
    return jnp.sum(weights * jnp.where(jnp.isfinite(out), out, 0))


def problem(got: list[np.ndarray], want: list[np.ndarray], bound: Bound) -> str | None:
    """Return None where all results are within the bound, else a line about the first that is not."""
    assert len(got) == len(want)
    for one, other in zip(got, want, strict=True):
        text = difference(one, other.astype(one.dtype), bound)
        if text is not None:
            return text
    return None


def spoil(case: Case) -> Arrays:
    """Return the arrays with another last number: what a kernel that stops too early would see."""
    spoilt = np.array(case.arrays[0])
    spoilt.flat[-1] = int(spoilt.flat[-1] == 0) if spoilt.dtype.kind in "iu" else 50
    return (spoilt, *case.arrays[1:])


def leaves(tree: Any) -> list[np.ndarray]:
    """Return the arrays of a result."""
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def _in_float64(function: Callable[..., Any], arrays: Arrays) -> list[np.ndarray]:
    with jax.enable_x64(True):
        wide = [array if array.dtype.kind in "iu" else array.astype(np.float64) for array in arrays]
        return leaves(function(*wide))
