"""Fixtures of the tests of the pure functions."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import jax
import numpy as np
import pytest


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> Iterator[np.dtype]:
    """Run a test in both precisions; float64 switches 64-bit types on for its time."""
    with jax.enable_x64(request.param == "float64"):
        yield np.dtype(request.param)


@pytest.fixture
def x64() -> Iterator[None]:
    """Switch 64-bit types on for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def random() -> np.random.Generator:
    """Return a seeded source of test data."""
    return np.random.default_rng(20240229)


@pytest.fixture(autouse=True, scope="module")
def _drop_programs() -> Iterator[None]:
    """Compile without most of XLA's optimisations, and forget programs after each file.

    There are thousands of programs, each of which runs a few times: they take long to compile and fill a worker's
    memory.
    """
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()
    gc.collect()
