"""Attention problems of the five kinds on which certificates are tested, many at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from qga.tiling import Certificate, Resolution, attend_planned, plan, split, summarize
from tests.qga.dense import softmax

KINDS = ("iid", "smooth", "clustered", "sink", "two_point")
KEYS, TILE, WIDTH, USED = 48, 8, 4, 3


@dataclass(frozen=True)
class Problems:
    """Independent problems of one query each, stacked.

    As many channels as keys, so that values and unit vectors run through one compiled program.
    """

    queries: np.ndarray
    keys: np.ndarray
    values: np.ndarray


def draw(kind: str, count: int, random: np.random.Generator) -> Problems:
    """Draw problems of one kind."""
    queries = random.normal(size=(count, 1, WIDTH)) * random.choice([0.3, 1.0, 3.0], size=(count, 1, 1))
    noise, tiles = random.normal(size=(count, KEYS, WIDTH)), KEYS // TILE
    far = np.repeat(random.normal(size=(count, tiles, WIDTH)), TILE, axis=1)
    if kind == "iid":
        keys = noise
    elif kind == "smooth":
        angles = np.linspace(0, 3, KEYS)[:, None] * random.random((count, 1, WIDTH)) + far[:, :1]
        keys = np.sin(angles)
    elif kind == "clustered":
        keys = far + 0.02 * noise
    elif kind == "sink":
        keys = 0.05 * noise
        keys[:, 0] += 2 * queries[:, 0] / np.linalg.norm(queries[:, 0], axis=-1, keepdims=True)
    else:
        # Half of a tile at each end of an interval along the query: where the bound of the mass is reached.
        along = queries / np.linalg.norm(queries, axis=-1, keepdims=True)
        ends = np.tile([1.0, -1.0], KEYS // 2)[None, :, None] * random.exponential(0.3, size=(count, 1, 1))
        keys = random.choice([0.0, 1.0], size=(count, 1, 1)) * far + ends * along
    values = np.zeros((count, KEYS, KEYS))
    values[..., :USED] = random.normal(size=(count, KEYS, USED)) + 2 * far[..., :USED]
    return Problems(queries, keys, values)


def rounded(problems: Problems, dtype: np.typing.DTypeLike) -> Problems:
    """Round the numbers of problems, so that the truth is of the numbers that were used."""
    return Problems(*(array.astype(dtype) for array in (problems.queries, problems.keys, problems.values)))


@cache
def solver(resolution: Resolution) -> Callable[..., tuple[jax.Array, Certificate]]:
    """Compile attention by a plan, for many problems at a time."""

    def one(queries: jax.Array, keys: jax.Array, values: jax.Array) -> tuple[jax.Array, Certificate]:
        (key_tiles, exists), (value_tiles, _) = split(keys, TILE), split(values, TILE)
        summary = summarize(key_tiles, value_tiles, exists)
        chosen = plan(queries, summary, resolution, scale=1.0)
        return attend_planned(queries, keys, values, chosen, summary, scale=1.0, tile=TILE)

    return jax.jit(jax.vmap(one))


def solve(problems: Problems, resolution: Resolution) -> tuple[np.ndarray, Certificate]:
    """Attend to all problems by a plan."""
    arrays = (jnp.asarray(array) for array in (problems.queries, problems.keys, problems.values))
    out, certificate = solver(resolution)(*arrays)
    return np.asarray(out, float)[:, 0], jax.tree.map(lambda field: np.asarray(field, float)[:, 0], certificate)


def weights(problems: Problems, resolution: Resolution) -> np.ndarray:
    """Read the weights that the approximation gives each key: its average of unit vectors."""
    units = np.broadcast_to(np.eye(KEYS, dtype=problems.keys.dtype), (len(problems.keys), KEYS, KEYS))
    found, _ = solve(Problems(problems.queries, problems.keys, units), resolution)
    return found / found.sum(axis=1, keepdims=True)


def truth(problems: Problems) -> np.ndarray:
    """Compute the exact weights in double precision."""
    return softmax(np.einsum("pd,pkd->pk", problems.queries[:, 0].astype(float), problems.keys.astype(float)))


def relative_entropy(weights: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Compute KL(weights || others) of each row from their differences, so that a small one keeps its digits."""
    apart = (weights - others) / others
    grown = np.where(weights > 0, weights / others, 1)
    return np.sum(others * (grown * np.log1p(np.where(weights > 0, apart, 0)) * (weights > 0) - apart), axis=1)
