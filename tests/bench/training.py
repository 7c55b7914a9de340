"""Train the transformer for a few steps on one platform: losses, time per step and, on Vulkan, time per kernel."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import asdict
from typing import Any

import jax
import numpy as np

from lowering import lower
from lowering.runtime import Device

from .kernels import longest, plan_of, profile, upload
from .timing import time_calls, timing_of
from .transformer import Sizes, batch_of, jitted_step, optimiser, parameters_of, step_of, structures_of

CHECKED_STEPS = 3
# The promise for unchanged programs: losses agree with the CPU's to this share; in bf16 to one rounding of it.
RELATIVE = {"float32": 1e-4, "bfloat16": 2.0**-8}


def train(place: Any, sizes: Sizes, *, seed: int, seconds: float, precision: str | None) -> dict[str, Any]:
    """Return the first losses, the time of the first call and the time per step on a JAX device."""
    with jax.default_matmul_precision(precision), jax.default_device(place):
        began = time.perf_counter()
        parameters = jax.device_put(parameters_of(sizes, seed), place)
        tokens = jax.device_put(batch_of(sizes, seed), place)
        state = jax.device_put(jax.jit(optimiser().init)(parameters), place)
        ready = time.perf_counter()
        step = jitted_step(sizes)
        held = list(step(parameters, state, tokens))
        ran_on = sorted(device.platform for device in held[2].devices())
        losses = [float(held[2])]
        first_s = time.perf_counter() - ready
        while len(losses) < CHECKED_STEPS:
            held = list(step(held[0], held[1], tokens))
            losses.append(float(held[2]))

        def start() -> Any:
            held[:] = step(held[0], held[1], tokens)
            return held[2]

        wall = time_calls(start, jax.block_until_ready, seconds) if seconds else None
    times = {"put_s": ready - began, "first_step_s": first_s, "wall": wall}
    return {"losses": losses, "ran_on": ran_on, **times, "host_mib": _host_mib()}


def compare_losses(got: list[float], wanted: list[float], sizes: Sizes) -> dict[str, Any]:
    """Return the largest relative distance of two runs' losses, and whether it is too large."""
    errors = [abs(mine - want) / abs(want) for mine, want in zip(got, wanted, strict=True)]
    # NaN compares false: a broken loss must not pass.
    if all(error <= RELATIVE[sizes.compute] for error in errors):
        return {"relative_error": max(errors), "status": "ok"}
    return {"relative_error": max(errors), "status": "wrong", "why": f"losses {got}, they should be {wanted}"}


def measure_training(
    device: Device, place: Any, sizes: Sizes, *, seed: int, seconds: float, has_peer: bool
) -> dict[str, Any]:
    """Train on Vulkan and compare the losses with the CPU's; then profile one step on the device's clock.

    A step in bf16 takes XLA's CPU backend minutes at full size: with a peer on a device, the caller compares with that.
    """
    found = train(place, sizes, seed=seed, seconds=0, precision="highest")
    answer = {**found, "status": "ok"}
    if not (has_peer and sizes.compute != "float32"):
        wanted = train(jax.devices("cpu")[0], sizes, seed=seed, seconds=0, precision="highest")["losses"]
        answer = {**found, "cpu_losses": wanted, **compare_losses(found["losses"], wanted, sizes)}
    if answer["status"] != "ok":
        return answer
    timed = train(place, sizes, seed=seed, seconds=seconds, precision="highest")
    return {**answer, "wall": timed["wall"], **_profile(device, sizes, seed, seconds)}


def _profile(device: Device, sizes: Sizes, seed: int, seconds: float) -> dict[str, Any]:
    arguments = structures_of(sizes)
    program = lower(step_of(sizes), donate_argnums=(0, 1), keep_unused=True)(*arguments).program(device.capabilities)
    zeros = [np.zeros(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(arguments[1])]
    arrays = [*jax.tree.leaves(parameters_of(sizes, seed)), *zeros, batch_of(sizes, seed)]
    profiles = profile(device.load(program), upload(device, arrays), seconds)
    totals = [sum(entry.total_ns for entry in entries) / 1e3 for entries in profiles]
    return {"device": asdict(timing_of(totals)), "kernels": longest(profiles), "plan": plan_of(program)}


def _host_mib() -> float:
    """Return the largest size of this process so far, in MiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
