"""How a slab of an operand lies in shared memory: lines of groups of up to 16 bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import lcm

from ...spirv import Value
from ...spirv.dtypes import BITS
from .tiles import MatmulTiles

WORD_BITS = 32
MOST_WORDS = 4
BYTE_BITS = 8


@dataclass(frozen=True, slots=True)
class SlabLayout:
    """Lines of shared memory: outer indices with their groups along depth, or depths with groups along the outer axis.

    Attributes:
        along_depth: a line is an outer index.
        is_turned: lines of memory are depths all the same.
        words: words of a group.
        width: elements of a group.
        pitch: groups of a line, one more than are filled: as many lines as there are banks start on different ones.
        block: another group stands between every so many lines of a turned slab; words of these lines, which one
            invocation writes and its neighbours write with it, would fall on one bank.
        groups: of the slab.
    """

    along_depth: bool
    is_turned: bool
    words: int
    width: int
    pitch: int
    block: int
    groups: int

    def index(self, line: Value, group: Value) -> Value:
        """Return the place of a group of a line."""
        place = line * self.pitch + group
        return place + line // self.block if self.is_turned else place


def slab_layout(dtype: str, tiles: MatmulTiles, outer: int, *, depth_contiguous: bool) -> SlabLayout:
    """Return how `outer` indices by `tiles.depth` depths of an operand are held.

    They lie as in memory, but for bytes, which always lie along depth: matrix units take those of neighbouring depths
    as words, and no device reads such words across lines but byte by byte.
    """
    assert tiles.fragment is not None
    words = words_of_group(dtype, tiles.fragment)
    width = words * WORD_BITS // BITS[dtype]
    is_turned = BITS[dtype] == BYTE_BITS and words == MOST_WORDS and not depth_contiguous
    along_depth = depth_contiguous or is_turned
    lines, length = (outer, tiles.depth) if along_depth else (tiles.depth, outer)
    # A matrix is read at one stride, so that no block may end inside a fragment.
    block = lcm(width, *tiles.fragment[:2])
    pitch = length // width + 1
    groups = lines * pitch + (lines // block if is_turned else 0)
    return SlabLayout(along_depth, is_turned, words, width, pitch, block, groups)


def words_of_group(dtype: str, sizes: Sequence[int]) -> int:
    """Return the words of a group: the most that divide every one of these sizes of a matrix."""
    words = MOST_WORDS
    while words > 1 and any(size * BITS[dtype] % (words * WORD_BITS) for size in sizes):
        words //= 2
    return words
