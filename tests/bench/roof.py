"""What a device can do at best: bandwidth measured with a copy kernel, matrix rates from a table of measurements."""

from __future__ import annotations

from typing import Any

import numpy as np

from lowering.program import ArrayType, Dispatch, Program, Region
from lowering.runtime import Device
from shaders.kernel import Kernel, Parameter
from shaders.spirv import Builder

from .kernels import times_of, upload

VECTOR = 4
WORKGROUP = 256

# TFLOP/s of the fastest library product measured on a device, 4096^3: cuBLAS through JAX, inputs resident.
KNOWN_MATRIX_TFLOPS: dict[str, dict[str, float]] = {"H100": {"f16": 754.0, "f32": 52.0}}


def known_matrix_rate(device_name: str, dtype: str) -> float | None:
    """Return TFLOP/s of the best product known for a device and a dtype, None where nobody has measured one."""
    return next((rates.get(dtype) for part, rates in KNOWN_MATRIX_TFLOPS.items() if part in device_name), None)


def copy_kernel(per_lane: int) -> Kernel:
    """y = x: each invocation moves `per_lane` groups of 16 bytes, a workgroup's neighbours side by side."""
    parameters = (Parameter("x", "u32", "r"), Parameter("y", "u32", "w"))
    builder = Builder("copy", workgroup=(WORKGROUP, 1, 1), parameters=parameters)
    x, y = builder.buffer("x"), builder.buffer("y")
    index = builder.global_id(0)
    lane = index % WORKGROUP
    base = (index - lane) * per_lane + lane
    groups = [(base + step * WORKGROUP) * VECTOR for step in range(per_lane)]
    for place, value in [(place, x.load(place, VECTOR)) for place in groups]:
        y.store(place, value)
    return builder.finish()


def copy_program(nbytes: int, per_lane: int) -> Program:
    """Copy `nbytes`, a multiple of what one workgroup moves."""
    step = 4 * VECTOR * WORKGROUP * per_lane
    count = nbytes // step
    assert count * step == nbytes
    kind = ArrayType("u32", (nbytes // 4,))
    regions = (Region("input", 0, 0, nbytes), Region("output", 0, 0, nbytes))
    dispatch = Dispatch(0, regions, (count, 1, 1), label=f"copy {per_lane}")
    return Program("copy", (copy_kernel(per_lane),), (dispatch,), (kind,), (kind,), (), 0)


def measure_roof(device: Device, *, nbytes: int, seed: int, seconds: float) -> dict[str, Any]:
    """Copy `nbytes` with several kernels; return the best rate in GB/s, bytes read and written both counted."""
    words = np.random.default_rng(seed).integers(0, 1 << 32, nbytes // 4, np.uint32)
    inputs = upload(device, [words])
    rows = []
    for per_lane in (1, 2, 4):
        loaded = device.load(copy_program(nbytes, per_lane))
        target = np.empty_like(words)
        device.download(loaded.run(inputs)[0], target)
        if not np.array_equal(target, words):
            return {"status": "wrong", "why": f"copy with {per_lane} groups an invocation changed its data"}
        del target
        rows.append({"per_lane": per_lane, **times_of(device, loaded, inputs, seconds)})
    rates = [2 * nbytes / (row["device"] or row["wall"])["median_us"] / 1e3 for row in rows]
    best = int(np.argmax(rates))
    return {"status": "ok", "bytes": 2 * nbytes, "gb_per_s": rates[best], "rows": rows, "best": rows[best]["per_lane"]}
