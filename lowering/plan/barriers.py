"""Turn levels into program steps, with a barrier wherever a step touches memory that an unfinished one writes."""

from __future__ import annotations

from collections.abc import Sequence

from shaders.kernel import Kernel

from ..program import Barrier, Dispatch, Region, Repeat, Step, While
from .steps import Launch, Level, Loop, Rounds, Storage


def finish(levels: list[Level], kernels: Sequence[Kernel]) -> tuple[Step, ...]:
    """Return the steps of a program."""
    return tuple(_Writer(kernels).levels(levels))


class _Writer:
    def __init__(self, kernels: Sequence[Kernel]) -> None:
        self.kernels = kernels
        self.read: list[Region] = []
        self.written: list[Region] = []

    def levels(self, levels: list[Level]) -> list[Step]:
        result: list[Step] = []
        for level in levels:
            for step in level.steps:
                if isinstance(step, Launch):
                    self._launch(step, result)
                else:
                    self._loop(step, result)
        return result

    def _launch(self, launch: Launch, result: list[Step]) -> None:
        regions = tuple(_region(storage) for storage in launch.arguments)
        access = [parameter.access for parameter in self.kernels[launch.kernel].parameters]
        reads = [r for r, a in zip(regions, access, strict=True) if "r" in a]
        writes = [r for r, a in zip(regions, access, strict=True) if "w" in a]
        guard = None
        if launch.guard is not None:
            guard = (_region(launch.guard.flag), launch.guard.expected)
            reads.append(guard[0])
        if _meet(reads, self.written) or _meet(writes, self.written) or _meet(writes, self.read):
            self._barrier(result)
        self.read += reads
        self.written += writes
        result.append(Dispatch(launch.kernel, regions, (launch.groups, 1, 1), launch.label, launch.where, guard))

    def _loop(self, step: Rounds | Loop, result: list[Step]) -> None:
        self._barrier(result)
        if isinstance(step, Rounds):
            result.append(Repeat(step.count, finish(step.body, self.kernels), step.label))
        else:
            condition = finish(step.condition, self.kernels)
            result.append(While(condition, _region(step.flag), finish(step.body, self.kernels), step.label))
        result.append(Barrier())
        self.read, self.written = [], []

    def _barrier(self, result: list[Step]) -> None:
        if self.read or self.written:
            result.append(Barrier())
        self.read, self.written = [], []


def _region(storage: Storage) -> Region:
    return Region(storage.space, storage.index, storage.offset, storage.nbytes)


def _meet(first: list[Region], second: list[Region]) -> bool:
    return any(
        a.space == b.space and a.index == b.index and a.offset < b.offset + b.nbytes and b.offset < a.offset + a.nbytes
        for a in first
        for b in second
    )
