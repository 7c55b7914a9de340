"""Memory that jaxlib reads: texts, arrays of 64-bit words and lists of named values."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Mapping
from typing import TypeVar

from . import _native as native
from .codes import ValueKind

# struct_size, extension, name, name_size, type, value, value_size of PJRT_NamedValue.
_NAMED_VALUE = struct.Struct("=QQQQi4x8sQ")

Value = str | int | float | tuple[int, ...]
Kept = TypeVar("Kept", "Text", "Words")


class Text:
    """A text whose memory lives as long as this object: `pair` is its address and its size in bytes."""

    __slots__ = ("data", "pair")

    def __init__(self, text: str | bytes) -> None:
        self.data = text.encode() if isinstance(text, str) else bytes(text)
        self.pair = (native.address(self.data), len(self.data))


class Words:
    """64-bit integers in memory that lives as long as this object; `address` is never null."""

    __slots__ = ("address", "count", "data")

    def __init__(self, values: Iterable[int]) -> None:
        self.data = array("q", values)
        self.count = len(self.data)
        if not self.count:
            self.data.append(0)
        self.address = self.data.buffer_info()[0]

    @property
    def pair(self) -> tuple[int, int]:
        """Address and number of words."""
        return self.address, self.count


class NamedValues:
    """A list of PJRT_NamedValue; `pair` is its address and length."""

    __slots__ = ("kept", "pair")

    def __init__(self, values: Mapping[str, Value]) -> None:
        self.kept: list[Text | Words] = []
        packed = Text(b"".join(self._pack(name, value) for name, value in values.items()))
        self.kept.append(packed)
        self.pair = (packed.pair[0], len(values))

    def _pack(self, name: str, value: Value) -> bytes:
        label = self._keep(Text(name))
        kind, word, count = self._encode(value)
        return _NAMED_VALUE.pack(_NAMED_VALUE.size, 0, label.pair[0], label.pair[1], kind, word, count)

    def _encode(self, value: Value) -> tuple[ValueKind, bytes, int]:
        if isinstance(value, str):
            text = self._keep(Text(value))
            return ValueKind.STRING, struct.pack("=Q", text.pair[0]), text.pair[1]
        if isinstance(value, tuple):
            words = self._keep(Words(value))
            return ValueKind.INT_LIST, struct.pack("=Q", words.address), words.count
        if isinstance(value, float):
            return ValueKind.FLOAT, struct.pack("=f4x", value), 1
        return ValueKind.INT, struct.pack("=q", value), 1

    def _keep(self, item: Kept) -> Kept:
        self.kept.append(item)
        return item
