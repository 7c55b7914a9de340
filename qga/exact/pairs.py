"""What options of attention do to one pair of query and key: functions of a score and of places, to be traced.

s -> softcap -> + bias -> + ALiBi -> score_mod -> minus infinity where a mask hides the key
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
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
        return len(self) > 0

    def __len__(self) -> int:
        """Count what happens."""
        return len(self.score_mods) + len(self.mask_mods) + (self.factor is not None)

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
    return lambda score, batch, head, query, key: _capped(cap, score)


def odd_mod(factors: Sequence[float]) -> ScoreMod:
    """Return s -> s (factor + factor s^2 + ...)."""

    def mod(score: Number, *places: Place) -> Number:
        square = score * score
        return score * reduce(lambda total, factor: total * square + factor, reversed(factors[:-1]), factors[-1])

    return mod


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _capped(cap: float, score: Number) -> Number:
    return cap * jnp.tanh(score * (1 / cap))


@_capped.defjvp
def _capped_jvp(cap: float, primals: tuple[Number], tangents: tuple[Number]) -> tuple[Number, Number]:
    # Of the chain rule both factors of the cap cancel, which nobody else would see.
    (score,), (moved,) = primals, tangents
    bent = jnp.tanh(score * (1 / cap))
    return cap * bent, moved * (1 - jnp.square(bent))


def alibi_mod(slopes: Float[Array, " heads"], offsets: Int[Array, " batch"] | None) -> ScoreMod:
    """Return s -> s - slope (query - key), places counted from ``offsets`` on. Source: Press et al. 2022."""

    def mod(score: Number, batch: Place, head: Place, query: Place, key: Place) -> Number:
        here = query if offsets is None else query + offsets[batch]
        # As numbers of their own, so that a row's and a column's are made once; exact up to 2^24 in f32.
        distance = key.astype(score.dtype) - here.astype(score.dtype)
        return score + slopes[head].astype(score.dtype) * distance

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
    # Functions of a pair are traced even where there is none.
    return table[index] if table.size else jnp.zeros((), table.dtype)


def near_mod(offsets: Int[Array, " batch"] | None, back: int | None, ahead: int | None) -> MaskMod:
    """Return whether a key lies at most ``back`` before and ``ahead`` after its query, counted from ``offsets`` on."""

    def mod(batch: Place, head: Place, query: Place, key: Place) -> Array:
        del head
        here = query if offsets is None else query + offsets[batch]
        before = True if ahead is None else key <= here + ahead
        return jnp.logical_and(before, True if back is None else key >= here - back)

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


def dropout_factor(
    rate: float, key: PRNGKeyArray | UInt32[Array, " words"], shape: tuple[int, int, int], keys: int
) -> FactorMod:
    """Return 1 / (1 - rate), or 0 with probability ``rate``: a function of the key and of the pair's place alone.

    Every row of queries and every key draws 32 random bits of its own from JAX's generator; a pair mixes the two.

    Args:
        rate: from 0 to below 1.
        key: of the random bits.
        shape: batch entries, heads and queries.
        keys: how many.

    Source: Srivastava et al. 2014; the mixing is the finalizer of MurmurHash3 (Appleby 2011).
    """
    of_row, of_key = jax.random.split(key)
    rows = jax.random.bits(of_row, shape, jnp.uint32)
    columns = jax.random.bits(of_key, (keys,), jnp.uint32)
    least = min(round(rate * 2**32), 2**32 - 1)

    def factor(batch: Place, head: Place, query: Place, key: Place) -> Number:
        bits = _mix(rows[batch, head, query] + columns[key])
        return jnp.where(bits >= jnp.uint32(least), jnp.float32(1 / (1 - rate)), jnp.float32(0))

    return factor


def _mix(bits: Array) -> Array:
    """Turn 32 bits into 32 others, each of which depends on all: one to one."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        bits = (bits ^ lax.shift_right_logical(bits, jnp.uint32(shift))) * jnp.uint32(factor)
    return bits ^ lax.shift_right_logical(bits, jnp.uint32(16))
