"""Move elements between buffers and registers."""

from __future__ import annotations

from collections.abc import Sequence

from shaders.library.complex import Complex
from shaders.spirv import Buffer, Builder, Shared, Value

from ... import dtypes
from .registers import Scalar

Index = Value | int


def load(b: Builder, buffer: Buffer | Shared, index: Index, dtype: str) -> Scalar:
    """Read element `index`; a complex one lies at 2 index and 2 index + 1 of a buffer of its part's dtype."""
    if dtype in dtypes.COMPLEX:
        first = index * 2
        return Complex(buffer[first], buffer[first + 1])
    value = buffer[index]
    return b.convert(value, "f32") if dtype == "f16" else value


def store(b: Builder, buffer: Buffer | Shared, index: Index, value: Scalar, dtype: str) -> None:
    """Write element `index`; see `load`."""
    del b
    if isinstance(value, Complex):
        first = index * 2
        buffer[first] = value.re
        buffer[first + 1] = value.im
        return
    # An f16 value is exact in its f32 register, so that the conversion in the store rounds nothing.
    del dtype
    buffer[index] = value


# Bytes of the widest access, and components of the longest vector.
_WIDEST, _COMPONENTS = 16, 4


def load_run(b: Builder, buffer: Buffer, first: Value, count: int, dtype: str) -> list[Value]:
    """Read `count` neighbouring elements from element `first`, a multiple of `count`; none is complex."""
    group = _group(dtype, count)
    result: list[Value] = []
    for start in range(0, count, group):
        place = first + start if start else first
        if dtype == "bf16" or group > _COMPONENTS:
            loaded = buffer.load_words(b.divide_exactly(place, group), group // 2)
            words = [loaded] if group == 2 else [loaded[i] for i in range(group // 2)]
            result += [half for word in words for half in _halves(b, word, dtype)]
            continue
        vector = buffer.load(place, group)
        if dtype == "f16":
            vector = b.convert(vector, "f32")
        result += [vector[i] for i in range(group)]
    return result


def _halves(b: Builder, word: Value, dtype: str) -> tuple[Value, Value]:
    if dtype == "bf16":
        return b.unpack_bf16(word), b.unpack_upper_bf16(word)
    pair = b.convert(b.bitcast(word, ("f16", 2)), "f32")
    return pair[0], pair[1]


def store_run(b: Builder, buffer: Buffer, first: Value, elements: Sequence[Scalar], dtype: str) -> None:
    """Write neighbouring elements from element `first`, a multiple of their number; none is complex."""
    registers = [element for element in elements if not isinstance(element, Complex)]
    group = _group(dtype, len(registers))
    for start in range(0, len(registers), group):
        place = first + start if start else first
        some = registers[start : start + group]
        if dtype == "bf16" or group > _COMPONENTS:
            words = [_join(b, some[i], some[i + 1], dtype) for i in range(0, group, 2)]
            buffer.store_words(b.divide_exactly(place, group), words[0] if len(words) == 1 else b.vector(words))
        else:
            buffer.store(place, b.vector(some))


def _join(b: Builder, low: Value, high: Value, dtype: str) -> Value:
    if dtype == "bf16":
        return b.join_bf16(low, high)
    return b.bitcast(b.convert(b.vector([low, high]), "f16"), "u32")


def _group(dtype: str, count: int) -> int:
    """Return how many elements one access moves; eight halves, and any of bf16, go in words of two."""
    return min(count, _WIDEST // dtypes.itemsize(dtype), 2 * _COMPONENTS if dtype in ("f16", "bf16") else _COMPONENTS)
