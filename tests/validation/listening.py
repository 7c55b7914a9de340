"""Programs, devices that a validation layer listens to, and what it hears while a program runs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from lowering import dtypes
from lowering.compiler import compile_graph
from lowering.errors import DeviceError
from lowering.graph import Graph
from lowering.program import Barrier, Dispatch, Program, Repeat, Step, While
from lowering.runtime import Buffer, Device, settings_from_environment
from lowering.runtime.descriptors import run_with_descriptors
from lowering.runtime.settings import Validation
from shaders.capabilities import Capabilities

from ..lowering.programs import PROGRAMS as COMMON
from ..lowering.programs import Program as Function
from ..lowering.programs import graph_of, leaves, normal

Style = Literal["cpu", "gpu"]
STYLES: tuple[Style, ...] = ("cpu", "gpu")


def _product(kind: Any) -> Callable[..., Any]:
    return lambda a, b: lax.dot(a, b, preferred_element_type=kind)


def _square(dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    return normal(37, 21, dtype=dtype), normal(21, 45, seed=1, dtype=dtype)


def _chain(x: Any) -> Any:
    """Reduce, use the result along the other axis, and reduce again: a level, a barrier, a level."""
    rows = jnp.exp(x - x.max(1, keepdims=True)).sum(1)
    return jnp.sin(x / rows[:, None]).sum(0), (x * x).sum()


PROGRAMS: dict[str, Function] = COMMON | {
    "product_f16": (_product(jnp.float32), _square(np.float16)),
    "product_bf16": (_product(jnp.float32), _square(jnp.bfloat16)),
    "product_i8": (_product(jnp.int32), _square(np.int8)),
    "long_sum": (_chain, (normal(130, 517),)),
    "running_sum": (lambda x: jnp.cumsum(x, 0), (normal(300, 3),)),
}


def styled(capabilities: Capabilities, style: Style) -> Capabilities:
    """Return the device's capabilities; for style "gpu" as if it were one, so that a CPU driver runs what GPUs get."""
    return capabilities if style == "cpu" else replace(capabilities, device_type="discrete")


@functools.cache
def graph(name: str) -> Graph:
    """Return the imported graph of a program."""
    function, arguments = PROGRAMS[name]
    return graph_of(function, *arguments)


@functools.cache
def compiled(name: str, capabilities: Capabilities, *, descriptors: bool = False) -> Program:
    """Return the compiled program."""
    return compile_graph(graph(name), capabilities, descriptors=descriptors)


def listening(validation: Validation) -> Iterator[Device]:
    """Open a device under a kind of validation; skip, and say why, where the driver or the layer is missing."""
    settings = replace(settings_from_environment(), validation=validation, labels=True)
    try:
        opened = Device.open(settings=settings)
    except DeviceError as error:
        pytest.skip(str(error).splitlines()[0])
    with opened:
        yield opened


def uploaded(device: Device, arrays: Sequence[np.ndarray], program: Program) -> list[Buffer]:
    """Return buffers that hold the arguments of a program."""
    buffers: list[Buffer] = []
    for array, kind in zip(arrays, program.inputs, strict=True):
        buffers.append(device.allocate(array.nbytes))
        device.upload(buffers[-1], np.ascontiguousarray(array).reshape(kind.shape))
    return buffers


def run(device: Device, program: Program, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Run as users do: addresses in a table, one recording."""
    return _fetched(device, program, device.load(program).run(uploaded(device, arrays, program)))


def run_described(
    device: Device, program: Program, arrays: Sequence[np.ndarray], *, exact: bool = False
) -> list[np.ndarray]:
    """Run a program of descriptor kernels."""
    outputs = run_with_descriptors(device, program, uploaded(device, arrays, program), exact=exact)
    return _fetched(device, program, outputs)


def arguments(name: str) -> list[np.ndarray]:
    """Return the arrays a program is called with."""
    return leaves(PROGRAMS[name][1])


def heard(device: Device) -> list[str]:
    """Return what the layer said since the last time."""
    texts = [f"{message.identifier}: {message.text}" for message in device.messages]
    device.messages.clear()
    return texts


def without_barrier(program: Program, number: int) -> Program:
    """Return the program without one of the barriers that `count_barriers` counts."""
    count = iter(range(count_barriers(program.steps)))

    def strip(steps: Sequence[Step]) -> tuple[Step, ...]:
        kept: list[Step] = []
        for position, step in enumerate(steps):
            if _is_counted(steps, position) and next(count) == number:
                continue
            if isinstance(step, Repeat):
                kept.append(replace(step, body=strip(step.body)))
            elif isinstance(step, While):
                kept.append(replace(step, condition=strip(step.condition), body=strip(step.body)))
            else:
                kept.append(step)
        return tuple(kept)

    return replace(program, steps=strip(program.steps))


def count_barriers(steps: Sequence[Step]) -> int:
    """Return the number of barriers between two dispatches, inside loops as well; the runtime fences loops itself."""
    total = 0
    for position, step in enumerate(steps):
        if isinstance(step, Repeat):
            total += count_barriers(step.body)
        elif isinstance(step, While):
            total += count_barriers(step.condition) + count_barriers(step.body)
        else:
            total += _is_counted(steps, position)
    return total


def _is_counted(steps: Sequence[Step], position: int) -> bool:
    around = steps[max(0, position - 1) : position + 2]
    return [type(step) for step in around] == [Dispatch, Barrier, Dispatch]


def _fetched(device: Device, program: Program, buffers: Sequence[Buffer]) -> list[np.ndarray]:
    results = []
    for buffer, kind in zip(buffers, program.outputs, strict=True):
        results.append(np.empty(kind.shape, dtypes.NUMPY[kind.dtype]))
        device.download(buffer, results[-1])
    return results
