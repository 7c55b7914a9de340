"""Walk along depth: slabs go into shared memory, fragments of them into registers, their products into totals.

    first:       fetch(0) put(0) barrier load(0)
    one buffer:  load(1) fetch(t + 1) multiply(0)  load(2) multiply(1) ...
                 barrier put(t + 1) multiply(last)  barrier load(0)
    two buffers: load(0) put(t + 1) fetch(t + 2) multiply(0)  load(1) multiply(1) ...  barrier

With one buffer a slab is fetched at the beginning of a round and put down before the last multiplication, and the
fragments of a multiplication are loaded before the one in front of it: matrix units work while memory answers, also
across the two barriers. With two buffers one barrier a round is enough; a slab is put down one round after it was
fetched, and the next fetch starts at once. Past the end the last slab is fetched and put down again, which is cheaper
than a branch in the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...spirv import Builder, Value
from .slabs import Slab
from .tiles import MatmulTiles


@dataclass(frozen=True, slots=True)
class Work:
    """What a subgroup does with slabs.

    Attributes:
        slabs: of the two operands.
        load: (buffer, depth within a slab) -> the fragments of both that lie there.
        multiply: (fragments, totals) -> totals.
        depth: of a fragment.
    """

    slabs: Sequence[Slab]
    load: Callable[[Value, int], list[Value]]
    multiply: Callable[[Sequence[Value], Sequence[Value]], list[Value]]
    depth: int

    def fetch(self, first_depth: Value) -> list[Value]:
        """Ask for the slabs at a depth."""
        return [value for slab in self.slabs for value in slab.fetch(first_depth)]

    def put(self, buffer: Value | int, fetched: Sequence[Value]) -> None:
        """Write slabs to shared memory: all were fetched before, so that one waits for no other."""
        first = 0
        for slab in self.slabs:
            slab.put(buffer, fetched[first : first + len(slab.spots)])
            first += len(slab.spots)


def sum_slabs(
    builder: Builder, bounds: tuple[Value, Value], tiles: MatmulTiles, work: Work, totals: Sequence[Value]
) -> list[Value]:
    """Multiply every slab of depth into the totals."""
    (start, stop), step = bounds, tiles.depth
    work.put(0, work.fetch(start))
    if start.constant is not None and stop.constant is not None and stop.constant - start.constant <= step:
        builder.barrier(shared_only=True)
        for along in range(0, step, work.depth):
            totals = work.multiply(work.load(builder.const("u32", 0), along), totals)
        builder.barrier(shared_only=True)
        return list(totals)
    last = stop - 1 - (stop - 1 - start) % step
    return (_in_one_buffer if tiles.buffers == 1 else _in_two_buffers)(builder, (start, stop, last), step, work, totals)


def _in_one_buffer(
    builder: Builder, bounds: tuple[Value, Value, Value], step: int, work: Work, totals: Sequence[Value]
) -> list[Value]:
    (start, stop, last), buffer = bounds, builder.const("u32", 0)
    builder.barrier(shared_only=True)
    fragments = work.load(buffer, 0)
    count = len(fragments)

    def one(first: Value, carried: list[Value]) -> list[Value]:
        fragments, totals = carried[:count], carried[count:]
        fetched: list[Value] = []
        for along in range(0, step, work.depth):
            is_last = along + work.depth == step
            following = [] if is_last else work.load(buffer, along + work.depth)
            if along == 0:
                fetched = work.fetch(builder.min(first + step, last))
            if is_last:
                builder.barrier(shared_only=True)
                work.put(buffer, fetched)
            totals, fragments = work.multiply(fragments, totals), following
        builder.barrier(shared_only=True)
        return [*work.load(buffer, 0), *totals]

    totals = builder.loop(start, stop, step, [*fragments, *totals], one)[count:]
    # What is stored takes the memory that the others' last fragments are loaded from.
    builder.barrier(shared_only=True)
    return totals


def _in_two_buffers(
    builder: Builder, bounds: tuple[Value, Value, Value], step: int, work: Work, totals: Sequence[Value]
) -> list[Value]:
    start, stop, last = bounds
    fetched = work.fetch(builder.min(start + step, last))
    builder.barrier(shared_only=True)
    count = len(fetched)

    def one(first: Value, carried: list[Value]) -> list[Value]:
        held, totals = carried[:count], carried[count:]
        buffer = (first - start) // step % 2
        fresh: list[Value] = []
        for along in range(0, step, work.depth):
            fragments = work.load(buffer, along)
            if along == 0:
                work.put(buffer ^ 1, held)
                fresh = work.fetch(builder.min(first + 2 * step, last))
            totals = work.multiply(fragments, totals)
        builder.barrier(shared_only=True)
        return [*fresh, *totals]

    return builder.loop(start, stop, step, [*fetched, *totals], one)[count:]
