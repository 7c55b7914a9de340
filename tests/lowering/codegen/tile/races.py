"""Run a kernel with every invocation by itself, and tell where the result depends on who comes first.

Between two barriers the invocations of a workgroup run one after the other, in an order that is chosen; what one writes
and another reads or writes there is a race, unless both write the same bytes. Workgroups may never touch what another
one writes. A barrier that not all invocations reach together is an error.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from shaders.kernel import Kernel
from shaders.spirv.grammar import Op

from .invocations import Invocation, Meeting, Module, decode, inputs_of


class RaceError(AssertionError):
    """The result of a kernel depends on who comes first, or a barrier is not reached by all."""


@dataclass
class Log:
    """Who touched which byte: since the last barrier, and in which workgroup at all."""

    invocation: int = 0
    group: int = 0
    wrote: dict[tuple[str, int], tuple[int, int, bool]] = field(default_factory=dict)
    read: dict[tuple[str, int], set[int]] = field(default_factory=dict)
    groups: dict[tuple[str, int], tuple[set[int], set[int]]] = field(default_factory=dict)

    def access(self, memory: str, offset: int, value: bytes, *, writes: bool, atomic: bool) -> None:
        """Note an access; raise if another invocation's collides with it."""
        for place, byte in enumerate(value, offset):
            key = (memory, place)
            if memory.startswith("buffer"):
                self._across_groups(key, writes=writes and not atomic)
            before = self.wrote.get(key)
            if before is not None and before[0] != self.invocation:
                same = writes and before[1] == byte
                if not same and not (atomic and before[2]):
                    raise RaceError(f"{'write' if writes else 'read'} of {key} after {before[0]}'s write, no barrier")
            if writes:
                others = self.read.get(key, set()) - {self.invocation}
                if others:
                    raise RaceError(f"write of {key} by {self.invocation} while {sorted(others)} read, no barrier")
                self.wrote[key] = (self.invocation, byte, atomic)
            else:
                self.read.setdefault(key, set()).add(self.invocation)

    def _across_groups(self, key: tuple[str, int], *, writes: bool) -> None:
        readers, writers = self.groups.setdefault(key, (set(), set()))
        (writers if writes else readers).add(self.group)
        if writers and len(readers | writers) > 1:
            raise RaceError(f"workgroups {sorted(readers | writers)} share {key}, which one of them writes")

    def barrier(self) -> None:
        """Forget what was ordered by a barrier."""
        self.wrote.clear()
        self.read.clear()


def run_kernel(
    kernel: Kernel, buffers: Sequence[np.ndarray], groups: int, *, backwards: bool = False, module: Module | None = None
) -> list[np.ndarray]:
    """Return what the buffers hold after all workgroups have run; a kernel reaches them by binding.

    Raises:
        RaceError: two invocations collide, or not all reach a barrier.
    """
    module = decode(kernel.words) if module is None else module
    held = {f"buffer {number}": bytearray(array.tobytes()) for number, array in enumerate(buffers)}
    log = Log()
    for group in range(groups):
        shared = {
            pointer.memory: bytearray(b"\xff" * pointer.type.nbytes)
            for pointer in module.variables.values()
            if pointer.memory.startswith("shared")
        }
        log.group = group
        _run_group(module, {**held, **shared}, kernel, log, backwards=backwards)
        log.barrier()
    return [
        np.frombuffer(bytes(held[f"buffer {number}"]), array.dtype).reshape(array.shape)
        for number, array in enumerate(buffers)
    ]


def _run_group(module: Module, memory: Mapping[str, bytearray], kernel: Kernel, log: Log, *, backwards: bool) -> None:
    size, subgroup = kernel.workgroup[0], kernel.subgroup_size or kernel.workgroup[0]
    runs = [
        Invocation(module, memory, inputs_of(number, log.group, size, subgroup), log).run() for number in range(size)
    ]
    answers: list[Any] = [None] * size
    order = range(size - 1, -1, -1) if backwards else range(size)
    waiting: dict[int, Meeting | None] = {}
    while True:
        for number in order:
            if number not in waiting:
                log.invocation = number
                waiting[number] = _go_on(runs[number], answers[number])
                answers[number] = None
        if all(meeting is None for meeting in waiting.values()):
            return
        served = _exchange(waiting, answers, subgroup)
        if not served:
            places = {None if meeting is None else meeting.place for meeting in waiting.values()}
            if len(places) > 1:
                raise RaceError(f"a barrier that not all invocations reach: they are at {places}")
            log.barrier()
            served = set(waiting)
        for number in served:
            del waiting[number]


def _go_on(run: Generator[Meeting, Any, None], answer: Any) -> Meeting | None:
    try:
        return run.send(answer)
    except StopIteration:
        return None


def _exchange(waiting: Mapping[int, Meeting | None], answers: list[Any], subgroup: int) -> set[int]:
    """Serve the subgroups all of whose invocations wait for each other."""
    served: set[int] = set()
    for first in range(0, len(waiting), subgroup):
        meetings = {number: waiting[number] for number in range(first, first + subgroup)}
        kinds = {None if each is None else (each.scope, each.place) for each in meetings.values()}
        if any(kind is not None and kind[0] == "subgroup" for kind in kinds):
            if len(kinds) > 1:
                raise RaceError(f"a shuffle that not all invocations of a subgroup reach: {kinds}")
            for number, meeting in meetings.items():
                assert meeting is not None
                _, distance = meeting.payload
                other = meetings[first + ((number - first) ^ distance)]
                assert other is not None
                answers[number] = other.payload[0]
            served |= meetings.keys()
    return served


def barriers_of(module: Module) -> list[int]:
    """Return where the barriers of a kernel stand."""
    return [place for place, (opcode, _) in enumerate(module.code) if opcode == Op.ControlBarrier]


def without(module: Module, places: Iterable[int]) -> Module:
    """Return the kernel with some instructions replaced by nothing."""
    dropped = set(places)
    nothing = (Op.Line, [0, 0, 0])
    return replace(module, code=[nothing if place in dropped else each for place, each in enumerate(module.code)])
