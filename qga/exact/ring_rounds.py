"""The rounds of ring attention: keys and values go from device to device, states of what each sees are merged.

Out:   state_i <- state_i merged with the state of the keys that are here
Back:  the same rounds with the final log sums; cotangents of queries stay, those of keys and values travel with them.

One loop of as many rounds as devices: after the last, what travels is home again. A part that is wholly hidden is not
computed; which parts see each other differs by device, so that it is a choice made when the program runs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ..errors import OptionError, refuse
from ..tiling.state import State, accumulator_dtype, state_merge, state_read
from .family import member_of
from .grouped import Options, Results, attend_grouped
from .metrics import Metric
from .pairs import MaskMod, ScoreMod

Embed = Callable[[Callable[..., Any]], Callable[..., Any]]
Places = Int[Array, " 2"]
"""Places of the first query and of the first key among all rows."""


class Rows(NamedTuple):
    """What one device has.

    Attributes:
        query: [batch, queries, heads, width].
        key: [batch, keys, key_heads, width]; the first two of these travel.
        value: [batch, keys, key_heads, channels].
        numbers: what all devices have: "scale", [batch or 1, heads or 1], and "alibi", [heads], where they are arrays.
    """

    query: Float[Array, "batch queries heads width"]
    key: Float[Array, "batch keys key_heads width"]
    value: Float[Array, "batch keys key_heads channels"]
    numbers: dict[str, Array]


@dataclass(frozen=True)
class Ring:
    """What is known before any array is.

    Attributes:
        axis_name: of the mesh.
        devices: along it.
        is_causal: whether a query sees keys up to its place only.
        window: how many keys before and after its place a query sees.
        softcap: cap of scores.
        score_mod: of the caller.
        mask_mod: of the caller.
        metric: geometry of scores.
        curvature: of the hyperbolic ones.
        scale: where it is no array.
        is_placed: whether parts must know their places, and not just whether they see each other.
        is_zigzag: whether a device has an early and a late half of rows.
        tile: keys scored at a time, at most.
        embed: what makes a function of arrays, computed here, out of one of a part.
    """

    axis_name: Hashable
    devices: int
    is_causal: bool
    window: tuple[int | None, int | None]
    softcap: float | None
    score_mod: ScoreMod | None
    mask_mod: MaskMod | None
    metric: Metric
    curvature: float
    scale: float
    is_placed: bool
    is_zigzag: bool
    tile: int
    embed: Embed | None


class _Part(NamedTuple):
    """Queries and keys of a device that are looked at together, and whether by the causal rule."""

    queries: slice
    keys: slice
    is_causal: bool = False


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def attend_around(ring: Ring, rows: Rows) -> Results:
    """Return the averages of the values of all devices for the queries of this one, and their log sums."""
    return _go_out(ring, rows)


def _go_out(ring: Ring, rows: Rows) -> Results:
    shape, channels = rows.query.shape[:3], rows.value.shape[3]
    dtype = accumulator_dtype(rows.query, rows.value)

    def visit(part: _Part, held: Rows, places: Places, state: State) -> State:
        out, log_sums = _run(ring, partial(_attend, ring, part.is_causal), _cut(held, part), places)
        # Average and log sum are a state of mass one; a query that saw nothing has none.
        mass = jnp.where(log_sums == -jnp.inf, 0, jnp.ones_like(log_sums))
        merged = state_merge(_take(state, part.queries), State(log_sums, mass, out.astype(dtype)))
        return _put(state, part.queries, merged)

    def go(turn: Array, carry: tuple) -> tuple:
        (key, value), state = carry
        # Sent on before it is used, so that it may travel meanwhile.
        following = _pass_on(ring, (key, value))
        return following, _choose(ring, turn, rows._replace(key=key, value=value), visit, state)

    empty = State(jnp.full(shape, -jnp.inf, dtype), jnp.zeros(shape, dtype), jnp.zeros((*shape, channels), dtype))
    out, log_sums = state_read(_fold(ring, go, ((rows.key, rows.value), empty))[1])
    return out.astype(rows.value.dtype), log_sums


def _go_out_and_keep(ring: Ring, rows: Rows) -> tuple[Results, tuple[Rows, Results]]:
    results = _go_out(ring, rows)
    return results, (rows, results)


def _go_back(ring: Ring, kept: tuple[Rows, Results], bars: Results) -> tuple[Rows]:
    return (_pull(ring, kept, bars),)


attend_around.defvjp(_go_out_and_keep, _go_back)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _pull(ring: Ring, kept: tuple[Rows, Results], bars: Results) -> Rows:
    """Pull cotangents of the results back to what each device has."""
    rows, known = kept
    dtype = known[1].dtype

    def visit(part: _Part, held: Rows, places: Places, sums: Rows) -> Rows:
        beside = _take((known, bars), part.queries)
        pulled = _run(ring, partial(_pull_part, ring, part.is_causal), _cut(held, part), places, *beside)
        added = jax.tree.map(lambda bar, each: bar + each.astype(dtype), _cut(sums, part), pulled)
        key, value = _put((sums.key, sums.value), part.keys, (added.key, added.value))
        return Rows(_put(sums.query, part.queries, added.query), key, value, added.numbers)

    def go(turn: Array, carry: tuple) -> tuple:
        (key, value), sums = carry
        following = _pass_on(ring, (key, value))
        sums = _choose(ring, turn, rows._replace(key=key, value=value), visit, sums)
        key, value = _pass_on(ring, (sums.key, sums.value))
        return following, sums._replace(key=key, value=value)

    zeros = jax.tree.map(partial(jnp.zeros_like, dtype=dtype), rows)
    sums = _fold(ring, go, ((rows.key, rows.value), zeros))[1]
    return jax.tree.map(lambda bar, each: bar.astype(each.dtype), sums, rows)


@_pull.defjvp
def _pull_jvp(ring: Ring, primals: tuple, tangents: tuple) -> Any:
    del ring, primals, tangents
    refuse(
        OptionError,
        "ring_attention: there are first gradients only.",
        got="a derivative of a gradient",
        want="one gradient",
        fix="differentiate qga.attention of all rows, or take differences of gradients.",
    )


def _attend(
    ring: Ring,
    is_causal: bool,
    rows: Rows,
    places: Places,
    known: Results | None = None,
) -> Results:
    """Run attention of a part; where results over all keys are known, return them as functions of the part."""
    first_query, first_key = places[0], places[1]
    scale = rows.numbers.get("scale", ring.scale)
    member = member_of(ring.metric, rows.query, rows.key, scale, ring.curvature)
    score_mod, mask_mod = (_shift(mod, first_query, first_key) for mod in (ring.score_mod, ring.mask_mod))
    offsets = jnp.broadcast_to(first_query - first_key, rows.query.shape[:1]) if ring.is_placed else None
    options = Options(
        is_causal, ring.window, offsets, None, None, None, ring.softcap, None, None, rows.numbers.get("alibi"),
        score_mod, mask_mod, None, ring.tile, "reverse",
    )  # fmt: skip
    return attend_grouped(member, rows.value, options, known=known)


def _pull_part(
    ring: Ring,
    is_causal: bool,
    rows: Rows,
    places: Places,
    known: Results,
    bars: Results,
) -> Rows:
    """Pull cotangents of the results over all keys back to a part."""
    return jax.vjp(lambda rows: _attend(ring, is_causal, rows, places, known), rows)[1](bars)[0]


def _shift(mod: Callable[..., Any] | None, first_query: Array, first_key: Array) -> Callable[..., Any] | None:
    """Let a function of places count from the first row of all."""
    if mod is None:
        return None
    return lambda *given: mod(*given[:-2], given[-2] + first_query, given[-1] + first_key)


def _run(ring: Ring, function: Callable[..., Any], *arguments: Any) -> Any:
    return (function if ring.embed is None else ring.embed(function))(*arguments)


def _fold(ring: Ring, go: Callable[[Array, Any], Any], start: Any) -> Any:
    return lax.fori_loop(jnp.int32(0), jnp.int32(ring.devices), go, start)


def _pass_on(ring: Ring, travelling: Any) -> Any:
    """Give what travels to the next device, and take it from the one before; a ring of one needs no collectives."""
    if ring.devices == 1:
        return travelling
    circle = [(each, (each + 1) % ring.devices) for each in range(ring.devices)]
    return jax.tree.map(lambda each: lax.ppermute(each, ring.axis_name, circle), travelling)


def _choose(ring: Ring, turn: Array, held: Rows, visit: Callable[[_Part, Rows, Places, Any], Any], found: Any) -> Any:
    """Add what this device sees in a turn to what it found: keys of the device that many places before it."""
    here = lax.axis_index(ring.axis_name).astype(jnp.int32) if ring.devices > 1 else jnp.int32(0)
    home = (here - turn) % ring.devices
    queries, keys = held.query.shape[1], held.key.shape[1]
    places = jnp.stack([here * queries, home * keys])
    parts, number = _parts(ring, turn, here, home, queries, keys)
    ways = [(lambda held, places, found: found) if part is None else partial(visit, part) for part in parts]
    return ways[0](held, places, found) if len(ways) == 1 else lax.switch(number, ways, held, places, found)


def _parts(
    ring: Ring, turn: Array, here: Array, home: Array, queries: int, keys: int
) -> tuple[list[_Part | None], Array]:
    """Return what there may be to see in a turn, and which of it there is."""
    whole, nothing = _Part(slice(0, queries), slice(0, keys), ring.is_causal), jnp.int32(0)
    if ring.is_placed:
        first_query, first_key = here * queries, home * keys
        back, ahead = ring.window[0], 0 if ring.is_causal else ring.window[1]
        sees = jnp.bool_(True)
        if ahead is not None:
            sees &= first_key <= first_query + queries - 1 + ahead
        if back is not None:
            sees &= first_key + keys - 1 >= first_query - back
        return [None, whole], sees.astype(jnp.int32)
    if not ring.is_causal or ring.devices == 1:
        return [whole], nothing
    # Rows of this very device, rows before them, rows after them.
    kind = jnp.where(turn == 0, 0, jnp.where(home < here, 1, 2))
    if not ring.is_zigzag:
        return [whole, whole._replace(is_causal=False), None], kind
    half = queries // 2
    early, late = _Part(slice(0, queries), slice(0, half)), _Part(slice(half, queries), slice(0, keys))
    return [whole, early, late], kind


def _cut(rows: Rows, part: _Part) -> Rows:
    """Cut out the rows of a part; what belongs to no row stays whole."""
    key, value = _take((rows.key, rows.value), part.keys)
    return Rows(_take(rows.query, part.queries), key, value, rows.numbers)


def _take(arrays: Any, rows: slice) -> Any:
    return jax.tree.map(lambda each: each[:, rows], arrays)


def _put(arrays: Any, rows: slice, parts: Any) -> Any:
    """Replace rows by those of a part, which may be all."""
    return jax.tree.map(
        lambda each, part: lax.dynamic_update_slice_in_dim(each, part, rows.start, axis=1), arrays, parts
    )
