"""Every portable kernel inside the jax wheel becomes kernels of a device, without one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

import lowering
from shaders.capabilities import Capabilities
from tests.pallas.public import BY_NAME

H100 = Path(__file__).parents[1] / "shaders" / "capabilities" / "h100.json"


@pytest.fixture(autouse=True)
def default_promotion(jax_settings: None) -> Iterator[None]:
    """Run with JAX's own settings: these kernels rely on them."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.parametrize("name", BY_NAME)
def test_kernel_is_compiled_for_a_gpu_and_fits_it(name: str) -> None:
    row, h100 = BY_NAME[name], Capabilities.from_text(H100.read_text())
    program = lowering.lower(row.function)(*row.arrays).program(h100)
    assert program.kernels
    assert all(kernel.shared_bytes <= h100.max_shared_bytes for kernel in program.kernels)
