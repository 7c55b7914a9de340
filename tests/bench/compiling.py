"""Time what happens between a Python function and a program on the device, stage by stage, the driver's part apart."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import jax
from jax.extend.mlir import serialize_portable_artifact
from jax.extend.mlir.dialects import stablehlo

from lowering import compiler
from lowering.api import compile_module
from lowering.cache import DiskCache
from lowering.plan.assemble import assemble
from lowering.program import Program
from lowering.program_file import encode
from lowering.runtime import Device, LoadedProgram
from lowering.stablehlo import import_module
from shaders.capabilities import Capabilities

from .kernels import plan_of
from .transformer import Sizes, step_of, structures_of


class LoadTimer:
    """A device that measures how long loading a program takes: building pipelines is the driver's time, not ours."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.seconds = 0.0

    @property
    def capabilities(self) -> Capabilities:
        """Those of the device."""
        return self.device.capabilities

    def load(self, program: Program) -> LoadedProgram:
        """Load a program and add the time it took."""
        began = time.perf_counter()
        loaded = self.device.load(program)
        self.seconds += time.perf_counter() - began
        return loaded


def measure_compile(device: Device, sizes: Sizes, folder: Path) -> dict[str, Any]:
    """Compile the training step as the plugin does, with programs stored in a folder: cold if it is empty.

    `compile_s` is all that a user waits for but for the driver: tracing, lowering to StableHLO, and our compiler or the
    reading of its cache.
    """
    store, timer, marks = DiskCache("programs", folder=folder), LoadTimer(device), [time.perf_counter()]
    stored = len(list(store.folder.glob("*/*")))
    traced = jax.jit(step_of(sizes), donate_argnums=(0, 1)).trace(*structures_of(sizes))
    marks.append(time.perf_counter())
    lowered = traced.lower(lowering_platforms=("vulkan",))
    module = serialize_portable_artifact(lowered.compiler_ir("stablehlo"), stablehlo.get_current_version())
    marks.append(time.perf_counter())
    executable = compile_module(module, timer, store=store)  # pyright: ignore[reportArgumentType] - stands in for it
    marks.append(time.perf_counter())
    trace, lower, ours = (end - begin for begin, end in itertools.pairwise(marks))
    return {
        "status": "ok",
        "was_compiled": len(list(store.folder.glob("*/*"))) > stored,
        "trace_s": trace,
        "lower_s": lower,
        "compiler_s": ours - timer.seconds,
        "compile_s": trace + lower + ours - timer.seconds,
        "driver_s": timer.seconds,
        "module_bytes": len(module),
        "plan": plan_of(executable.program),  # pyright: ignore[reportAttributeAccessIssue] - verify mode is off here
    }


def measure_stages(capabilities: Capabilities, sizes: Sizes) -> dict[str, float]:
    """Time the compiler's own stages on the training step."""
    lowered = jax.jit(step_of(sizes), donate_argnums=(0, 1)).trace(*structures_of(sizes))
    module = lowered.lower(lowering_platforms=("vulkan",)).compiler_ir("stablehlo")
    marks = [time.perf_counter()]
    graph = import_module(module)
    marks.append(time.perf_counter())
    fused = compiler.optimise(graph, capabilities)
    marks.append(time.perf_counter())
    program = assemble(fused, compiler.KernelMaker(capabilities).kernel_of)
    marks.append(time.perf_counter())
    _ = encode(program)
    marks.append(time.perf_counter())
    names = ("import_s", "passes_s", "kernels_and_plan_s", "encode_s")
    return {name: end - begin for name, (begin, end) in zip(names, itertools.pairwise(marks), strict=True)}
