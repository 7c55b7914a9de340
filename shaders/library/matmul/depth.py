"""Loops over depth that carry sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ...spirv import Builder, Value
from ..complex import Number, flatten, unflatten

Advance = Callable[[Value, list[Number]], list[Number]]


class Walk(NamedTuple):
    """The depths that one invocation visits: start + offset, then every `step` below `stop`; offset is below `step`.

    `start` and `stop` are the same for the whole workgroup.
    """

    start: Value
    stop: Value
    offset: Value | int = 0
    step: int = 1
    unroll: int = 1


def carry(
    builder: Builder, bounds: tuple[Value, Value, int], dtype: str, totals: Sequence[Number], advance: Advance
) -> list[Number]:
    """Run `advance(index, totals)` for every index of `bounds` = (start, stop, step); return the last totals."""
    start, stop, step = bounds

    def body(index: Value, carried: Sequence[Value]) -> list[Value]:
        return flatten(advance(index, unflatten(carried, dtype)))

    return unflatten(builder.loop(start, stop, step, flatten(totals), body), dtype)


def sum_over_depth(
    builder: Builder, walk: Walk, dtype: str, totals: Sequence[Number], advance: Advance
) -> list[Number]:
    """Run `advance(depth, totals)` along a walk: `unroll` steps in each round of one loop, the rest in another."""
    start, stride = walk.start, walk.step * walk.unroll
    if walk.unroll > 1:
        middle = start + (walk.stop - start) // stride * stride

        def body(index: Value, sums: list[Number]) -> list[Number]:
            for i in range(walk.unroll):
                sums = advance(index + i * walk.step + walk.offset, sums)
            return sums

        totals = carry(builder, (start, middle, stride), dtype, totals, body)
        if middle.constant is not None and middle.constant == walk.stop.constant:
            return list(totals)
        start = middle
    return carry(builder, (start + walk.offset, walk.stop, walk.step), dtype, totals, advance)
