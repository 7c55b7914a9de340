"""The process that answers one request a line: `python -m tests.bench.worker vulkan|peer`.

A crash, a lost device or a hang then costs one answer and not the run. `peer` runs JAX on CUDA, else on the CPU.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from .cases import Case, all_cases
from .timing import time_calls, time_dispatch
from .transformer import sizes_of

Answer = dict[str, Any]
QUICK_CALLS, CALLS = 200, 2000


class Peer:
    """JAX on the best device it has of its own: what the Vulkan numbers are compared with."""

    def __init__(self) -> None:
        self.place = _own_device()

    def greet(self, _: Answer) -> Answer:
        """Say what this is."""
        return {"platform": self.place.platform, "name": self.place.device_kind, "versions": versions()}

    def case(self, request: Answer) -> Answer:
        """Time one case."""
        case = case_of(request)
        values = [jax.device_put(array, self.place) for array in case.arrays(request["seed"])]
        function = jax.jit(case.function)
        jax.block_until_ready(function(*values))
        wall = time_calls(lambda: function(*values), jax.block_until_ready, request["seconds"])
        return {"status": "ok", "wall": wall}

    def dispatch(self, request: Answer) -> Answer:
        """Time calls of a small function."""
        return {"status": "ok", "jit": dispatch_times(self.place, request["quick"])}

    def train(self, request: Answer) -> Answer:
        """Time training steps, with all of f32 and with what this platform does unless asked."""
        from .training import train

        options = {"seed": request["seed"], "seconds": request["seconds"]}
        sizes = sizes_of(request["name"], is_quick=request["quick"])
        exact = train(self.place, sizes, precision="highest", **options)
        return {"status": "ok", **exact, "default": train(self.place, sizes, precision=None, **options)}


class Vulkan:
    """Our compiler and runtime on the device that the environment chooses, and JAX's platform `vulkan`."""

    def __init__(self) -> None:
        from lowering.runtime import Device

        # The CPU stays the default device: references are computed there.
        self._has_platform = importlib.util.find_spec("lowering.pjrt._native") is not None
        jax.config.update("jax_platforms", "cpu,vulkan" if self._has_platform else "cpu")
        if self._has_platform:
            from lowering.pjrt import initialize

            initialize()
        self.device = Device.open()
        self._prepared: Any = None

    def greet(self, _: Answer) -> Answer:
        """Say which device this is, and what of it kernels are chosen by."""
        record, facts = self.device.record, self.device.capabilities
        kinds = {(m.a, m.c, m.m, m.n, m.k) for m in facts.matrices if m.scope == "subgroup"}
        return {
            "name": record.name,
            "type": record.device_type,
            "driver": f"{record.driver_name} {record.driver_version}",
            "vulkan": record.api_version,
            "memory_bytes": record.memory_bytes,
            "subgroup_size": facts.subgroup_size,
            "max_shared_bytes": facts.max_shared_bytes,
            "max_invocations": facts.max_invocations,
            "timestamp_period_ns": facts.timestamp_period_ns,
            "is_host_visible": self.device.is_direct,
            "matrices": sorted(f"{a}->{c} {m}x{n}x{k}" for a, c, m, n, k in kinds),
            "versions": versions(),
        }

    def roof(self, request: Answer) -> Answer:
        """Measure the bandwidth of a copy."""
        from .roof import measure_roof

        nbytes = 1 << 24 if request["quick"] else 1 << 30
        return measure_roof(self.device, nbytes=nbytes, seed=request["seed"], seconds=request["seconds"])

    def case(self, request: Answer) -> Answer:
        """Check and time one case."""
        from .kernels import measure_case

        case = case_of(request)
        counted = {"bytes": case.moved_bytes(), "operations": case.operations, "inputs": case.inputs}
        return {**counted, **measure_case(self.device, case, seed=request["seed"], seconds=request["seconds"])}

    def dispatch(self, request: Answer) -> Answer:
        """Time calls of a small function through JAX, and of the same program through the runtime alone."""
        from lowering import lower

        program = lower(small)(jax.ShapeDtypeStruct((8,), np.float32)).program(self.device.capabilities)
        loaded = self.device.load(program)
        first = self.device.allocate(32)
        self.device.upload(first, np.arange(8, dtype=np.float32))
        calls = QUICK_CALLS if request["quick"] else CALLS
        run = time_dispatch(
            lambda buffer: loaded.run([buffer])[0], lambda buffer: self.device.wait(buffer.ready), first, calls
        )
        return {"status": "ok", "runtime": run, "jit": dispatch_times(self._vulkan_place(), request["quick"])}

    def compile(self, request: Answer) -> Answer:
        """Compile the training step, cold or from the cache in the request's folder."""
        from .compiling import measure_compile, measure_stages

        sizes = sizes_of("compile", is_quick=request["quick"])
        answer = measure_compile(self.device, sizes, Path(request["folder"]))
        return answer | ({"stages": measure_stages(self.device.capabilities, sizes)} if request["stages"] else {})

    def train(self, request: Answer) -> Answer:
        """Check and time training steps."""
        from .training import measure_training

        sizes = sizes_of(request["name"], is_quick=request["quick"])
        options = {name: request[name] for name in ("seed", "seconds", "has_peer")}
        return {
            "operations": sizes.operations,
            **measure_training(self.device, self._vulkan_place(), sizes, **options),
        }

    def sweep(self, request: Answer) -> Answer:
        """List the candidates of a matrix product, or check and time one."""
        from . import sweep

        case = case_of(request)
        if self._prepared is None or self._prepared.case.name != case.name:
            self._prepared = None
            self._prepared = sweep.prepare(self.device, case, request["seed"])
        if "row" not in request:
            problem = sweep.problem_of(self._prepared.fused)
            return {"rows": sweep.candidates(problem, self.device.capabilities, is_quick=request["quick"])}
        return sweep.measure_row(self.device, self._prepared, request["row"], request["seconds"])

    def _vulkan_place(self) -> Any:
        """Return the JAX device."""
        if not self._has_platform:
            raise RuntimeError("lowering.pjrt._native is not compiled: run tests/bench/prepare.sh")
        return jax.devices("vulkan")[0]


def small(x: Any) -> Any:
    """Add one: as little work as a call can have."""
    return x + 1


def dispatch_times(place: Any, is_quick: bool) -> Answer:
    """Time calls of `small` through `jax.jit` on a device."""
    function, first = jax.jit(small), jax.device_put(np.arange(8, dtype=np.float32), place)
    return time_dispatch(function, jax.block_until_ready, first, QUICK_CALLS if is_quick else CALLS)


def case_of(request: Answer) -> Case:
    """Return the case that a request names."""
    return all_cases(is_quick=request["quick"])[request["name"]]


def versions() -> dict[str, str]:
    """Return the versions that numbers may depend on."""
    import jaxlib

    return {
        "python": sys.version.split()[0],
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "numpy": np.__version__,
    }


def _own_device() -> Any:
    """Return JAX's first CUDA device, else its CPU."""
    if any(importlib.util.find_spec(name) for name in ("jax_cuda13_plugin", "jax_cuda12_plugin")):
        jax.config.update("jax_platforms", "cuda,cpu")
        try:
            return jax.devices("cuda")[0]
        except RuntimeError as error:
            print(f"no CUDA, the peer is JAX on the CPU: {str(error).splitlines()[0]}", file=sys.stderr)
    jax.config.update("jax_platforms", "cpu")
    return jax.devices("cpu")[0]


def serve(side: Callable[[], Any], requests: Any, answers: Any) -> None:
    """Answer requests until there are none: {"task": ..., ...} -> the task's answer, or what went wrong."""
    server = None
    for line in requests:
        request = json.loads(line)
        try:
            server = side() if server is None else server
            answer = getattr(server, request["task"])(request)
        except Exception as error:
            traceback.print_exc()
            answer = {"status": "error", "why": f"{type(error).__name__}: {str(error)[:600]}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def main() -> None:
    """Serve on standard input and output; whatever else is printed goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve({"vulkan": Vulkan, "peer": Peer}[sys.argv[1]], sys.stdin, answers)


if __name__ == "__main__":
    main()
