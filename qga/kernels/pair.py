"""What happens to a pair of tiles in a kernel: its rows are read by references, its scores are modified and hidden."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jaxtyping import Array, Bool, Float

from .modify import Given
from .problem import Problem, Sizes, TilePlan


def modify(
    plan: TilePlan,
    sizes: Sizes,
    scores: Float[Array, "rows columns"],
    first_query: int | Array,
    first_key: int | Array,
    given: Given,
    *,
    by_rows: bool = True,
) -> tuple[Float[Array, "rows columns"], Float[Array, "rows columns"] | None]:
    """Apply the plan's modifier to a tile of scores: what it makes of them, and its factors of weights.

    Beyond the last query and the last key a tile has them again, by place as well: what a function of scores makes of
    other places may have no derivative.
    """
    if plan.modifier is None:
        return scores, None
    queries = first_query + lax.broadcasted_iota(jnp.int32, scores.shape, 0 if by_rows else 1)
    keys = first_key + lax.broadcasted_iota(jnp.int32, scores.shape, 1 if by_rows else 0)
    if sizes.queries % sizes.query_tile:
        queries = jnp.minimum(queries, sizes.queries - 1)
    if sizes.keys % sizes.key_tile:
        keys = jnp.minimum(keys, sizes.keys - 1)
    return plan.modifier(scores, queries, keys, given, by_rows=by_rows)


def hide(
    plan: TilePlan,
    sizes: Sizes,
    scores: Float[Array, "rows columns"],
    first_query: int | Array,
    first_key: int | Array,
    allowed: Bool[Array, "rows columns"] | None,
    *,
    by_rows: bool = True,
) -> Float[Array, "rows columns"]:
    """Give minus infinity to every key that does not exist or must not be seen; rows are queries, or else keys."""
    key = first_key + lax.broadcasted_iota(jnp.int32, scores.shape, 1 if by_rows else 0)
    query = first_query + lax.broadcasted_iota(jnp.int32, scores.shape, 0 if by_rows else 1)
    visible = key < sizes.keys
    if not by_rows and sizes.queries % sizes.query_tile:
        visible &= query < sizes.queries
    if plan.ahead is not None:
        visible &= key <= (query + plan.ahead if plan.ahead else query)
    if plan.back is not None:
        visible &= key >= query - plan.back
    if allowed is not None:
        visible &= allowed
    return jnp.where(visible, scores, -jnp.inf)


def key_tile_of(given: Problem, sizes: Sizes, number: Array, *, is_split: bool = False) -> tuple[Any, ...]:
    """Read a tile of keys by references: keys, values, what the modifier is given, and the mask."""
    rows = pl.ds(number * sizes.key_tile, sizes.key_tile)
    parts = given.given
    read = Given(
        tuple(ref[0, 0] for ref in parts.numbers), tuple(ref[...] for ref in parts.by_query),
        tuple(ref[rows] for ref in parts.by_key), tuple(ref[:, rows] for ref in parts.by_pair),
        tuple(ref[...] for ref in parts.tables),
    )  # fmt: skip
    place = given.storage.rows_at(number, sizes.key_tile, sizes.page_tiles)
    keys, values = (each[place, :].astype(given.dtype) for each in (given.keys, given.values))
    half = sizes.channels // 2
    values = (values[:, :half], values[:, half:]) if is_split else values
    return keys, values, read, None if given.mask is None else given.mask[:, rows]


def query_tile_of(given: Problem, sizes: Sizes, number: Array) -> tuple[Any, ...]:
    """Read a tile of queries by references, with a row for each key: planes, what the modifier is given, the mask."""
    rows = pl.ds(number * sizes.query_tile, sizes.query_tile)
    parts = given.given
    read = Given(
        tuple(ref[0, 0] for ref in parts.numbers), tuple(ref[rows] for ref in parts.by_query),
        tuple(ref[...] for ref in parts.by_key), tuple(ref[rows, :].T for ref in parts.by_pair),
        tuple(ref[...] for ref in parts.tables),
    )  # fmt: skip
    planes = tuple(ref[rows, :] for ref in given.planes)
    return planes, read, None if given.mask is None else given.mask[rows, :].T
