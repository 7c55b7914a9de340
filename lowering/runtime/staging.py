"""Staging blocks: host-visible memory that copies between the host and the device pass through."""

from __future__ import annotations

import collections

from .blocks import Block, create_block, destroy_block
from .context import Context
from .queues import Queue

SMALL_BYTES = 1 << 16
LARGE_BYTES = 16 << 20
# Blocks of each size that are kept: many small transfers may be in flight, two large ones suffice to overlap.
KEPT = {SMALL_BYTES: 16, LARGE_BYTES: 2}


class Staging:
    """Blocks of two sizes and one memory type, each lent out until the timeline passes its tick."""

    def __init__(self, context: Context, queue: Queue, memory_type: int) -> None:
        self._context = context
        self._queue = queue
        self._memory_type = memory_type
        self._idle: dict[int, collections.deque[tuple[int, Block]]] = {size: collections.deque() for size in KEPT}
        self._count = dict.fromkeys(KEPT, 0)

    def take_locked(self, nbytes: int) -> Block:
        """Return a block of at least `nbytes` (at most 16 MiB) that no device work uses."""
        size = SMALL_BYTES if nbytes <= SMALL_BYTES else LARGE_BYTES
        idle = self._idle[size]
        if idle and (self._queue.is_done(idle[0][0]) or self._count[size] >= KEPT[size]):
            tick, block = idle.popleft()
            self._queue.wait(tick)
            return block
        self._count[size] += 1
        return create_block(self._context, size, self._memory_type, is_mapped=True)

    def give_locked(self, block: Block, tick: int) -> None:
        """Take a block back; the device uses it until `tick`."""
        idle = self._idle[block.nbytes]
        # More than are kept exist only while as many threads read downloads at once.
        if len(idle) >= KEPT[block.nbytes] and self._queue.is_done(tick):
            self._count[block.nbytes] -= 1
            destroy_block(self._context, block)
            return
        idle.append((tick, block))

    def close(self) -> None:
        """Destroy all blocks; the device must be idle."""
        for idle in self._idle.values():
            for _, block in idle:
                destroy_block(self._context, block)
            idle.clear()
