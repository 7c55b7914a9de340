"""Ring attention over several processes, each of which drives a Vulkan device of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lowering.runtime import list_devices
from tests.lowering.embedding.ring_process import draw, total
from tests.qga.dense_attention import dense_attention
from tests.qga.tolerances import VULKAN_ROUNDINGS, assert_close, assert_far

ROOT = Path(__file__).parents[3]
# A process that waits for one that died waits for ever; starting JAX in all of them takes most of the time.
SECONDS = 180


def cards() -> list[str]:
    """Return the devices to choose from: several cards, where there are, one for each process."""
    found = [str(each.index) for each in list_devices() if not each.missing and each.device_type != "cpu"]
    return found if len(found) > 1 else [os.environ.get("QGA_VULKAN_DEVICE", "")]


def start(rank: int, processes: int, port: int, devices: int, path: Path) -> subprocess.Popen[str]:
    inherited = {name: each for name, each in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    chosen = cards()
    inherited |= {"QGA_VULKAN_DEVICE": chosen[rank % len(chosen)], "JAX_PLATFORMS": "cpu,vulkan"}
    words = [str(each) for each in (rank, processes, port, devices, path)]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.lowering.embedding.ring_process", *words],
        cwd=ROOT, env=inherited, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def compute(processes: int, devices: int, folder: Path) -> list[Any]:
    """Run the processes to their end and return what each has written."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    paths = [folder / f"{rank}.npz" for rank in range(processes)]
    running = [start(rank, processes, port, devices, path) for rank, path in enumerate(paths)]
    try:
        for each in running:
            _, errors = each.communicate(timeout=SECONDS)
            assert each.returncode == 0, errors
    finally:
        for each in running:
            each.kill()
            each.wait()
    return [np.load(path) for path in paths]


def truth(devices: int, *, is_causal: bool = True) -> dict[str, np.ndarray]:
    """Return the same of all rows at once, by the dense formula in float64."""

    def attend(*arrays: Any) -> Any:
        return dense_attention(*arrays, is_causal=is_causal)[0]

    with jax.enable_x64(True):
        wide = [jnp.asarray(each, jnp.float64) for each in draw(devices)]
        gradients, out = jax.jit(jax.grad(partial(total, attend), (0, 1, 2), has_aux=True))(*wide)
    return dict(zip(("out", "query", "key", "value"), map(np.asarray, (out, *gradients)), strict=True))


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize(
    ("processes", "devices"),
    [(2, 1), *(pytest.param(*each, marks=pytest.mark.exhaustive) for each in ((2, 2), (4, 1)))],
)
def test_rows_and_gradients_are_those_of_one_process(processes: int, devices: int, tmp_path: Path) -> None:
    found = compute(processes, devices, tmp_path)
    want, wrong = truth(processes * devices), truth(processes * devices, is_causal=False)
    for role, each in want.items():
        got = np.concatenate([part[role] for part in found], axis=1)
        assert_close(got, each, depth=each.shape[1], scale=4, roundings=VULKAN_ROUNDINGS)
        assert_far(got, wrong[role], depth=each.shape[1], scale=4)
    # A device sees its own rows and those before: nothing is computed of what is hidden, forwards or backwards.
    for rank, part in enumerate(found):
        seen = sum(number + 1 for number in range(rank * devices, (rank + 1) * devices))
        assert part["calls"] == 2 * seen
