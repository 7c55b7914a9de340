"""Where an operator sends mass: to each key, to each tile, and how much that says about the query."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..errors import OptionError, refuse
from ..quantum.entropy import row_entropy
from ..tiling.cut import join, split
from .operator import AttentionOperator
from .passes import operate_transposed, weigh
from .sweep import Block, sweep


class TileOperator(NamedTuple):
    """An operator seen at the scale of tiles.

    Attributes:
        weights: mass that a walker in a tile of queries sends to a tile of keys; rows sum to one.
        query_masses: share of each tile of queries in the distribution over queries.
        defect: largest difference, between two queries of one tile, of the mass they send to one tile of keys. The
            walk on tiles is exact where it is zero; a step in total variation is off by at most tiles / 2 times it.
    """

    weights: Float[Array, "query_tiles key_tiles"]
    query_masses: Float[Array, " query_tiles"]
    defect: Float[Array, ""]


def uniform(operator: AttentionOperator) -> Float[Array, " queries"]:
    """Return the uniform distribution over the queries of an operator."""
    queries = operator.shape[0]
    return jnp.full((queries,), 1 / queries, operator.scores.scale.dtype)


@jax.jit
def key_masses(
    operator: AttentionOperator, query_weights: Float[Array, " queries"] | None = None
) -> Float[Array, " keys"]:
    """Compute how much attention each key receives: (pi P)_j = sum_i pi_i P_ij.

    Args:
        operator: P.
        query_weights: pi, a distribution over the queries; uniform by default.

    Raises:
        ShapeError: the distribution has not one number for each query.

    Error: a few eps sqrt(queries).
    Cost: one pass.
    """
    weights = uniform(operator) if query_weights is None else query_weights
    return operate_transposed(operator, weights[:, None])[:, 0]


@jax.jit
def mutual_information(
    operator: AttentionOperator, query_weights: Float[Array, " queries"] | None = None
) -> Float[Array, ""]:
    """Compute how many nats a key tells about the query that looked at it, without forming the pattern.

    I(pi, P) = H(pi P) - sum_i pi_i H(P_i)

    The dense twin is ``qga.routing.mutual_information``.

    Args:
        operator: P, of which every query sees a key.
        query_weights: pi, a distribution over the queries; uniform by default.

    Returns:
        Between 0 (all queries look alike) and the log of the smaller side.

    Raises:
        ShapeError: the distribution has not one number for each query.

    Error: a difference of two entropies, each good to a few eps sqrt(keys) log(keys).
    Cost: one pass.
    Source: Shannon 1948.
    """
    weights = uniform(operator) if query_weights is None else query_weights
    return row_entropy(key_masses(operator, weights)) - jnp.sum(weights * operator.rows.entropy)


@partial(jax.jit, static_argnames="tile")
def tile_operator(
    operator: AttentionOperator, tile: int, query_weights: Float[Array, " queries"] | None = None
) -> TileOperator:
    """Lump an operator over tiles: the walk of a walker of whom only the tile is known.

    Q_ST = sum_{i in S} pi_i sum_{j in T} P_ij / sum_{i in S} pi_i

    Args:
        operator: P.
        tile: rows of one tile; the last one may be shorter.
        query_weights: pi, positive, with sum one; uniform by default.

    Raises:
        OptionError: ``tile`` is below 1.

    Error: sums of tile^2 terms; the defect says how far Q is from being the whole truth.
    Cost: one pass, and memory for the tiles squared.
    Source: Kemeny and Snell 1960 (lumpability).

    Example:
        >>> from qga.operators import attention_operator
        >>> tile_operator(attention_operator(jnp.zeros((4, 2)), jnp.zeros((4, 2))), 2).weights.tolist()
        [[0.5, 0.5], [0.5, 0.5]]
    """
    if tile < 1:
        refuse(
            OptionError,
            "tile_operator: a tile has at least one row.",
            got=f"tile={tile}",
            want="tile >= 1",
            fix="raise tile.",
        )
    weights = uniform(operator) if query_weights is None else query_weights
    scores = replace(operator.scores, block=max(tile, operator.scores.block // tile * tile))
    tiles, key_tiles = scores.block // tile, -(-operator.shape[1] // scores.block) * (scores.block // tile)
    exists = jnp.ones(operator.shape[:1], bool)

    def visit(block: Block, carry: tuple[Array, Array]) -> tuple[tuple[Array, Array], tuple]:
        lumped, defect = carry
        log_sums, masses, exists = block.by_query
        sent = weigh(block, log_sums).reshape(scores.block, tiles, tile).sum(axis=2)
        column = (jnp.int32(0), block.first_key // tile)
        lumped = lax.dynamic_update_slice(lumped, _add_tiles(masses[:, None] * sent, tile), column)
        return (lumped, jnp.maximum(defect, jnp.max(_spread(sent, exists, tile)))), ()

    start = jnp.zeros((tiles, key_tiles), scores.scale.dtype), jnp.zeros((), scores.scale.dtype)
    (stack, defects), _ = sweep(scores, visit, start, by_query=(operator.rows.log_sums, weights, exists))
    query_masses = jnp.sum(split(weights, tile)[0], axis=1)
    lumped = join(stack, query_masses.shape[0])[:, : -(-operator.shape[1] // tile)]
    return TileOperator(lumped / query_masses[:, None], query_masses, lax.stop_gradient(jnp.max(defects)))


def _add_tiles(rows: Array, tile: int) -> Array:
    return rows.reshape(-1, tile, rows.shape[1]).sum(axis=1)


def _spread(sent: Array, exists: Array, tile: int) -> Array:
    """Return the largest minus the smallest mass that the queries of each tile send."""
    high = jnp.where(exists[:, None], sent, -jnp.inf).reshape(-1, tile, sent.shape[1]).max(axis=1)
    low = jnp.where(exists[:, None], sent, jnp.inf).reshape(-1, tile, sent.shape[1]).min(axis=1)
    return jnp.where(high >= low, high - low, 0)
