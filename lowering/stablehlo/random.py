"""Random bits written out in integer operations, so that no device needs a generator of its own.

The bits are those of XLA's CPU backend. Threefry: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011,
with 20 rounds on two words. Philox: the same paper, with 10 rounds on four words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .. import dtypes
from ..graph import Value
from .scope import Scope

ALGORITHMS = frozenset({"DEFAULT", "THREE_FRY", "PHILOX"})

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_THREEFRY_PARITY = 0x1BD11BDA
_PHILOX_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_PHILOX_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_PHILOX_ROUNDS = 10


def random_bits(
    scope: Scope, algorithm: str, state: Value, dtype: str, shape: tuple[int, ...], where: str
) -> tuple[Value, Value]:
    """Append the operations of a generator; return the new state and the bits.

    Args:
        scope: Where to append.
        algorithm: A name among `ALGORITHMS`; DEFAULT is PHILOX, as on XLA's CPU backend.
        state: u64[2]: key and counter; for PHILOX u64[3] as well: key and both halves of the counter.
        dtype: An integer dtype. Narrow ones take the low bits of a word.
        shape: The shape of the bits.
        where: The source line of the operation.
    """
    emitter = _Emitter(scope, where)
    generator = _threefry if algorithm == "THREE_FRY" else _philox
    new_state, bits = generator(emitter, state, dtype, shape or (1,))
    return new_state, emitter.reshape(bits, shape)


class _Emitter:
    """Appends operations on arrays of one shape, with Python numbers as operands."""

    def __init__(self, scope: Scope, where: str) -> None:
        self._scope = scope
        self._where = where

    def emit(self, op: str, inputs: Sequence[Value], dtype: str, shape: Sequence[int], **attributes: object) -> Value:
        return self._scope.emit(op, tuple(inputs), [(dtype, tuple(shape))], attributes, self._where)[0]

    def binary(self, op: str, left: Value, right: Value | int) -> Value:
        if isinstance(right, int):
            right = self.emit("constant", (), left.dtype, left.shape, value=np.array(right, dtypes.NUMPY[left.dtype]))
        return self.emit(op, (left, right), left.dtype, left.shape)

    def convert(self, value: Value, dtype: str) -> Value:
        return value if value.dtype == dtype else self.emit("convert", (value,), dtype, value.shape)

    def reshape(self, value: Value, shape: Sequence[int]) -> Value:
        return value if value.shape == tuple(shape) else self.emit("reshape", (value,), value.dtype, shape)

    def part(self, value: Value, start: int, limit: int, dimension: int = 0) -> Value:
        starts = [start if i == dimension else 0 for i in range(len(value.shape))]
        limits = [limit if i == dimension else n for i, n in enumerate(value.shape)]
        shape = [b - a for a, b in zip(starts, limits, strict=True)]
        found = {"start": tuple(starts), "limit": tuple(limits), "stride": (1,) * len(shape)}
        return value if value.shape == tuple(shape) else self.emit("slice", (value,), value.dtype, shape, **found)

    def element(self, value: Value, position: int, shape: Sequence[int]) -> Value:
        """Return one element of a vector, filling a shape."""
        scalar = self.reshape(self.part(value, position, position + 1), ())
        return self.emit("broadcast_in_dim", (scalar,), value.dtype, shape, dimensions=())

    def counters(self, first: Value, position: int, shape: Sequence[int]) -> Value:
        """Return first[position], + 1, + 2, ... in row-major order."""
        count = self.emit("iota", (), "u64", (math.prod(shape),), dimension=0)
        return self.binary("add", self.reshape(count, shape), self.element(first, position, shape))

    def halves(self, value: Value) -> tuple[Value, Value]:
        """Return the low and the high words of u64 numbers."""
        return self.convert(value, "u32"), self.convert(self.binary("shift_right_logical", value, 32), "u32")

    def join(self, low: Value, high: Value) -> Value:
        """Return u64 numbers of low and high words."""
        shifted = self.binary("shift_left", self.convert(high, "u64"), 32)
        return self.binary("or", shifted, self.convert(low, "u64"))

    def stack(self, values: Sequence[Value], dimension: int) -> Value:
        """Return the values along a new dimension."""
        shape = values[0].shape
        expanded = [self.reshape(value, (*shape[:dimension], 1, *shape[dimension:])) for value in values]
        whole = (*shape[:dimension], len(values), *shape[dimension:])
        return self.emit("concatenate", expanded, values[0].dtype, whole, dimension=dimension)

    def with_counter(self, state: Value, position: int, used: int) -> Value:
        """Return a state whose counter moved on."""
        moved = self.binary("add", self.part(state, position, position + 1), used)
        parts = [self.part(state, 0, position), moved, self.part(state, position + 1, state.shape[0])]
        return self.emit("concatenate", [part for part in parts if part.size], "u64", state.shape, dimension=0)


def _threefry(emitter: _Emitter, state: Value, dtype: str, shape: tuple[int, ...]) -> tuple[Value, Value]:
    """Two words a counter: one u64 number, or two neighbours along one dimension."""
    if dtypes.itemsize(dtype) == 8:
        words = _threefry_words(emitter, state, shape)
        return emitter.with_counter(state, 1, math.prod(shape)), emitter.convert(emitter.join(*words), dtype)
    even = [i for i, extent in enumerate(shape) if extent % 2 == 0]
    split = even[0] if even else shape.index(max(shape))
    half = tuple(-(-extent // 2) if i == split else extent for i, extent in enumerate(shape))
    pairs = emitter.stack(_threefry_words(emitter, state, half), split + 1)
    whole = emitter.reshape(pairs, [2 * extent if i == split else extent for i, extent in enumerate(half)])
    bits = emitter.part(whole, 0, shape[split], split)
    return emitter.with_counter(state, 1, math.prod(half)), emitter.convert(bits, dtype)


def _threefry_words(emitter: _Emitter, state: Value, shape: tuple[int, ...]) -> tuple[Value, Value]:
    key = emitter.halves(emitter.element(state, 0, shape))
    parity = emitter.binary("xor", emitter.binary("xor", key[0], key[1]), _THREEFRY_PARITY)
    keys = (*key, parity)
    left, right = emitter.halves(emitter.counters(state, 1, shape))
    left, right = emitter.binary("add", left, keys[0]), emitter.binary("add", right, keys[1])
    for turn in range(5):
        for distance in _ROTATIONS[turn % 2]:
            left = emitter.binary("add", left, right)
            high = emitter.binary("shift_left", right, distance)
            low = emitter.binary("shift_right_logical", right, 32 - distance)
            right = emitter.binary("xor", left, emitter.binary("or", high, low))
        left = emitter.binary("add", left, keys[(turn + 1) % 3])
        right = emitter.binary("add", emitter.binary("add", right, keys[(turn + 2) % 3]), turn + 1)
    return left, right


def _philox(emitter: _Emitter, state: Value, dtype: str, shape: tuple[int, ...]) -> tuple[Value, Value]:
    """Four words a counter of 128 bits, in row-major order; two words a u64 number."""
    count = math.prod(shape)
    is_wide = dtypes.itemsize(dtype) == 8
    blocks = -(-count // (2 if is_wide else 4))
    low = emitter.counters(state, 1, (blocks,))
    high = emitter.element(state, 2 if state.shape[0] > 2 else 0, (blocks,))
    first = emitter.element(state, 1, (blocks,))
    wrapped = emitter.emit("compare", (low, first), "bool", (blocks,), direction="LT", total_order=False)
    high = emitter.binary("add", high, emitter.convert(wrapped, "u64"))
    key = emitter.halves(emitter.element(state, 0, (blocks,)))
    words = _philox_words(emitter, [*emitter.halves(low), *emitter.halves(high)], list(key))
    if is_wide:
        words = [emitter.join(words[0], words[1]), emitter.join(words[2], words[3])]
    flat = emitter.reshape(emitter.stack(words, 1), (blocks * len(words),))
    bits = emitter.reshape(emitter.part(flat, 0, count), shape)
    return emitter.with_counter(state, 1, blocks), emitter.convert(bits, dtype)


def _philox_words(emitter: _Emitter, words: list[Value], key: list[Value]) -> list[Value]:
    for _ in range(_PHILOX_ROUNDS):
        products = [
            emitter.halves(emitter.binary("multiply", emitter.convert(word, "u64"), multiplier))
            for word, multiplier in zip((words[0], words[2]), _PHILOX_MULTIPLIERS, strict=True)
        ]
        (low, high), (other_low, other_high) = products
        words = [
            emitter.binary("xor", emitter.binary("xor", other_high, words[1]), key[0]),
            other_low,
            emitter.binary("xor", emitter.binary("xor", high, words[3]), key[1]),
            low,
        ]
        key = [emitter.binary("add", each, step) for each, step in zip(key, _PHILOX_KEY_STEPS, strict=True)]
    return words
