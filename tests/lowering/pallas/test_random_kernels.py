"""Random kernels: the device gives what JAX's interpreter gives, and so does the cell run by NumPy."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np
from hypothesis import HealthCheck, given, settings

from lowering import lower, reference

from .random_kernels import RandomKernel, kernels

# Every number is at most 30, made by at most ten operations that hand on a rounding of sums of at most 33 terms each.
ALLOWED = 3e-5
QUIET = (HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large)
SETTINGS = settings(deadline=None, derandomize=True, suppress_health_check=QUIET)


def interpreted(kernel: RandomKernel) -> list[np.ndarray]:
    """Return what JAX's interpreter gives on the CPU."""
    cpu = jax.devices("cpu")[0]
    arguments = (jax.device_put(array, cpu) for array in kernel.arguments())
    return [np.asarray(each) for each in jax.jit(functools.partial(kernel.call, interpret=True))(*arguments)]


def assert_close(got: Any, want: list[np.ndarray]) -> None:
    for left, right in zip(got, want, strict=True):
        np.testing.assert_allclose(np.asarray(left), right, rtol=0, atol=ALLOWED)


@settings(SETTINGS, max_examples=12)
@given(kernel=kernels())
def test_device_gives_what_the_interpreter_gives(kernel: RandomKernel, vulkan: Any) -> None:
    arguments = (jax.device_put(array, vulkan) for array in kernel.arguments())
    assert_close(jax.jit(kernel.call)(*arguments), interpreted(kernel))


@settings(SETTINGS, max_examples=12)
@given(kernel=kernels())
def test_cell_run_by_numpy_gives_what_the_interpreter_gives(kernel: RandomKernel) -> None:
    graph = lower(kernel.call)(*kernel.arguments()).graph
    assert_close(reference.run(graph, *kernel.arguments()), interpreted(kernel))
