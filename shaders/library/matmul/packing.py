"""Put elements together to the words that they make in memory, and exchange the bytes of words."""

from __future__ import annotations

from collections.abc import Sequence

from ...spirv import Builder, Value
from ...spirv.dtypes import BITS
from .layout import WORD_BITS


def pack(builder: Builder, elements: Sequence[Value], dtype: str) -> list[Value]:
    """Return the words that elements, given in their register dtype, make in memory."""
    count = WORD_BITS // BITS[dtype]
    words = []
    for first in range(0, len(elements), count):
        group = elements[first : first + count]
        if dtype == "f16":
            words.append(builder.bitcast(builder.vector(group), "u32"))
            continue
        if dtype == "bf16":
            words.append(builder.pack_bf16_pair(*group))
            continue
        bits = [builder.bitcast(x, "u32") for x in group]
        if dtype in ("i8", "i16"):
            bits = [x & ((1 << BITS[dtype]) - 1) for x in bits]
        word = bits[0]
        for i, part in enumerate(bits[1:], 1):
            word = word | part << (i * BITS[dtype])
        words.append(word)
    return words


def turn_bytes(rows: Sequence[Value]) -> list[Value]:
    """Exchange rows and columns of 4 x 4 bytes: byte i of word j becomes byte j of word i."""
    even, odd = 0x00FF00FF, 0xFF00FF00
    pairs = (rows[:2], rows[2:])
    first = [(a & even) | ((b & even) << 8) for a, b in pairs]
    second = [((a >> 8) & even) | (b & odd) for a, b in pairs]
    low = [(a & 0xFFFF) | (b << 16) for a, b in (first, second)]
    high = [(a >> 16) | (b & 0xFFFF0000) for a, b in (first, second)]
    return [*low, *high]
