"""Compile, check and time one case on a device."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from lowering import lower
from lowering.errors import DeviceError
from lowering.program import Program
from lowering.runtime import Buffer, Device, DispatchTime, LoadedProgram

from .cases import Case
from .check import checked_run, difference, reference
from .timing import time_calls, timing_of

PROFILES = 15
# Kernels of one program that a record names, the longest first.
KERNELS = 12


def measure_case(device: Device, case: Case, *, seed: int, seconds: float) -> dict[str, Any]:
    """Return everything the record says about a case; one whose results are wrong is not timed."""
    began = time.perf_counter()
    program = lower(case.function)(*case.structures()).program(device.capabilities)
    compiled = time.perf_counter()
    loaded = device.load(program)
    answer: dict[str, Any] = {
        "compile_s": compiled - began,
        "load_s": time.perf_counter() - compiled,
        "plan": plan_of(program),
    }
    arrays = case.arrays(seed)
    inputs = upload(device, arrays)
    results, answer["check"] = checked_run(device, loaded, inputs)
    wrong = difference(case, results, reference(case, arrays))
    del arrays, results
    if wrong:
        return {**answer, "status": "wrong", "why": wrong}
    return {**answer, "status": "ok", **times_of(device, loaded, inputs, seconds)}


def plan_of(program: Program) -> dict[str, int]:
    """Return the program's size: kernels, dispatches' memory and its bound, words of code."""
    return {
        "kernels": len(program.kernels),
        "code_bytes": sum(len(kernel.words) for kernel in program.kernels),
        "constant_bytes": sum(map(len, program.constants)),
        "arena_bytes": program.arena_bytes,
        "liveness_bound_bytes": program.liveness_bound_bytes,
    }


def upload(device: Device, arrays: Sequence[np.ndarray]) -> list[Buffer]:
    """Put host arrays on the device."""
    buffers = []
    for array in arrays:
        buffer = device.allocate(array.nbytes)
        device.upload(buffer, np.ascontiguousarray(array))
        buffers.append(buffer)
    return buffers


def times_of(device: Device, loaded: LoadedProgram, inputs: Sequence[Buffer], seconds: float) -> dict[str, Any]:
    """Time a loaded program by the device's clock and by the host's."""

    def start() -> int:
        return device_tick(loaded.run(inputs))

    wall = time_calls(start, device.wait, seconds)
    try:
        profiles = profile(loaded, inputs, seconds)
    except DeviceError as error:
        return {"wall": wall, "device": None, "device_missing": str(error).splitlines()[0]}
    totals = [sum(entry.total_ns for entry in entries) / 1e3 for entries in profiles]
    return {"wall": wall, "device": asdict(timing_of(totals)), "kernels": longest(profiles)}


def device_tick(outputs: Sequence[Buffer]) -> int:
    """Return the timeline value at which results are there; the buffers themselves go back to the pool."""
    return max(buffer.ready for buffer in outputs)


def profile(loaded: LoadedProgram, inputs: Sequence[Buffer], seconds: float) -> list[list[DispatchTime]]:
    """Profile a program several times, less often where once takes long."""
    _ = loaded.profile(inputs)
    profiles, end = [], time.perf_counter() + 2 * seconds
    while len(profiles) < 3 or (len(profiles) < PROFILES and time.perf_counter() < end):
        profiles.append(loaded.profile(inputs))
    return profiles


def longest(profiles: Sequence[Sequence[DispatchTime]]) -> list[dict[str, Any]]:
    """Return the kernels that take longest: device time of all their dispatches in one call, by label."""
    totals: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for entries in profiles:
        for entry in entries:
            totals[entry.label][0] += entry.total_ns / 1e3 / len(profiles)
            totals[entry.label][1] += entry.count / len(profiles)
    ranked = sorted(totals.items(), key=lambda item: -item[1][0])[:KERNELS]
    return [{"label": label[:120], "us": round(us, 2), "count": round(count)} for label, (us, count) in ranked]
