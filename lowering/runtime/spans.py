"""Best-fit bookkeeping of free memory: which spans of which blocks are free, and since which point of the timeline.

Pure: it never touches a device. A block is any hashable, orderable id of the caller.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass

ALIGNMENT = 256
# Spans of one size kept unmerged: programs ask for the same sizes again and again.
RECENT_SPANS = 16


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes [offset, offset + nbytes) of a block; no device work uses them after the timeline value `quiet`."""

    block: int
    offset: int
    nbytes: int
    quiet: int = 0


def aligned(nbytes: int) -> int:
    """Return the bytes a request takes: a multiple of 256, and one such unit for an empty array."""
    return max(ALIGNMENT, -(-nbytes // ALIGNMENT) * ALIGNMENT)


class FreeSpans:
    """The free spans of a set of blocks: best fit on taking, merging of neighbours on giving back."""

    def __init__(self) -> None:
        self._by_size: list[tuple[int, int, int]] = []
        self._by_start: dict[tuple[int, int], tuple[int, int]] = {}
        self._by_end: dict[tuple[int, int], int] = {}
        self._blocks: dict[int, int] = {}
        self._recent: dict[int, list[Span]] = {}

    def add_block(self, block: int, nbytes: int) -> None:
        """Add a block, all of it free."""
        self._blocks[block] = nbytes
        self._insert(block, 0, nbytes, 0)

    def remove_block(self, block: int) -> None:
        """Forget a block; all of it must be free."""
        self.merge_recent()
        nbytes = self._blocks[block]
        free, _ = self._by_start.get((block, 0), (0, 0))
        assert free == nbytes, "a block may be removed only when nothing in it is in use"
        self._remove(block, 0)
        del self._blocks[block]

    def take(self, nbytes: int) -> Span | None:
        """Take `nbytes` (a multiple of 256) from the smallest free span that holds them, or return None."""
        recent = self._recent.get(nbytes)
        if recent:
            return recent.pop()
        index = bisect.bisect_left(self._by_size, (nbytes, -1, -1))
        if index == len(self._by_size):
            if not any(self._recent.values()):
                return None
            self.merge_recent()
            return self.take(nbytes)
        free, block, offset = self._by_size[index]
        quiet = self._remove(block, offset)
        if free > nbytes:
            self._insert(block, offset + nbytes, free - nbytes, quiet)
        return Span(block, offset, nbytes, quiet)

    def give(self, span: Span) -> None:
        """Give a span back."""
        recent = self._recent.setdefault(span.nbytes, [])
        if len(recent) < RECENT_SPANS:
            recent.append(span)
        else:
            self._merge(span)

    def merge_recent(self) -> None:
        """Merge all spans given back with their free neighbours."""
        for spans in self._recent.values():
            for span in spans:
                self._merge(span)
        self._recent.clear()

    def _merge(self, span: Span) -> None:
        """Merge a span with its free neighbours; the merged span is quiet when its last part is."""
        block, offset, nbytes, quiet = span.block, span.offset, span.nbytes, span.quiet
        following = self._by_start.get((block, offset + nbytes))
        if following is not None:
            quiet = max(quiet, self._remove(block, offset + nbytes))
            nbytes += following[0]
        start = self._by_end.get((block, offset))
        if start is not None:
            nbytes += offset - start
            quiet = max(quiet, self._remove(block, start))
            offset = start
        self._insert(block, offset, nbytes, quiet)

    def empty_blocks(self) -> list[tuple[int, int]]:
        """List the blocks nothing is taken from, with the timeline value after which each may be destroyed."""
        self.merge_recent()
        found: list[tuple[int, int]] = []
        for block, nbytes in self._blocks.items():
            free, quiet = self._by_start.get((block, 0), (0, 0))
            if free == nbytes:
                found.append((block, quiet))
        return found

    @property
    def free_bytes(self) -> int:
        """Bytes free in all blocks."""
        self.merge_recent()
        return sum(nbytes for nbytes, _, _ in self._by_size)

    def _insert(self, block: int, offset: int, nbytes: int, quiet: int) -> None:
        bisect.insort(self._by_size, (nbytes, block, offset))
        self._by_start[block, offset] = (nbytes, quiet)
        self._by_end[block, offset + nbytes] = offset

    def _remove(self, block: int, offset: int) -> int:
        nbytes, quiet = self._by_start.pop((block, offset))
        del self._by_end[block, offset + nbytes]
        del self._by_size[bisect.bisect_left(self._by_size, (nbytes, block, offset))]
        return quiet
