"""Rows of options of ``qga.attention``, each with the arrays it reads and how the dense truth is told about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from jax import Array

Arrays = dict[str, Any]


class Shape(NamedTuple):
    """Axes of a call; several tiles of queries and of keys, and lengths that no tile divides."""

    batch: int = 2
    queries: int = 67
    keys: int = 71
    heads: int = 4
    key_heads: int = 2
    width: int = 6
    channels: int = 5


@dataclass(frozen=True)
class Row:
    """Options that are tested together.

    Attributes:
        name: what is special.
        options: arrays by name -> options of ``attention``.
        draw: makes the arrays, of float64 or of integers and truths.
        shape: of the call.
        tile: of the call.
    """

    name: str
    options: Callable[[Arrays], Arrays] = lambda arrays: {}
    draw: Callable[[np.random.Generator, Shape], Arrays] = lambda random, shape: {}
    shape: Shape = field(default_factory=Shape)
    tile: int = 16

    def arrays(self, random: np.random.Generator) -> Arrays:
        """Draw query, key, value and what the options read."""
        batch, queries, keys, heads, key_heads, width, channels = self.shape
        shapes = {
            "query": (batch, queries, heads, width), "key": (batch, keys, key_heads, width),
            "value": (batch, keys, key_heads, channels),
        }  # fmt: skip
        return {name: random.normal(size=shape) for name, shape in shapes.items()} | self.draw(random, self.shape)


def bias_of(*axes: bool) -> Callable[[np.random.Generator, Shape], Arrays]:
    """Draw a bias that has some of the axes batch, heads, queries, keys."""

    def draw(random: np.random.Generator, shape: Shape) -> Arrays:
        full = shape.batch, shape.heads, shape.queries, shape.keys
        return {"bias": random.normal(size=[size if has else 1 for has, size in zip(axes, full, strict=True)])}

    return draw


def draw_mask(random: np.random.Generator, shape: Shape) -> Arrays:
    """Draw a mask of every batch entry, with a query that sees nothing."""
    mask = random.random((shape.batch, 1, shape.queries, shape.keys)) < 0.7
    mask[0, 0, shape.queries // 2] = False
    return {"mask": mask}


def draw_segments(random: np.random.Generator, shape: Shape, *, is_sorted: bool = True) -> Arrays:
    """Draw segments; queries know one more than keys do, which nobody answers."""
    asking = random.integers(0, 4, (shape.batch, shape.queries))
    looked_at = random.integers(0, 3, (shape.batch, shape.keys))
    asking[:, 0], asking[:, -1] = 0, 3
    pair = [np.sort(each, axis=1) if is_sorted else each for each in (asking, looked_at)]
    return {"asking": pair[0].astype(np.int32), "looked_at": pair[1].astype(np.int32)}


def _segments(arrays: Arrays, **others: Any) -> Arrays:
    return {"segment_ids": (arrays["asking"], arrays["looked_at"]), **others}


def _by_head(name: str) -> Callable[[np.random.Generator, Shape], Arrays]:
    return lambda random, shape: {name: random.uniform(0.02, 0.6, shape.heads)}


def _draw_tables(random: np.random.Generator, shape: Shape) -> Arrays:
    return {
        "by_head": random.uniform(0.5, 1.5, shape.heads), "by_query": random.uniform(0.5, 1.5, shape.queries),
        "by_key": random.uniform(0.5, 1.5, (shape.batch, shape.keys)),
        "by_pair": random.normal(size=(shape.heads, shape.queries + shape.keys)),
    }  # fmt: skip


def _read_tables(arrays: Arrays) -> Arrays:
    shift, read = arrays["query"].shape[1] - 1, _reader(arrays)

    def score_mod(score: Array, batch: Array, head: Array, query: Array, key: Array) -> Array:
        distance = read(score, "by_pair", head, key - query + shift)
        known = read(score, "by_query", query) * read(score, "by_key", batch, key)
        return score * read(score, "by_head", head) + known + distance

    return {"score_mod": score_mod}


def _read_products(arrays: Arrays) -> Arrays:
    """Multiply and divide by what is read: what does not exist must not become NaN on the way back."""
    shift, read = arrays["query"].shape[1] - 1, _reader(arrays)

    def score_mod(score: Array, batch: Array, head: Array, query: Array, key: Array) -> Array:
        scored = score / read(score, "by_key", batch, key) / read(score, "by_query", query)
        return scored * read(score, "by_pair", head, key - query + shift)

    return {"score_mod": score_mod}


def _reader(arrays: Arrays) -> Callable[..., Array]:
    """Return what reads a number of an array in the dtype of a score."""
    return lambda score, name, *places: arrays[name][places].astype(score.dtype)


def _mask_mod(batch: Array, head: Array, query: Array, key: Array) -> Array:
    return (query + key + head) % 3 > 0


ONE = Shape(queries=1)
ROWS = [
    Row("plain"),
    Row("one head a key", shape=Shape(key_heads=4)),
    Row("one key head", lambda _: {"is_causal": True}, shape=Shape(key_heads=1)),
    Row("no key", shape=Shape(keys=0)),
    Row("no batch entry", shape=Shape(batch=0)),
    Row("softcap", lambda _: {"softcap": 1.5}),
    Row("wide softcap", lambda _: {"softcap": 90.0, "scale": 20.0}),
    Row("window of one number", lambda _: {"window": 9}),
    Row("window of a pair", lambda _: {"window": (3, 20)}),
    Row("window to the past", lambda _: {"window": (8, None), "is_causal": True}),
    Row("window to the future", lambda _: {"window": (None, 5)}),
    Row("bias of pairs", lambda a: {"bias": a["bias"]}, bias_of(False, True, True, True)),
    Row("bias of keys", lambda a: {"bias": a["bias"]}, bias_of(True, False, False, True)),
    Row("mask", lambda a: {"mask": a["mask"], "is_causal": True}, draw_mask),
    Row("slopes", lambda a: {"alibi": a["alibi"], "is_causal": True}, _by_head("alibi")),
    Row("sinks", lambda a: {"sinks": a["sinks"], "is_causal": True}, _by_head("sinks")),
    Row("places", lambda a: {"query_offset": a["at"], "is_causal": True, "window": (30, None), "alibi": a["alibi"]},
        lambda random, shape: {"at": np.int32([-3, 8]), **_by_head("alibi")(random, shape)}),
    Row("lengths", lambda a: {"query_lengths": a["asked"], "key_lengths": a["held"]},
        lambda random, shape: {"asked": np.int32([60, 5]), "held": np.int32([0, 40])}),
    Row("sorted segments", lambda a: _segments(a, is_causal=True), draw_segments),
    Row("unsorted segments", _segments, lambda random, shape: draw_segments(random, shape, is_sorted=False)),
    Row("tables", _read_tables, _draw_tables),
    Row("products of tables", _read_products, _draw_tables),
    Row("mask function", lambda _: {"mask_mod": _mask_mod}),
    Row("scale of heads", lambda a: {"scale": a["scale"]}, _by_head("scale")),
    Row("scale of entries and heads", lambda a: {"scale": a["scale"], "softcap": 2.0},
        lambda random, shape: {"scale": random.uniform(0.1, 1, (shape.batch, shape.heads))}),
    *(Row(metric, lambda a, metric=metric: {"metric": metric, "curvature": -0.5, "scale": a["scale"]},
          lambda random, shape: {"scale": random.uniform(0.5, 1, (1,))[0]})
      for metric in ("gauss", "cosine", "hyperbolic", "fidelity", "born", "born_hyperbolic")),
    Row("cosine of a number", lambda _: {"metric": "cosine", "scale": 8.0}),
    Row("fidelity of a number", lambda _: {"metric": "fidelity", "scale": 8.0, "is_causal": True}),
    Row("one query", shape=ONE),
    Row("one query, one head a key", lambda a: {"bias": a["bias"]}, bias_of(True, True, False, True),
        replace(Row(""), shape=ONE._replace(key_heads=4)).shape),
    Row("one query, lengths", lambda a: {"key_lengths": a["held"], "bias": a["bias"]},
        lambda random, shape: {"held": np.int32([7, 40]), **bias_of(True, True, True, True)(random, shape)}, ONE),
    Row("one query, places",
        lambda a: {"query_offset": a["at"], "is_causal": True, "window": 5, "alibi": a["alibi"], "softcap": 3.0},
        lambda random, shape: {"at": np.int32([7, 40]), **_by_head("alibi")(random, shape)}, ONE),
    Row("one query, mask", lambda a: _segments(a, mask=a["mask"]),
        lambda random, shape: {**draw_mask(random, shape), **draw_segments(random, shape)}, ONE),
    Row("one query, tables", _read_tables, _draw_tables, ONE),
    Row("one query, scale of heads", lambda a: {"scale": a["scale"], "sinks": a["scale"]}, _by_head("scale"), ONE),
    Row("one query, many keys", lambda a: {"key_lengths": a["held"], "metric": "cosine", "scale": 3.0},
        lambda random, shape: {"held": np.int32([5, 2050])}, Shape(queries=1, keys=2100), 64),
]  # fmt: skip
