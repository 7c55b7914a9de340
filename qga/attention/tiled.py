"""Softmax attention over tiles of keys, with derivatives that recompute tiles instead of storing them.

Forward, for each tile of keys: scores -> leaf state -> merge into the running state; read out at the end.

Derivative, for each tile again, with p = e^(s - logZ) recomputed from the stored logZ:

    d out = sum_j p_j ds_j v_j + sum_j p_j dv_j - (sum_j p_j ds_j) out,    d logZ = sum_j p_j ds_j

The rule is a ``custom_jvp`` and each tile of it is rematerialised. Its transpose is therefore the usual backward pass
of streaming attention (five matrix products a tile, memory linear in the rows), and forward mode, reverse mode and
higher derivatives come from one rule. A ``custom_vjp`` would forbid forward mode.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..tiling.cut import split
from ..tiling.state import State, accumulator_dtype, state_leaf, state_merge, state_read

Scores = Callable[
    [Float[Array, "queries width"], Float[Array, "keys width"], Float[Array, ""]], Float[Array, "queries keys"]
]

# A loop costs a device round of its own; few tiles are cheaper in line.
_TILES_IN_LINE = 4


@dataclass(frozen=True)
class TilePlan:
    """What is known about a tiled attention before any array is.

    Attributes:
        scores: the lift-inner-link score of one tile.
        tile: keys of one tile.
        is_causal: whether query i sees keys 0 to ``first_query`` + i only.
        first_query: position of the first query row, for the causal rule.
    """

    scores: Scores
    tile: int
    is_causal: bool
    first_query: int = 0


class _KeyTile(NamedTuple):
    """One tile of keys with everything that belongs to it; None where the problem has no such part."""

    keys: Float[Array, "tile width"]
    values: Float[Array, "tile channels"]
    exists: Bool[Array, " tile"]
    first_key: Int[Array, ""]
    allowed: Bool[Array, "queries tile"] | None


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def attend(
    plan: TilePlan,
    queries: Float[Array, "queries width"],
    keys: Float[Array, "keys width"],
    values: Float[Array, "keys channels"],
    scale: Float[Array, ""],
    mask: Bool[Array, "queries keys"] | None,
) -> tuple[Float[Array, "queries channels"], Float[Array, " queries"]]:
    """Average the values of one head by the softmax of its scores, tile by tile.

    Returns:
        The averages and the log of each row's partition sum, both in the accumulator's dtype. A row that sees no key
        gives zeros and minus infinity.
    """
    dtype = accumulator_dtype(queries, values)
    rows, channels = queries.shape[0], values.shape[1]

    def add_tile(state: State, tile: _KeyTile) -> tuple[State, None]:
        scores = _hide(plan, plan.scores(queries, tile.keys, scale), tile)
        leaf = jax.vmap(state_leaf, in_axes=(0, None))(scores, tile.values)
        return state_merge(state, leaf), None

    unit = State(jnp.full((rows,), -jnp.inf, dtype), jnp.zeros((rows,), dtype), jnp.zeros((rows, channels), dtype))
    state, _ = _scan(add_tile, unit, _cut(plan, keys, values, mask))
    return state_read(state)


@attend.defjvp
def _attend_jvp(plan: TilePlan, primals: tuple, tangents: tuple) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    queries, keys, values, scale, mask = primals
    d_queries, d_keys, d_values, d_scale, _ = tangents
    out, log_sum = attend(plan, queries, keys, values, scale, mask)
    reference = jnp.where(log_sum == -jnp.inf, 0, log_sum)[:, None]

    @partial(jax.checkpoint, prevent_cse=False)
    def add_tile(sums: tuple, tiles: tuple[_KeyTile, Array, Array]) -> tuple[tuple, None]:
        tile, d_tile_keys, d_tile_values = tiles
        scores, d_scores = jax.jvp(plan.scores, (queries, tile.keys, scale), (d_queries, d_tile_keys, d_scale))
        weights = jnp.exp(_hide(plan, scores, tile) - reference)
        moved = weights * d_scores
        mix = partial(jnp.matmul, preferred_element_type=out.dtype)
        d_total = mix(moved.astype(values.dtype), tile.values) + mix(weights.astype(values.dtype), d_tile_values)
        return (sums[0] + d_total, sums[1] + jnp.sum(moved, axis=1)), None

    tiles = (_cut(plan, keys, values, mask), split(d_keys, plan.tile)[0], split(d_values, plan.tile)[0])
    (d_total, d_log_sum), _ = _scan(add_tile, (jnp.zeros_like(out), jnp.zeros_like(log_sum)), tiles)
    return (out, log_sum), (d_total - d_log_sum[:, None] * out, d_log_sum)


def _cut(plan: TilePlan, keys: Array, values: Array, mask: Array | None) -> _KeyTile:
    """Cut keys, values and mask into one stack of tiles."""
    key_tiles, exists = split(keys, plan.tile)
    first_keys = jnp.arange(key_tiles.shape[0], dtype=jnp.int32) * plan.tile
    allowed = None if mask is None else jnp.swapaxes(split(mask.T, plan.tile, False)[0], 1, 2)
    return _KeyTile(key_tiles, split(values, plan.tile)[0], exists, first_keys, allowed)


def _hide(plan: TilePlan, scores: Float[Array, "queries tile"], tile: _KeyTile) -> Float[Array, "queries tile"]:
    """Give minus infinity to every key that does not exist or must not be seen."""
    visible = tile.exists[None, :]
    if plan.is_causal:
        positions = plan.first_query + jnp.arange(scores.shape[0], dtype=jnp.int32)
        key_positions = tile.first_key + jnp.arange(plan.tile, dtype=jnp.int32)
        visible &= positions[:, None] >= key_positions[None, :]
    if tile.allowed is not None:
        visible &= tile.allowed
    return jnp.where(visible, scores, -jnp.inf)


def _scan(step: Callable, start: tuple, tiles: tuple) -> tuple:
    """Fold ``step`` over the leading axis of ``tiles``, in line when they are few."""
    count = jax.tree.leaves(tiles)[0].shape[0]
    return lax.scan(step, start, tiles, unroll=True if count <= _TILES_IN_LINE else 1)
