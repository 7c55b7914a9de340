"""Time each dispatch of a program on the device, by timestamps around it in a recording of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import DeviceError, message
from ..program import Region
from .loader import check, constants, interface
from .parts import Parts
from .recording import Recorder, record_segment
from .segments import Item, Loop, Recipe, Segment
from .structs import Struct

type_read_flag = Callable[[Region, int], int]


@dataclass(frozen=True, slots=True)
class DispatchTime:
    """Device time of one dispatch of a program: how often it ran in one call and how long in all."""

    label: str
    kernel: int
    where: str
    groups: tuple[int, int, int]
    count: int
    total_ns: float


def profile_items(
    parts: Parts,
    recorder: Recorder,
    recipe: Recipe,
    table_address: int,
    labels: Sequence[str],
    *,
    read_flag: type_read_flag,
) -> list[DispatchTime]:
    """Run a recipe with a barrier and timestamps around each dispatch; return one time a static dispatch, in order."""
    context = parts.context
    if not context.facts.families[context.plan.family].timestamp_bits:
        raise DeviceError(
            message(
                "profile: the device's queue must have timestamps.",
                got=f"none on {context.facts.name}",
                want="timestampValidBits above 0",
                fix="time whole calls on the host instead.",
            )
        )
    longest = max((len(segment.commands) for segment in _segments(recipe.items)), default=0)
    counts, totals = [0] * len(recipe.dispatches), [0.0] * len(recipe.dispatches)
    clock = _Clock(parts, recorder, 2 * max(1, longest))
    try:
        _ = walk_items(recipe.items, lambda segment: clock.time(segment, table_address, counts, totals), read_flag)
    finally:
        clock.close()
    return [
        DispatchTime(labels[i], step.kernel, step.where, step.groups, counts[i], totals[i])
        for i, step in enumerate(recipe.dispatches)
    ]


def walk_items(items: Sequence[Item], run: Callable[[Segment], int], read_flag: type_read_flag) -> int:
    """Run items one segment at a time, `run` returning its tick, and return the last tick."""
    tick = 0
    for item in items:
        if isinstance(item, Segment):
            tick = run(item)
        elif isinstance(item, Loop):
            for _ in range(item.count):
                tick = walk_items(item.body, run, read_flag)
        else:
            tick = walk_items(item.condition, run, read_flag)
            while read_flag(item.flag, tick) == 1:
                tick = walk_items(item.round_items, run, read_flag)
    return tick


def _segments(items: Sequence[Item]) -> list[Segment]:
    found: list[Segment] = []
    for item in items:
        if isinstance(item, Segment):
            found.append(item)
        elif isinstance(item, Loop):
            found.extend(_segments(item.body))
        else:
            found.extend(_segments((*item.condition, *item.round_items)))
    return found


class _Clock:
    """A query pool and one command buffer, used for one segment at a time."""

    def __init__(self, parts: Parts, recorder: Recorder, queries: int) -> None:
        ffi = interface()
        self._parts = parts
        self._recorder = recorder
        context = parts.context
        info = Struct("VkQueryPoolCreateInfo", queryType=constants().VK_QUERY_TYPE_TIMESTAMP, queryCount=queries)
        handle = ffi.new("VkQueryPool*")
        create = context.functions.vkCreateQueryPool
        check("vkCreateQueryPool", create(context.handle, info.pointer, ffi.NULL, handle))
        self._pool = handle[0]
        with context.lock:
            self._commands = parts.queue.command_buffer_locked()
        bits = context.facts.families[context.plan.family].timestamp_bits
        self._mask = (1 << bits) - 1
        self._period = context.facts.limits["timestampPeriod"]
        self._stage = constants().VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT

    def time(self, segment: Segment, table_address: int, counts: list[int], totals: list[float]) -> int:
        """Run one segment, add its dispatches' times, and return its tick."""
        context, queue = self._parts.context, self._parts.queue
        functions = context.functions
        queries = 2 * len(segment.commands)
        functions.vkResetQueryPool(context.handle, self._pool, 0, queries)
        with context.lock:
            hooks = (
                (lambda target, number: self._stamp(target, 2 * number)),
                (lambda target, number: self._stamp(target, 2 * number + 1)),
            )
            record_segment(self._recorder, self._commands, segment, table_address, around=hooks)
            tick = queue.submit_locked(self._commands, "profile")
        queue.wait(tick)
        for number, command in enumerate(segment.commands):
            if command is not None:
                first, second = self._read(2 * number)
                # One static dispatch may be split into several; its time is their sum and its count that of the first.
                counts[command.source] += command.first_group == 0
                totals[command.source] += ((second - first) & self._mask) * self._period
        return tick

    def _stamp(self, target: Any, query: int) -> None:
        self._parts.context.functions.vkCmdWriteTimestamp(target, self._stage, self._pool, query)

    def _read(self, query: int) -> tuple[int, int]:
        ffi, values = interface(), constants()
        context = self._parts.context
        stamps = ffi.new("uint64_t[2]")
        flags = values.VK_QUERY_RESULT_64_BIT | values.VK_QUERY_RESULT_WAIT_BIT
        read = context.functions.vkGetQueryPoolResults
        result = read(context.handle, self._pool, query, 2, 16, ffi.cast("void*", stamps), 8, flags)
        check("vkGetQueryPoolResults", result)
        return stamps[0] & self._mask, stamps[1] & self._mask

    def close(self) -> None:
        """Destroy the pool and free the command buffer; nothing of it is pending."""
        context = self._parts.context
        with context.lock:
            self._parts.queue.free_command_buffers_locked([self._commands])
        context.functions.vkDestroyQueryPool(context.handle, self._pool, interface().NULL)
