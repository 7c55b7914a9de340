"""What options of attention do to one pair of query and key: functions of a score and of places, to be traced.

s -> softcap -> + bias -> + ALiBi -> score_mod -> minus infinity where a mask hides the key
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt32

Number = Float[Array, ""]
Place = Int[Array, ""]
ScoreMod = Callable[[Number, Place, Place, Place, Place], Number]
"""(score, batch entry, head, query, key) -> score."""
MaskMod = Callable[[Place, Place, Place, Place], Bool[Array, ""]]
"""(batch entry, head, query, key) -> whether the query sees the key."""
FactorMod = Callable[[Place, Place, Place, Place], Number]

# Rotations of Threefry-2x32 and its constant; 13 rounds pass the tests of Salmon et al.
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_ROUNDS, _PARITY = 13, 0x1BD11BDA


@dataclass(frozen=True, eq=False)
class Pairs:
    """Everything that happens to a pair.

    Attributes:
        score_mods: one after the other.
        mask_mods: a key is seen where all say so.
        factor: of a key's weight in the average; None for 1.
    """

    score_mods: tuple[ScoreMod, ...]
    mask_mods: tuple[MaskMod, ...]
    factor: FactorMod | None = None

    def __bool__(self) -> bool:
        """Tell whether anything happens at all."""
        return bool(self.score_mods or self.mask_mods or self.factor)

    def __call__(self, score: Number, batch: Place, head: Place, query: Place, key: Place) -> tuple[Number, ...]:
        """Return the score, and the factor where there is one."""
        dtype = score.dtype
        for mod in self.score_mods:
            score = jnp.asarray(mod(score, batch, head, query, key), dtype)
        visible: Any = None
        for mask in self.mask_mods:
            seen = mask(batch, head, query, key)
            visible = seen if visible is None else visible & seen
        if visible is not None:
            score = jnp.where(visible, score, -jnp.inf)
        factor = self.factor and self.factor(batch, head, query, key)
        return (score,) if factor is None else (score, jnp.asarray(factor, dtype))


def softcap_mod(cap: float) -> ScoreMod:
    """Return s -> cap tanh(s / cap)."""
    return lambda score, batch, head, query, key: cap * jnp.tanh(score / cap)


def alibi_mod(slopes: Float[Array, " heads"], offsets: Int[Array, " batch"] | None) -> ScoreMod:
    """Return s -> s - slope (query - key), places counted from ``offsets`` on. Source: Press et al. 2022."""

    def mod(score: Number, batch: Place, head: Place, query: Place, key: Place) -> Number:
        distance = key - query if offsets is None else key - query - offsets[batch]
        return score + slopes[head].astype(score.dtype) * distance.astype(score.dtype)

    return mod


def added_mod(table: Float[Array, "batch heads queries keys"]) -> ScoreMod:
    """Return s -> s + table, whose axes of length one stand for all places."""
    return lambda score, *places: score + at(table, *places).astype(score.dtype)


def plus_mod(element: Number) -> ScoreMod:
    """Return s -> s + element, of a table that has one for each pair."""
    return lambda score, *places: score + element.astype(score.dtype)


def allowed_mod(table: Bool[Array, "batch heads queries keys"]) -> MaskMod:
    """Return what a table says, whose axes of length one stand for all places."""
    return lambda *places: at(table, *places)


def at(table: Array, *places: Place) -> Array:
    """Return an element of a table at a place; an axis of length one has the same for all."""
    index = tuple(0 if size == 1 else place for size, place in zip(table.shape, places, strict=True))
    return table[index]


def near_mod(offsets: Int[Array, " batch"] | None, back: int | None, ahead: int | None) -> MaskMod:
    """Return whether a key lies at most ``back`` before and ``ahead`` after its query, counted from ``offsets`` on."""

    def mod(batch: Place, head: Place, query: Place, key: Place) -> Array:
        del head
        here = query if offsets is None else query + offsets[batch]
        visible = key == key if ahead is None else key <= here + ahead
        return visible if back is None else visible & (key >= here - back)

    return mod


def key_length_mod(lengths: Int[Array, " batch"]) -> MaskMod:
    """Return whether a key exists."""
    return lambda batch, head, query, key: key < lengths[batch]


def query_length_mod(lengths: Int[Array, " batch"]) -> MaskMod:
    """Return whether a query exists; one that does not sees nothing."""
    return lambda batch, head, query, key: query < lengths[batch]


def segment_mod(queries: Int[Array, "batch queries"], keys: Int[Array, "batch keys"]) -> MaskMod:
    """Return whether query and key are of one segment."""
    return lambda batch, head, query, key: queries[batch, query] == keys[batch, key]


def dropout_factor(rate: float, key: PRNGKeyArray | UInt32[Array, " words"], rows: int, heads: int) -> FactorMod:
    """Return 1 / (1 - rate), or 0 with probability ``rate``: a function of the key and of the pair's place alone.

    Source: Threefry-2x32 with 13 rounds, Salmon et al. 2011.
    """
    words = (jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key).astype(jnp.uint32)
    first, second = words[0], words[-1]
    least = min(round(rate * 2**32), 2**32 - 1)

    def factor(batch: Place, head: Place, query: Place, key: Place) -> Number:
        row = ((batch * heads + head) * rows + query).astype(jnp.uint32)
        bits = threefry(first, second, row, key.astype(jnp.uint32))
        return jnp.where(bits >= jnp.uint32(least), jnp.float32(1 / (1 - rate)), jnp.float32(0))

    return factor


def threefry(first: Array, second: Array, row: Array, column: Array) -> Array:
    """Return 32 random bits for a key of two words and a counter of two words."""
    keys = first, second, first ^ second ^ jnp.uint32(_PARITY)
    left, right = row + keys[0], column + keys[1]
    for number in range(_ROUNDS):
        turn = _ROTATIONS[number // 4 % 2][number % 4]
        left = left + right
        right = lax.shift_left(right, jnp.uint32(turn)) | lax.shift_right_logical(right, jnp.uint32(32 - turn))
        right = right ^ left
        if number % 4 == 3:
            count = number // 4 + 1
            left, right = left + keys[count % 3], right + keys[(count + 1) % 3] + jnp.uint32(count)
    return left
