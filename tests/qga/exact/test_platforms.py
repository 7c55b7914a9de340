"""The same functions on the CPU and on Vulkan (theory T-19)."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qga import dot_attention, fidelity_attention, motivic, pattern_flow
from qga.flow import poisson_tail
from tests.qga.tolerances import VULKAN_ROUNDINGS, assert_close

ROWS = 40

CASES: dict[str, Callable[..., jax.Array]] = {
    "dot": lambda q, k, v: dot_attention(q, k, v, tile=16),
    "dot, many tiles": lambda q, k, v: dot_attention(q, k, v, tile=3),
    "dot, causal": lambda q, k, v: dot_attention(q, k, v, tile=16, is_causal=True),
    "fidelity": lambda q, k, v: fidelity_attention(q, k, v, beta=5.0, tile=16),
    "gradient of dot": jax.grad(lambda q, k, v: jnp.sum(jnp.square(dot_attention(q, k, v, tile=16)))),
    "gradient of fidelity": jax.grad(lambda q, k, v: jnp.sum(fidelity_attention(q, k, v, beta=5.0, tile=3) ** 2)),
    "tangent of dot": lambda q, k, v: jax.jvp(lambda q: dot_attention(q, k, v, tile=16), (q,), (k,))[1],
    "flow": lambda q, k, v: pattern_flow(q, k, v, 1.5, order=11, tile=16)[0],
    "flow, its bound": lambda q, k, v: poisson_tail(jnp.abs(v[0, 0]), 4),
    "weights": lambda q, k, v: motivic.weights(v[:32]),
    "energies": lambda q, k, v: motivic.energies(v[:32]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_vulkan_computes_what_the_cpu_computes(name: str, vulkan: jax.Device, random: np.random.Generator) -> None:
    arrays = [random.normal(size=(ROWS, 8)).astype(np.float32) for _ in range(3)]
    cpu, other = (
        jax.jit(CASES[name])(*(jax.device_put(array, device) for array in arrays))
        for device in (jax.devices("cpu")[0], vulkan)
    )
    assert other.devices() == {vulkan}
    scale = float(np.max(np.abs(np.asarray(cpu)), initial=1e-6))
    assert_close(other, cpu, depth=ROWS, scale=scale, roundings=VULKAN_ROUNDINGS)
