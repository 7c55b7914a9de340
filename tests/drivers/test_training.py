"""A few steps of training a transformer block give the CPU's losses on whatever driver the suite runs."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from ..lowering.programs import PROGRAMS

STEPS = 5
# Of 32-bit losses whose sums are taken in another order, grown through the steps.
RELATIVE = 1e-4


def _losses(device: jax.Device) -> np.ndarray:
    function, (weights, tokens) = PROGRAMS["transformer_step"]
    step = jax.jit(function)
    # Smaller weights than the table's, so that training descends.
    state = jax.device_put(jax.tree.map(lambda w: (0.3 * w).astype(w.dtype), weights), device)
    placed = jax.device_put(tokens, device)
    losses = []
    for _ in range(STEPS):
        loss, state = step(state, placed)
        losses.append(float(loss))
    return np.array(losses)


def test_losses_equal_those_of_the_cpu(vulkan: Any) -> None:
    expected = _losses(jax.devices("cpu")[0])
    assert expected[-1] < expected[0]
    np.testing.assert_allclose(_losses(vulkan), expected, rtol=RELATIVE)
