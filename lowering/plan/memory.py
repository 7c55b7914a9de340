"""Give every temporary a place in the arena: live ranges by level, largest first, lowest place that is free."""

from __future__ import annotations

from collections.abc import Iterator

from .steps import Launch, Level, Loop, Rounds, Storage

ALIGNMENT = 256


def plan_arena(levels: list[Level]) -> tuple[int, int]:
    """Set the offset of each temporary; return (bytes of the arena, the largest sum of live bytes at any level)."""
    clock = _Clock()
    clock.walk(levels)
    storages = sorted(clock.seen, key=lambda item: (-item.nbytes, item.first))
    placed: list[Storage] = []
    for storage in storages:
        storage.offset = _lowest_gap(storage, placed)
        placed.append(storage)
    total = max((item.offset + _rounded(item.nbytes) for item in placed), default=0)
    return total, _bound(placed, clock.now)


def launches(levels: list[Level]) -> Iterator[Launch]:
    """Yield every dispatch, inside loops as well."""
    for level in levels:
        for step in level.steps:
            if isinstance(step, Launch):
                yield step
            elif isinstance(step, Rounds):
                yield from launches(step.body)
            else:
                yield from launches(step.condition)
                yield from launches(step.body)


class _Clock:
    """Numbers the levels in order of execution and stretches live ranges over the loops that use them."""

    def __init__(self) -> None:
        self.now = 0
        self.seen: dict[Storage, None] = {}

    def walk(self, levels: list[Level]) -> None:
        for level in levels:
            self.now += 1
            start = self.now
            for step in level.steps:
                if isinstance(step, Launch):
                    for storage in step.arguments:
                        self._touch(storage, start)
                    if step.guard is not None:
                        self._touch(step.guard.flag, start)
                else:
                    self._loop(step)

    def _loop(self, step: Rounds | Loop) -> None:
        start = self.now
        for storage in step.carried:
            self._touch(storage, start)
        if isinstance(step, Loop):
            self._touch(step.flag, start)
            self.walk(step.condition)
        self.walk(step.body)
        self.now += 1
        for storage in (*step.carried, *([step.flag] if isinstance(step, Loop) else [])):
            self._touch(storage, self.now)
        for storage in self.seen:
            if storage.first <= start and storage.last >= start:
                storage.last = max(storage.last, self.now)

    def _touch(self, storage: Storage, level: int) -> None:
        if storage.space != "arena":
            return
        self.seen[storage] = None
        storage.first = level if storage.first < 0 else min(storage.first, level)
        storage.last = max(storage.last, level)


def _rounded(nbytes: int) -> int:
    return -(-max(nbytes, 1) // ALIGNMENT) * ALIGNMENT


def _lowest_gap(storage: Storage, placed: list[Storage]) -> int:
    busy = sorted(
        (other.offset, other.offset + _rounded(other.nbytes))
        for other in placed
        if other.first <= storage.last and storage.first <= other.last
    )
    place, size = 0, _rounded(storage.nbytes)
    for begin, end in busy:
        if begin - place >= size:
            return place
        place = max(place, end)
    return place


def _bound(placed: list[Storage], levels: int) -> int:
    change = [0] * (levels + 2)
    for storage in placed:
        change[storage.first] += _rounded(storage.nbytes)
        change[storage.last + 1] -= _rounded(storage.nbytes)
    live = largest = 0
    for step in change:
        live += step
        largest = max(largest, live)
    return largest
