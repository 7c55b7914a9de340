"""Rows of ``qga.tiling``: bounds, certificates, plans, trees and shares of work."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from qga import tiling
from qga.tiling import Budget, Certificate, Certified, Fixed, Summary
from tests.qga.case import Case
from tests.qga.dense import rays

Drawn = tuple[np.ndarray, ...]
TREE = tiling.tree(keys=8, tile=2)
TILE = 4


def draw_rows(random: np.random.Generator) -> Drawn:
    centers = np.repeat(random.normal(size=(3, 4)), TILE, axis=0)[:11]
    return random.normal(size=(3, 4)), centers + 0.2 * random.normal(size=(11, 4)), random.normal(size=(11, 2))


def draw_tiles(random: np.random.Generator) -> Drawn:
    exists = np.arange(12).reshape(3, TILE) < 11
    return np.repeat(random.normal(size=(3, 1, 4)), TILE, axis=1) + 0.2 * random.normal(size=(3, TILE, 4)), exists


def draw_spreads(random: np.random.Generator) -> Drawn:
    return random.random(5) + 0.1, random.random(5) + 0.1


def draw_logs(random: np.random.Generator) -> Drawn:
    return random.random(5), random.random(5) - 2, random.random(5) - 3


def draw_nodes(random: np.random.Generator) -> Drawn:
    return random.random(len(TREE.start)), random.random(len(TREE.start))


def draw_leaves(random: np.random.Generator) -> Drawn:
    kets = rays(random.normal(size=(4, 3, 6)))
    return (np.einsum("lka,lkb->lab", kets, kets.conj()) / 3,)


def hermitian(matrices: jax.Array) -> jax.Array:
    """Keep derivatives among Hermitian matrices, where entropies live."""
    return (matrices + jnp.swapaxes(matrices, -1, -2).conj()) / 2


def summary_of(keys: jax.Array, values: jax.Array) -> Summary:
    (key_tiles, exists), (value_tiles, _) = tiling.split(keys, TILE), tiling.split(values, TILE)
    return tiling.summarize(key_tiles, value_tiles, exists)


def planned(resolution: tiling.Resolution) -> Callable:
    return lambda q, k, v: tiling.plan(q, summary_of(k, v), resolution, scale=1.0, query_tile=2)


def attended(queries: jax.Array, keys: jax.Array, values: jax.Array) -> tuple[jax.Array, Certificate]:
    """Attend with levels of every kind."""
    summary = summary_of(keys, values)
    chosen = tiling.plan(queries, summary, Fixed(TILE), scale=1.0)
    levels = jnp.broadcast_to(jnp.asarray([tiling.EXACT, tiling.COARSE, tiling.SKIP], jnp.int32), chosen.level.shape)
    return tiling.attend_planned(queries, keys, values, chosen._replace(level=levels), summary, scale=1.0, tile=TILE)


def mixed_output(queries: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
    return attended(queries, keys, values)[0]


def certificate_of(queries: jax.Array, keys: jax.Array, values: jax.Array) -> Certificate:
    return attended(queries, keys, values)[1]


def bounded(function: Callable) -> Callable:
    return lambda q, k, v: function(q, summary_of(k, v), scale=0.5)


def paired(queries: jax.Array, keys: jax.Array, _: jax.Array) -> tiling.Interval:
    return tiling.dual_bound(summary_of(queries, queries), summary_of(keys, keys), scale=0.5)


def gained(rho: jax.Array) -> tiling.HolevoTree:
    return tiling.holevo_tree(TREE, hermitian(rho))


def merged(metric: str) -> Callable:
    return lambda keys, exists: tiling.static_merge(keys, exists, metric=metric, scale=2.0)


def tile_bounded(low: jax.Array, high: jax.Array) -> tiling.TileBounds:
    """Bound a tile of capped scores beside one that they are compared with, by places and by a table."""

    def pair(score: jax.Array, batch: jax.Array, head: jax.Array, query: jax.Array, key: jax.Array) -> jax.Array:
        near = 3 * jnp.tanh(score / 3) + jnp.linspace(0.5, 2.0, 7, dtype=score.dtype)[query - key]
        return jnp.where(query > key, near, -jnp.inf)

    query, key = (tiling.Interval(*(jnp.int32(end) for end in ends)) for ends in ((4, 6), (1, 4)))
    return tiling.tile_bounds(pair, tiling.Interval(low[0], high[0]), 0, 0, query, key)


CASES = [
    Case("mean_score", bounded(tiling.mean_score), draw_rows, depth=4),
    Case("score_interval", bounded(tiling.score_interval), draw_rows, is_smooth=False, depth=8, scale=4.0),
    Case("mass_bounds", bounded(tiling.mass_bounds), draw_rows, is_smooth=False, depth=8, scale=4.0),
    Case("tile_bounds", lambda a, b: tile_bounded(-a, b), draw_spreads, is_smooth=False, scale=8.0),
    Case("chord_excess", tiling.chord_excess, draw_spreads, is_smooth=False),
    Case("excess_from_variance", tiling.excess_from_variance, draw_spreads),
    Case("dual_bound", paired, draw_rows, is_smooth=False, depth=8, scale=8.0),
    Case("perturbation_bounds", lambda a, _: tiling.perturbation_bounds(a), draw_spreads),
    Case("skip_distances", lambda a, _: tiling.skip_distances(a / 2), draw_spreads),
    Case("entropy_floor", lambda a, _: tiling.entropy_floor(9, a), draw_spreads),
    Case("mixture_bounds", tiling.mixture_bounds, draw_logs),
    Case("plan fixed", planned(Fixed(TILE)), draw_rows, is_smooth=False, depth=8, scale=8.0),
    Case("plan certified", planned(Certified(0.1)), draw_rows, is_smooth=False, depth=8, scale=8.0),
    Case("plan budget", planned(Budget(1)), draw_rows, is_smooth=False, depth=8, scale=8.0),
    Case("attend_planned output", mixed_output, draw_rows, depth=11, scale=4.0),
    # A certificate of single precision certifies its own rounding too, some hundred eps.
    Case("attend_planned certificate", certificate_of, draw_rows, is_smooth=False, depth=11, scale=16.0),
    Case("static_merge cosine", merged("cosine"), draw_tiles, is_smooth=False, depth=8, scale=4.0),
    Case("static_merge fidelity", merged("fidelity"), draw_tiles, is_smooth=False, depth=8, scale=8.0),
    Case("static_merge born_hyperbolic", merged("born_hyperbolic"), draw_tiles, is_smooth=False, depth=8, scale=16.0),
    Case("optimize", lambda d, c: tiling.optimize(TREE, d, c, 1.3), draw_nodes, is_smooth=False),
    Case("holevo_tree", gained, draw_leaves, lowers=False, depth=8, scale=4.0),
    Case("critical_beta", lambda q, k, _: tiling.critical_beta(k.T @ k), draw_rows, depth=16),
    Case("partition", lambda a, _: tiling.partition(a, 3), draw_spreads, is_smooth=False),
]  # fmt: skip
