"""Walk over the scores of one head block by block: the one loop that every pass of an operator is made of.

for each block of queries:
    for each block of keys:  scores of the block -> what it adds to its rows and to its columns

Memory is that of one block and of what is added up; nothing of queries times keys is ever held.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ..kernels.score import Planes, Score, score_tile
from ..tiling.cut import split

_STATIC = {"static": True}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Scores:
    """The scores s of one head, by what they are computed from; a pytree.

    Attributes:
        planes: the lifted queries.
        keys: the lifted keys.
        scale: inverse temperature.
        score: the lift-inner-link score. Static.
        is_causal: whether query i sees keys 0 to i only. Static.
        block: queries and keys scored at a time, at most. Static.
    """

    planes: Planes
    keys: Float[Array, "keys width"]
    scale: Float[Array, ""]
    score: Score = field(metadata=_STATIC)
    is_causal: bool = field(metadata=_STATIC)
    block: int = field(metadata=_STATIC)

    @property
    def queries(self) -> int:
        """How many rows there are."""
        return self.planes[0].shape[0]


class Block(NamedTuple):
    """One block of scores with what belongs to its rows and its columns.

    Attributes:
        scores: minus infinity where a key does not exist or must not be seen.
        first_query: index of its first row.
        first_key: index of its first column.
        by_query: the arrays that ``sweep`` was given by query, cut to its rows; beyond the last query they are zero.
        by_key: likewise by key.
    """

    scores: Float[Array, "queries keys"]
    first_query: Int[Array, ""]
    first_key: Int[Array, ""]
    by_query: Any
    by_key: Any


def sweep(
    scores: Scores,
    visit: Callable[[Block, Any], tuple[Any, Any]],
    start: Any,
    *,
    by_query: Any = (),
    by_key: Any = (),
) -> tuple[Any, Any]:
    """Visit every block of scores once.

    Args:
        scores: of which head.
        visit: (block, carry) -> (carry, part). The carry goes along the keys of a block of queries. The part belongs
            to the columns of the block and is added up over the queries.
        start: the carry at the first block of keys, as for ``block`` queries.
        by_query: arrays with a row for each query that ``visit`` looks at.
        by_key: arrays with a row for each key that ``visit`` looks at.

    Returns:
        The last carry of each block of queries, and the sum of the parts of each block of keys, both as stacks.
        ``qga.tiling.join`` makes rows of a stack.
    """
    cut = partial(_cut, block=scores.block)
    rows, columns = cut((scores.planes, by_query)), cut((scores.keys, by_key))
    see = partial(_see, scores, visit)
    like = jax.eval_shape(see, start, _first(rows), _first(columns))[1]
    blocks = columns[0].shape[0]
    sums = jax.tree.map(lambda part: jnp.zeros((blocks, *part.shape), part.dtype), like)

    # Derivatives keep what enters a block of queries and walk over its keys again.
    @partial(jax.checkpoint, prevent_cse=False)
    def along_keys(sums: Any, row: tuple[Array, Any]) -> tuple[Any, Any]:
        def step(carry: Any, column: tuple[Array, Any]) -> tuple[Any, Any]:
            if not scores.is_causal:
                return see(carry, row, column)
            hidden = column[0] > row[0] + scores.block - 1
            nothing = jax.tree.map(lambda part: jnp.zeros(part.shape, part.dtype), like)
            return lax.cond(hidden, lambda: (carry, nothing), lambda: see(carry, row, column))

        carry, parts = lax.scan(step, start, columns)
        return jax.tree.map(jnp.add, sums, parts), carry

    sums, carries = lax.scan(along_keys, sums, rows)
    return carries, sums


def _see(scores: Scores, visit: Callable, carry: Any, row: tuple, column: tuple) -> tuple[Any, Any]:
    first_query, (planes, by_query) = row[0], row[1]
    first_key, (keys, by_key) = column[0], column[1]
    values = score_tile(scores.score, planes, keys, scores.scale)
    key = first_key + lax.broadcasted_iota(jnp.int32, values.shape, 1)
    visible = key < scores.keys.shape[0]
    query = first_query + lax.broadcasted_iota(jnp.int32, values.shape, 0)
    if scores.is_causal:
        visible &= key <= query
    # Rows past the last one see nothing, so that they add nothing to a column.
    visible &= query < scores.queries
    return visit(Block(jnp.where(visible, values, -jnp.inf), first_query, first_key, by_query, by_key), carry)


def _cut(arrays: Any, *, block: int) -> tuple[Array, Any]:
    """Cut arrays into stacks of blocks, with the index of each block's first row."""
    stacks = jax.tree.map(lambda rows: split(rows, block)[0], arrays)
    count = jax.tree.leaves(stacks)[0].shape[0]
    return jnp.arange(count, dtype=jnp.int32) * block, stacks


def _first(stack: Any) -> Any:
    return jax.tree.map(lambda each: each[0], stack)
