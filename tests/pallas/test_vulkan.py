"""The portable kernels inside the jax wheel, compiled for the platform vulkan, give what their formulas give.

Those that take a driver on a CPU more than about six seconds to compile are left to ``make kernels``, which runs all,
and to test_compiled.py, which asks no driver.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import pytest

from tests.gallery.compare import leaves, problem
from tests.pallas.public import BY_NAME, spoil, truth

LONG = ("tpu.flash_attention", "tpu.splash_attention", "tpu.random")
QUICK = [name for name in BY_NAME if not name.startswith(LONG)]
# They hold the operands of five products, and ask for more than some drivers have.
SMALL = 32768
WIDE = {"gpu.attention.mha.backward", "gpu.attention.mha_causal.backward"}
REFUSAL = r"""UNIMPLEMENTED: The blocks that a kernel works on must fit into shared memory\.
  got:  \d\d,\d{3} bytes for mha_backward
  want: at most 32,768 bytes on .*
  fix:  make the blocks, or the chunks that are read with pl\.ds, smaller\."""


@pytest.fixture(autouse=True)
def default_promotion(jax_settings: None) -> Iterator[None]:
    """Run with JAX's own settings: these kernels rely on them."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="module")
def shared_bytes() -> int:
    """Return the shared memory of a workgroup on the device that the suite runs on."""
    from lowering.runtime import Device

    with Device.open() as device:
        return device.capabilities.max_shared_bytes


def run(name: str, vulkan: Any) -> Any:
    row = BY_NAME[name]
    with jax.default_device(vulkan):  # constants that a kernel's wrapper makes
        return jax.jit(row.function)(*jax.device_put(row.arrays, vulkan))


@pytest.mark.parametrize("name", QUICK)
def test_kernel_is_its_formula_to_a_thousandth_and_better(vulkan: Any, shared_bytes: int, name: str) -> None:
    if name in WIDE and shared_bytes <= SMALL:
        with pytest.raises(jax.errors.JaxRuntimeError, match=REFUSAL):
            run(name, vulkan)
        return
    got = run(name, vulkan)
    assert all(leaf.devices() == {vulkan} for leaf in jax.tree.leaves(got))
    want, bound = truth(BY_NAME[name]), BY_NAME[name].bound()
    assert problem(leaves(got), want, bound) is None
    assert problem(spoil(leaves(got)), want, bound) is not None
