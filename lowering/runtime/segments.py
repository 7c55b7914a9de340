"""Turn a program's steps into what is recorded and how it is submitted. Pure: no device is needed.

    Dispatch, Barrier  ->  commands of a Segment: one command buffer, recorded once
    Repeat, short      ->  unrolled into the segment around it
    Repeat, long       ->  Loop: a segment of many rounds, submitted again and again, and one of the rounds left over
    While              ->  HostLoop: chunks of guarded rounds; the host reads the flag between chunks

Every segment starts with a full barrier, so cutting at any place keeps the order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shaders.kernel import Kernel

from ..errors import GraphError, UnsupportedError, message
from ..program import Barrier, Dispatch, Program, Region, Repeat, Step, While

# Commands beyond which a loop becomes several submissions of one command buffer: bounds memory and recording time.
SEGMENT_COMMANDS = 1024
# Invocations of one dispatch beyond which it is split, so that none runs for seconds on a slow device (watchdogs):
# 16 M invocations of 8 k operations each are half a second at 0.3 TFLOP/s.
DISPATCH_INVOCATIONS = 1 << 24
# Rounds of a While recorded into one chunk at most; past its end, guarded rounds are wasted work.
CHUNK_ROUNDS = 256


@dataclass(frozen=True, slots=True)
class Command:
    """One vkCmdDispatch: its addresses start at `slice_offset` in the table; `source` counts static dispatches."""

    kernel: int
    slice_offset: int
    groups: tuple[int, int, int]
    first_group: int
    guard_value: int
    source: int


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Commands of one command buffer; None is a barrier. `is_repeated` says that it may be pending several times."""

    commands: tuple[Command | None, ...]
    is_repeated: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Loop:
    """Items to submit `count` times."""

    count: int
    body: tuple[Item, ...]


@dataclass(frozen=True, slots=True, eq=False)
class HostLoop:
    """Submit `condition`; while the i32 at `flag` is 1, submit rounds of body and condition.

    `chunks` holds (rounds, segment) with growing numbers of rounds where a round is a single segment, else it is empty
    and `round_items` are submitted one round at a time.
    """

    condition: tuple[Item, ...]
    flag: Region
    chunks: tuple[tuple[int, Segment], ...]
    round_items: tuple[Item, ...]
    label: str


Item = Segment | Loop | HostLoop


@dataclass(frozen=True, slots=True, eq=False)
class Recipe:
    """What a loaded program records and submits.

    Attributes:
        items: in order of submission.
        dispatches: the program's dispatches in order of appearance, which `Command.source` counts.
        address_index: for each entry of the address table, which base address it is made of.
        address_offset: bytes to add to that address.
        needs_host: whether the host decides how it goes on (a While).
    """

    items: tuple[Item, ...]
    dispatches: tuple[Dispatch, ...]
    address_index: np.ndarray
    address_offset: np.ndarray
    needs_host: bool


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds one dispatch: workgroups along each axis, and invocations."""

    groups: tuple[int, int, int]
    invocations: int = DISPATCH_INVOCATIONS


def build_recipe(program: Program, limits: Limits) -> Recipe:
    """Flatten a program.

    Raises:
        GraphError: a region or kernel number the program does not have, or arguments that do not fit the kernel.
        UnsupportedError: a dispatch too large in y or z for the device.
    """
    builder = _Builder(program, limits)
    items = builder.items_of(program.steps)
    return Recipe(
        items=items,
        dispatches=tuple(builder.dispatches),
        address_index=np.array(builder.index, np.intp),
        address_offset=np.array(builder.offset, np.uint64),
        needs_host=has_host_loop(items),
    )


def base_index(program: Program, region: Region) -> int:
    """Return the place of a region's buffer among the base addresses: inputs, outputs, constants, arena."""
    starts = {
        "input": (0, len(program.inputs)),
        "output": (len(program.inputs), len(program.outputs)),
        "constant": (len(program.inputs) + len(program.outputs), len(program.constants)),
        "arena": (len(program.inputs) + len(program.outputs) + len(program.constants), 1),
    }
    start, count = starts[region.space]
    if not 0 <= region.index < count:
        raise _invalid(program, f"{region.space} {region.index}", f"one of {count}")
    return start + region.index


def has_host_loop(items: Sequence[Item]) -> bool:
    """Return whether the host must read a flag to run these items."""
    return any(isinstance(item, HostLoop) or (isinstance(item, Loop) and has_host_loop(item.body)) for item in items)


class _Builder:
    """State of one flattening: the address table so far and the dispatches met."""

    def __init__(self, program: Program, limits: Limits) -> None:
        self.program = program
        self.limits = limits
        self.index: list[int] = []
        self.offset: list[int] = []
        self.dispatches: list[Dispatch] = []

    def items_of(self, steps: Sequence[Step]) -> tuple[Item, ...]:
        items: list[Item] = []
        commands: list[Command | None] = []

        def flush() -> None:
            while commands and commands[-1] is None:
                commands.pop()
            if commands:
                items.append(Segment(tuple(commands)))
                commands.clear()

        for step in steps:
            if isinstance(step, Dispatch):
                commands.extend(self._commands_of(step))
            elif isinstance(step, Barrier):
                _add_barrier(commands)
            elif isinstance(step, Repeat):
                found = self._repeat_items(step)
                if len(found) == 1 and isinstance(found[0], Segment) and not found[0].is_repeated:
                    _add_barrier(commands)
                    commands.extend(found[0].commands)
                    _add_barrier(commands)
                else:
                    flush()
                    items.extend(found)
            else:
                flush()
                items.append(self._host_loop(step))
        flush()
        return tuple(items)

    def _repeat_items(self, repeat: Repeat) -> tuple[Item, ...]:
        """Return the rounds as one plain segment where they are short, else as loops of repeated segments."""
        body = self.items_of(repeat.body)
        if len(body) == 0 or repeat.count <= 0:
            return ()
        single = body[0]
        if len(body) > 1 or not isinstance(single, Segment):
            return (Loop(repeat.count, _repeated(body)),)
        commands = single.commands
        if repeat.count * (len(commands) + 1) <= SEGMENT_COMMANDS:
            return (Segment(_rounds(commands, repeat.count)),)
        rounds = max(1, SEGMENT_COMMANDS // (len(commands) + 1))
        whole = Loop(repeat.count // rounds, (Segment(_rounds(commands, rounds), is_repeated=True),))
        rest = repeat.count % rounds
        # A plain rest could be taken for a whole unrolled loop and be merged with commands that come before it.
        return (whole, Segment(_rounds(commands, rest), is_repeated=True)) if rest else (whole,)

    def _host_loop(self, step: While) -> HostLoop:
        base_index(self.program, step.flag)
        condition = self.items_of(step.condition)
        body = self.items_of(step.body)
        around = (*_repeated(body), *_repeated(condition))
        plain = [item for item in (*body, *condition) if isinstance(item, Segment)]
        chunks: list[tuple[int, Segment]] = []
        if plain and len(plain) == len(body) + len(condition):
            commands: list[Command | None] = []
            for segment in plain:
                _add_barrier(commands)
                commands.extend(segment.commands)
            most = min(CHUNK_ROUNDS, max(1, SEGMENT_COMMANDS // (len(commands) + 1)))
            for exponent in range(most.bit_length()):
                segment = Segment(_rounds(tuple(commands), 1 << exponent), is_repeated=True)
                chunks.append((1 << exponent, segment))
        return HostLoop(_repeated(condition), step.flag, tuple(chunks), around, step.label)

    def _commands_of(self, dispatch: Dispatch) -> list[Command]:
        kernel = self._check(dispatch)
        if 0 in dispatch.groups:
            return []
        source = len(self.dispatches)
        self.dispatches.append(dispatch)
        slice_offset = 8 * len(self.index)
        regions = dispatch.arguments if dispatch.guard is None else (dispatch.guard[0], *dispatch.arguments)
        self.index.extend(base_index(self.program, region) for region in regions)
        self.offset.extend(region.offset for region in regions)
        guard_value = 0 if dispatch.guard is None else dispatch.guard[1]
        return [
            Command(dispatch.kernel, slice_offset, groups, first, guard_value, source)
            for first, groups in split_groups(dispatch.groups, math.prod(kernel.workgroup), self.limits)
        ]

    def _check(self, dispatch: Dispatch) -> Kernel:
        program = self.program
        if not 0 <= dispatch.kernel < len(program.kernels):
            raise _invalid(program, f"kernel {dispatch.kernel}", f"one of {len(program.kernels)}")
        kernel = program.kernels[dispatch.kernel]
        if len(dispatch.arguments) != len(kernel.parameters):
            want = f"{len(kernel.parameters)} for kernel {kernel.name}"
            raise _invalid(program, f"{len(dispatch.arguments)} arguments", want)
        if kernel.guarded != (dispatch.guard is not None):
            got = "no guard" if dispatch.guard is None else "a guard"
            raise _invalid(program, got, f"{'a' if kernel.guarded else 'no'} guard for kernel {kernel.name}")
        return kernel


def split_groups(
    groups: tuple[int, int, int], workgroup_invocations: int, limits: Limits
) -> list[tuple[int, tuple[int, int, int]]]:
    """Split a dispatch along x into (first workgroup, groups) pieces within the limits.

    Raises:
        UnsupportedError: y or z is beyond the device's limit; nothing can split those.
    """
    x, y, z = groups
    if y > limits.groups[1] or z > limits.groups[2]:
        raise UnsupportedError(
            message(
                "A dispatch must stay within the device's number of workgroups along y and z.",
                got=f"{groups}",
                want=f"at most {limits.groups[1]} and {limits.groups[2]}",
                fix="put the longest dimension along x, which the runtime splits.",
            )
        )
    step = max(1, min(limits.groups[0], limits.invocations // (workgroup_invocations * y * z)))
    return [(first, (min(step, x - first), y, z)) for first in range(0, x, step)]


def _add_barrier(commands: list[Command | None]) -> None:
    """Add a barrier unless nothing came before it or the last command is one."""
    if commands and commands[-1] is not None:
        commands.append(None)


def _rounds(commands: tuple[Command | None, ...], count: int) -> tuple[Command | None, ...]:
    """Return the commands `count` times with barriers between."""
    result = list(commands)
    for _ in range(count - 1):
        _add_barrier(result)
        result.extend(commands)
    return tuple(result)


def _repeated(items: Sequence[Item]) -> tuple[Item, ...]:
    return tuple(Segment(item.commands, is_repeated=True) if isinstance(item, Segment) else item for item in items)


def _invalid(program: Program, got: str, want: str) -> GraphError:
    return GraphError(
        message(
            f"A program must name only what it has: {program.name} breaks this.",
            got=got,
            want=want,
            fix="report this defect with the program's StableHLO text.",
        )
    )
