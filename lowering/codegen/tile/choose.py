"""Choose the schedule of a tile kernel: what its author asks for, else the first of a few that fits shared memory."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace

from shaders.capabilities import Capabilities
from shaders.kernel import Parameter
from shaders.spirv import Builder

from ... import dtypes
from ...errors import UnsupportedError, message
from ...graph import Node
from ...schedule import MOST_SUBGROUPS, Schedule
from .kernel import node_of, write
from .matrices import find_matrices
from .memory import prepare
from .plan import UNSTAGED

# Elements of the largest tile that one invocation holds, where the workgroup may be that large.
SHARE = 16
MOST_THREADS = 256


def choose(fusion: Node, capabilities: Capabilities) -> Schedule:
    """Return the schedule of a tile kernel.

    Operands of products are staged in shared memory if it is large enough; else the matrix units are left out, and then
    the staging of what can be read from memory again and again.

    Raises:
        UnsupportedError: the author asks for a workgroup that the device does not have.
    """
    node = node_of(fusion)
    *others, last = _schedules(node, capabilities, _threads(node, capabilities))
    for schedule in others:
        if _shared_bytes(node, schedule) <= capabilities.max_shared_bytes:
            return schedule
    return last


def candidates(fusion: Node, capabilities: Capabilities) -> Iterator[Schedule]:
    """Yield the schedules worth measuring; `fits` tells which of them the device can run."""
    node = node_of(fusion)
    for threads in _all_threads(node, capabilities):
        yield from _schedules(node, capabilities, threads)


def fits(fusion: Node, schedule: Schedule, capabilities: Capabilities) -> bool:
    """Tell whether a schedule's tiles fit the registers of a workgroup and the device's shared memory."""
    try:
        return _shared_bytes(node_of(fusion), schedule) <= capabilities.max_shared_bytes
    except UnsupportedError:
        return False


def _schedules(node: Node, capabilities: Capabilities, threads: int) -> Iterator[Schedule]:
    """Yield the schedules to try, the fastest first."""
    options, size = _options(node), capabilities.subgroup_size
    plain = Schedule("tile", threads, subgroup=size)
    unstaged = replace(plain, mode=UNSTAGED)
    if not options.get("staging", True):
        yield unstaged
        return
    if options.get("matrix_units", True):
        shapes = tuple(shape for shape in capabilities.matrices if shape.scope == "subgroup" and not shape.saturating)
        used = find_matrices(*prepare(node), shapes, threads // size).used
        if used:
            yield replace(plain, fragments=tuple(shape for shape in shapes if shape in used))
    yield plain
    yield unstaged


def _options(node: Node) -> dict[str, int]:
    """Return what the kernel's author asks for; see `lowering.pallas.CompilerParams`."""
    return dict(node.attributes.get("options", ()))


def _all_threads(node: Node, capabilities: Capabilities) -> list[int]:
    """Return the sizes of a workgroup to try: the one that the author asks for, else powers of two of subgroups."""
    size = capabilities.subgroup_size
    asked = asked_threads(node, capabilities)
    if asked is not None:
        return [asked]
    most = min(MOST_THREADS, capabilities.max_invocations, MOST_SUBGROUPS * size)
    # The largest first: the fewer invocations, the more code each of them has, and the longer drivers compile.
    return [size << doubling for doubling in reversed(range((most // size).bit_length()))]


def _threads(node: Node, capabilities: Capabilities) -> int:
    """Return the invocations of a workgroup: as many as the largest tile keeps busy."""
    asked = asked_threads(node, capabilities)
    if asked is not None:
        return asked
    size = capabilities.subgroup_size
    most = min(capabilities.max_invocations, MOST_SUBGROUPS * size)
    cell, memory = prepare(node)
    largest = max((v.size for step, _ in cell.walk() for v in step.outputs if v not in memory.arrays), default=1)
    threads = size
    while threads < min(MOST_THREADS, most) and threads * SHARE < largest:
        threads *= 2
    return threads


def asked_threads(node: Node, capabilities: Capabilities) -> int | None:
    """Return the invocations of a workgroup that the author asks for; None where that is left to the compiler.

    Raises:
        UnsupportedError: the device does not have such a workgroup.
    """
    size = capabilities.subgroup_size
    most = min(capabilities.max_invocations, MOST_SUBGROUPS * size)
    options = _options(node)
    asked = options.get("threads")
    if asked is None and "subgroups" in options:
        # Where a device has not as many, what it has is enough: an author who counts invocations says so.
        asked = min(options["subgroups"] * size, most)
    if asked is not None and (asked % size or not size <= asked <= most or asked & (asked - 1)):
        raise UnsupportedError(_threads_text(node, asked, size, most, capabilities.device_name))
    return asked


def _threads_text(node: Node, asked: int, size: int, most: int, device: str) -> str:
    return message(
        "CompilerParams: a workgroup must have whole subgroups, a power of two of them.",
        got=f"threads={asked} for {node.attributes['name']}",
        want=f"a power of two from {size} to {most} on {device}",
        fix="leave `threads` out, or ask for one of these.",
        at=node.where,
        stage="codegen",
    )


@functools.lru_cache(maxsize=64)
def _shared_bytes(node: Node, schedule: Schedule) -> int:
    """Return the shared memory that a kernel takes, by writing it; nodes are equal only to themselves."""
    held = (*node.inputs, *node.outputs)
    parameters = [Parameter(f"p{i}", dtypes.real_part(value.dtype), "rw") for i, value in enumerate(held)]
    workgroup = (schedule.workgroup, 1, 1)
    builder = Builder("trial", workgroup=workgroup, parameters=parameters, subgroup_size=schedule.subgroup)
    buffers = {value: builder.buffer(parameter.name) for value, parameter in zip(held, parameters, strict=True)}
    write(builder, buffers, node, schedule)
    return builder.shared_bytes
