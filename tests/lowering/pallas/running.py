"""Run kernels of the tables on the device and in JAX's interpreter, and compare."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np

from ...conformance.tolerance import Bound, difference
from .kernels import Case


def assert_as_interpreted(case: Case, vulkan: Any) -> None:
    """Require what the interpreter computes on the CPU; where that is NaN, nobody has written."""
    run = functools.partial(case.function, interpret=False)
    got = jax.tree.leaves(jax.jit(run)(*(jax.device_put(array, vulkan) for array in case.arguments)))
    cpu = jax.devices("cpu")[0]
    expected = jax.jit(functools.partial(case.function, interpret=True))
    want = jax.tree.leaves(expected(*(jax.device_put(array, cpu) for array in case.arguments)))
    for left, right in zip(map(np.asarray, got), map(np.asarray, want), strict=True):
        floor = float(np.abs(right).max()) if case.roundings and right.dtype.kind in "fcV" else 0.0
        problem = difference(left, right, Bound(case.roundings, case.depth, floor))
        assert problem is None, problem
