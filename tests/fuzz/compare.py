"""Run a random program as a CPU driver and as a GPU would, donating or not, and compare with XLA on the CPU."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from lowering.compiler import compile_graph
from lowering.runtime import Device
from lowering.stablehlo import import_module

from ..lowering.running import STYLES, run, styled
from .programs import program

# Programs shrink their numbers to below one at each step; each of their few steps may round and amplify a little.
FLOAT_TOLERANCE = 2e-4


def problems(seed: int, device: Device, *, steps: int = 10) -> list[str]:
    """Return what differs, in words."""
    function, arguments = program(seed, steps)
    places = tuple(range(len(arguments)))
    traced = jax.jit(function, keep_unused=True, donate_argnums=places).trace(*arguments)
    lowered = traced.lower(lowering_platforms=("cpu",))
    module: Any = lowered.compiler_ir("stablehlo")
    graph = import_module(module)
    want = [np.asarray(leaf) for leaf in jax.jit(function)(*arguments)]
    found: list[str] = []
    for style in STYLES:
        compiled = compile_graph(graph, styled(device.capabilities, style))
        for donates in (False, True):
            got = run(device, compiled, arguments, donate=donates)
            found += [
                f"seed {seed}, {style}, donates {donates}, result {place}: {text}"
                for place, (left, right) in enumerate(zip(got, want, strict=True))
                if (text := difference(left, right)) is not None
            ]
    return found


def difference(got: np.ndarray, want: np.ndarray) -> str | None:
    """Return how two arrays differ, or `None`."""
    if (got.dtype, got.shape) != (want.dtype, want.shape):
        return f"{got.dtype}{got.shape} instead of {want.dtype}{want.shape}"
    wrong: Any = got != want
    if want.dtype.kind == "f":
        wrong = ~np.isclose(got, want, rtol=FLOAT_TOLERANCE, atol=FLOAT_TOLERANCE, equal_nan=True)
    if not np.any(wrong):
        return None
    first = tuple(int(i) for i in np.argwhere(wrong)[0])
    return f"{int(np.sum(wrong))} of {want.size} differ, first at {first}: {got[first]} instead of {want[first]}"
