"""Device memory for arrays: pools of blocks, buffers cut from them, and freeing that waits only where it must.

All device work runs in order on one queue and every submission starts with a full barrier, so memory that is freed can
be used by the device again at once. Only the host must wait, before it writes into recycled memory: each buffer carries
the timeline value `quiet` for that.
"""

from __future__ import annotations

import bisect
import collections
import os
from collections.abc import Callable
from typing import Any, NoReturn

from ..errors import DeviceMemoryError, InputError, message
from .blocks import Block, create_block, destroy_block, import_block
from .context import Context
from .query import memory_budget
from .queues import Queue
from .spans import FreeSpans, Span, aligned

MEBIBYTE = 1 << 20
# A freed allocation of its own serves a request that wastes at most this share of it.
REUSE_WASTE = 0.25
# Freed allocations of their own are kept for reuse up to these shares of reserved memory and of the device's.
KEPT_OF_RESERVED, KEPT_OF_DEVICE = 1 / 2, 1 / 16
# What a freed buffer points to, so that it does not keep imported host memory alive.
NO_BLOCK = Block(None, (), 0, 0, 0)


class Buffer:
    """The memory of one array. Free it once; freeing is safe from any thread, from finalizers, and twice.

    Attributes:
        address: where the device sees it; 0 once it was freed or donated.
        nbytes: bytes of the array; the memory behind it may be larger.
        ready: timeline value after which its contents are there.
        last_use: timeline value of the last work submitted that reads or writes it.
        quiet: timeline value after which the host may write into it.
        host: where the host sees it; 0 where it does not.
    """

    __slots__ = ("_owned", "_released", "address", "block", "host", "last_use", "nbytes", "offset", "quiet", "ready")

    def __init__(self, block: Block, span: Span, nbytes: int, released: collections.deque[tuple[Span, int]]) -> None:
        self.block = block
        self.offset = span.offset
        self.address = block.address + span.offset
        self.nbytes = nbytes
        self.ready = 0
        self.last_use = span.quiet
        self.quiet = span.quiet
        self.host = block.host + span.offset if block.host else 0
        # A list, because popping its one item is atomic: of two threads that free, one gets it.
        self._owned = [span]
        self._released = released

    @property
    def is_alive(self) -> bool:
        """Whether the memory still belongs to this buffer."""
        return self.address != 0

    def free(self) -> None:
        """Give the memory back. Work that was submitted before may go on using it."""
        try:
            span = self._owned.pop()
        except IndexError:
            return
        self.address = 0
        self.block = NO_BLOCK
        self._released.append((span, self.last_use))

    __del__ = free

    def donate(self) -> Buffer:
        """Move the memory to a new buffer and leave this one freed.

        Raises:
            InputError: the buffer was freed or donated before.
        """
        try:
            span = self._owned.pop()
        except IndexError:
            raise_freed()
        moved = Buffer(self.block, span, self.nbytes, self._released)
        moved.ready, moved.last_use, moved.quiet = self.ready, self.last_use, self.quiet
        self.address = 0
        self.block = NO_BLOCK
        return moved

    def __repr__(self) -> str:
        return f"Buffer({self.nbytes} bytes at {self.address:#x}, ready {self.ready})"


def raise_freed() -> NoReturn:
    """Raise the error of a buffer that was freed or donated before its use."""
    raise InputError(
        message(
            "A buffer must be alive when it is used.",
            got="a buffer that was freed or donated",
            want="a buffer that still owns its memory",
            fix="do not use an array after donating or deleting it.",
        )
    )


class Pool:
    """Blocks of one memory type. Requests over half a block get an allocation of their own."""

    def __init__(self, memory_type: int, block_bytes: int, *, is_mapped: bool) -> None:
        self.is_mapped = is_mapped
        self.memory_type = memory_type
        self.block_bytes = block_bytes
        self.spans = FreeSpans()
        self.own: list[tuple[int, int, int]] = []

    def take(self, nbytes: int) -> Span | None:
        """Take free memory of an existing block."""
        if nbytes <= self.block_bytes // 2:
            return self.spans.take(nbytes)
        index = bisect.bisect_left(self.own, (nbytes, -1, -1))
        if index < len(self.own) and self.own[index][0] * (1 - REUSE_WASTE) <= nbytes:
            size, block, quiet = self.own.pop(index)
            return Span(block, 0, size, quiet)
        return None

    def give(self, span: Span, is_own: bool) -> None:
        """Take memory back; an allocation of its own is kept whole."""
        if is_own:
            bisect.insort(self.own, (span.nbytes, span.block, span.quiet))
        else:
            self.spans.give(span)

    @property
    def kept_bytes(self) -> int:
        """Bytes of freed allocations kept for reuse."""
        return sum(nbytes for nbytes, _, _ in self.own)


class Memory:
    """All memory of one device: the pool of arrays and the pool of address tables."""

    def __init__(self, context: Context, queue: Queue) -> None:
        self._context = context
        self._queue = queue
        self.released: collections.deque[tuple[Span, int]] = collections.deque()
        self._blocks: dict[int, tuple[Block, Pool | None]] = {}
        self._own: set[int] = set()
        self._next_block = 1
        self._reclaim: list[Callable[[], None]] = [self.drop_scratch_locked]
        self._scratch: Buffer | None = None
        plan = context.plan
        block_bytes = _block_bytes(context.facts.heaps[self._heap(plan.array_type)].nbytes)
        self.arrays = Pool(plan.array_type, block_bytes, is_mapped=plan.is_direct)
        self.tables = Pool(plan.table_type, MEBIBYTE, is_mapped=True)
        self._kept_bytes = self.limit_bytes() * KEPT_OF_DEVICE
        self.live_bytes = 0
        self.peak_live_bytes = 0
        self.reserved_bytes = 0
        self.live_buffers = 0

    # --- allocating ---------------------------------------------------------------------------------------------------

    def allocate(self, nbytes: int) -> Buffer:
        """Return memory for an array of `nbytes`, which may be 0.

        Raises:
            DeviceMemoryError: no room, even after everything idle was given back.
        """
        with self._context.lock:
            return self.allocate_locked(nbytes)

    def allocate_locked(self, nbytes: int, pool: Pool | None = None) -> Buffer:
        """Do what `allocate` does, from the pool of arrays or of tables."""
        pool = self.arrays if pool is None else pool
        if self.released:
            self.drain_locked()
        size = aligned(nbytes)
        span = pool.take(size)
        if span is None:
            span = self._grow(pool, size)
        if pool is not self.arrays:
            return Buffer(self._blocks[span.block][0], span, nbytes, self.released)
        self.live_buffers += 1
        self.live_bytes += span.nbytes
        if self.live_bytes > self.peak_live_bytes:
            self.peak_live_bytes = self.live_bytes
        return Buffer(self._blocks[span.block][0], span, nbytes, self.released)

    def import_locked(self, host: int, nbytes: int, keep: Any) -> Buffer | None:
        """Make an array's own host memory a buffer, or return None where pages cannot be imported.

        The buffer's address has the same distance from a multiple of 256 as the host address.
        """
        if "VK_EXT_external_memory_host" not in self._context.plan.extensions or self._queue.refuses_work:
            return None
        step = self._context.facts.properties["minImportedHostPointerAlignment"]
        start = host // step * step
        end = -(-(host + nbytes) // step) * step
        block = import_block(self._context, start, end - start, keep)
        if block is None:
            return None
        number = self._register(block, None)
        self.live_buffers += 1
        return Buffer(block, Span(number, host - start, nbytes), nbytes, self.released)

    def scratch_locked(self, nbytes: int) -> Buffer:
        """Return the device's one scratch memory, grown to at least `nbytes`: the arena of whichever program runs next.

        Programs run one after the other on one queue, so they can share it.
        """
        scratch = self._scratch
        if scratch is None or scratch.nbytes < nbytes:
            self.drop_scratch_locked()
            scratch = self._scratch = self.allocate_locked(nbytes)
        return scratch

    def drop_scratch_locked(self) -> None:
        """Give the scratch memory back; work that was submitted may go on using it."""
        scratch, self._scratch = self._scratch, None
        if scratch is not None:
            scratch.last_use = self._queue.tick
            scratch.free()

    def on_reclaim(self, function: Callable[[], None]) -> None:
        """Call a function when memory is short: it gives back what its owner can do without."""
        self._reclaim.append(function)

    # --- giving back --------------------------------------------------------------------------------------------------

    def drain_locked(self) -> None:
        """Take back what buffers released since the last time."""
        released = self.released
        while released:
            span, last_use = released.popleft()
            self._give(span, last_use)
        if self._own:
            self._trim_kept()

    def trim_locked(self) -> None:
        """Give all idle memory back to the driver, waiting for pending work to finish."""
        for function in self._reclaim:
            function()
        self.drain_locked()
        self._queue.wait(self._queue.tick)
        self._queue.collect_locked()
        self.drain_locked()
        for pool in (self.arrays, self.tables):
            while pool.own:
                self._destroy(pool.own.pop()[1])
            for block, _ in pool.spans.empty_blocks():
                pool.spans.remove_block(block)
                self._destroy(block)

    def statistics(self) -> dict[str, int]:
        """Return bytes and number of live arrays (constants included), scratch memory, reserved memory and the limit.

        The peak counts arrays and scratch memory together.
        """
        with self._context.lock:
            self.drain_locked()
            scratch = self._scratch
            scratch_bytes = 0 if scratch is None else aligned(scratch.nbytes)
            return {
                "live_bytes": self.live_bytes - scratch_bytes,
                "live_buffers": self.live_buffers - (scratch is not None),
                "peak_live_bytes": self.peak_live_bytes,
                "scratch_bytes": scratch_bytes,
                "reserved_bytes": self.reserved_bytes,
                "limit_bytes": self.limit_bytes(),
            }

    def limit_bytes(self) -> int:
        """Return how much memory arrays may take in all.

        A CPU driver's heap is a number it made up, below what the machine has; beyond the machine's memory it would
        succeed and the system would end the process.
        """
        heap = self._context.facts.heaps[self._heap(self.arrays.memory_type)].nbytes
        if self._context.facts.device_type != "cpu":
            return heap
        return max(heap, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4 * 3)

    def close(self) -> None:
        """Destroy all blocks; the device must be idle."""
        self.released.clear()
        for number in list(self._blocks):
            self._destroy(number)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _heap(self, memory_type: int) -> int:
        return self._context.facts.memory_types[memory_type].heap

    def _register(self, block: Block, pool: Pool | None) -> int:
        number = self._next_block
        self._next_block += 1
        self._blocks[number] = (block, pool)
        if pool is not None:
            self.reserved_bytes += block.nbytes
        return number

    def _grow(self, pool: Pool, size: int) -> Span:
        is_own = size > pool.block_bytes // 2
        nbytes = size if is_own else pool.block_bytes
        block = self._create(pool, nbytes, size)
        number = self._register(block, pool)
        if is_own:
            self._own.add(number)
            return Span(number, 0, size)
        pool.spans.add_block(number, nbytes)
        span = pool.spans.take(size)
        assert span is not None
        return span

    def _create(self, pool: Pool, nbytes: int, wanted: int) -> Block:
        """Create a block; when memory is short, trim and retry once with no more than what is wanted."""
        if self._queue.refuses_work:
            self._queue.raise_lost()
        try:
            self._check_limit(nbytes)
            return create_block(self._context, nbytes, pool.memory_type, is_mapped=pool.is_mapped)
        except DeviceMemoryError:
            self.trim_locked()
        try:
            self._check_limit(nbytes)
            return create_block(self._context, nbytes, pool.memory_type, is_mapped=pool.is_mapped)
        except DeviceMemoryError as error:
            raise DeviceMemoryError(self._shortage(wanted, pool)) from error

    def _check_limit(self, nbytes: int) -> None:
        if self._context.facts.device_type == "cpu" and self.reserved_bytes + nbytes > self.limit_bytes():
            raise DeviceMemoryError("beyond the machine's memory")

    def _shortage(self, wanted: int, pool: Pool) -> str:
        budget = ""
        if "VK_EXT_memory_budget" in self._context.plan.extensions:
            allowed, used = memory_budget(self._context.instance, self._context.physical, self._heap(pool.memory_type))
            budget = f", budget {_mebibytes(allowed)} of which {_mebibytes(used)} are used by this process"
        return message(
            f"The device {self._context.facts.name} has no room for an allocation.",
            got=f"{_mebibytes(wanted)} asked for; live {_mebibytes(self.live_bytes)} in {self.live_buffers} buffers, "
            f"reserved {_mebibytes(self.reserved_bytes)}{budget}",
            want=f"at most {_mebibytes(self.limit_bytes())} in all",
            fix="delete arrays, donate arguments (donate_argnums), or use smaller batches.",
        )

    def _give(self, span: Span, last_use: int) -> None:
        pool = self._blocks[span.block][1]
        if pool is not self.tables:
            self.live_buffers -= 1
        if pool is None:
            # Imported host memory: the device must be done with it before its owner may have it back.
            self._queue.retire_locked(last_use, lambda: self._destroy(span.block))
            self._queue.collect_locked()
            return
        if pool is self.arrays:
            self.live_bytes -= span.nbytes
        quiet = max(last_use, span.quiet)
        pool.give(Span(span.block, span.offset, span.nbytes, quiet), span.block in self._own)

    def _trim_kept(self) -> None:
        """Destroy idle allocations of their own beyond the share that is kept, the largest first."""
        for pool in (self.arrays, self.tables):
            while pool.own and pool.kept_bytes > max(self.reserved_bytes * KEPT_OF_RESERVED, self._kept_bytes):
                _, block, quiet = pool.own[-1]
                if not self._queue.is_done(quiet):
                    return
                pool.own.pop()
                self._destroy(block)

    def _destroy(self, number: int) -> None:
        block, pool = self._blocks.pop(number)
        self._own.discard(number)
        if pool is not None:
            self.reserved_bytes -= block.nbytes
        destroy_block(self._context, block)


def _block_bytes(heap_bytes: int) -> int:
    """Return the size of a pool's blocks: a thirty-second of the heap, within 64 and 256 MiB."""
    return min(256 * MEBIBYTE, max(64 * MEBIBYTE, heap_bytes // 32 // MEBIBYTE * MEBIBYTE))


def _mebibytes(nbytes: int) -> str:
    return f"{nbytes / MEBIBYTE:,.1f} MiB"
