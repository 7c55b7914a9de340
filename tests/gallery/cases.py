"""The kernels of docs/gallery as a table: how each is called, on which numbers, how far it may be from the truth."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from hypothesis import strategies as st

from docs.gallery import (
    attention,
    cross_entropy,
    grouped_matmul,
    histogram,
    layer_norm,
    matmul,
    prefix_sum,
    rope,
    softmax,
    stencil,
    top_k,
    vector_add,
)
from tests.conformance.tolerance import Bound

Sizes = Mapping[str, int]
Arrays = tuple[np.ndarray, ...]
TILE = 8
SIZES = {"one": 1, "tile-1": TILE - 1, "tile": TILE, "tile+1": TILE + 1, "prime": 19}
FLOATS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Row:
    """One kernel.

    Args:
        draw: arrays of given sizes: (random, sizes, tiles, dtype) -> arrays.
        tiles: the axes that are cut, with the option that says into what.
        sizes: the axes that are not cut, with their sizes.
        depth: the longest sum, by sizes.
        roundings: c of the tolerance: roundings of one step of the sum, on one side.
        scale: size of the largest term or intermediate, where the result may be smaller.
        options: what function and reference both take, by sizes and tiles.
        gradients: positions of the arrays that have a gradient.
    """

    name: str
    function: Callable[..., Any]
    reference: Callable[..., Any]
    draw: Callable[[np.random.Generator, Sizes, Sizes, str], Arrays]
    tiles: Mapping[str, str]
    sizes: Sizes = field(default_factory=dict)
    depth: Callable[[Sizes], int] = lambda sizes: 1
    roundings: float = 2
    scale: Callable[[Sizes], float] = lambda sizes: 1.0
    options: Callable[[Sizes, Sizes], dict[str, Any]] = lambda sizes, tiles: {}
    dtypes: tuple[str, ...] = FLOATS
    gradients: tuple[int, ...] = ()


@dataclass(frozen=True)
class Case:
    """A row at given sizes: ready to call."""

    row: Row
    arrays: Arrays
    sizes: Sizes
    tiles: Sizes

    def function(self, *, interpret: bool) -> Callable[..., Any]:
        """Return the kernel as a function of the arrays alone."""
        blocks = {self.row.tiles[axis]: tile for axis, tile in self.tiles.items()}
        return functools.partial(self.row.function, **(blocks | self.options), interpret=interpret)

    def reference(self) -> Callable[..., Any]:
        """Return the reference as a function of the arrays alone."""
        return functools.partial(self.row.reference, **self.options)

    def bound(self) -> Bound:
        """Return the tolerance of results and of gradients."""
        return Bound(self.row.roundings, self.row.depth(self.sizes), floor=self.row.scale(self.sizes))

    @property
    def options(self) -> dict[str, Any]:
        """Return the options that kernel and reference share."""
        return self.row.options(self.sizes, self.tiles)


def make(row: Row, cut: Sizes, tiles: Sizes, *, dtype: str, seed: int = 0) -> Case:
    """Draw a row's arrays; ``cut`` has a size and ``tiles`` a block for each axis of ``row.tiles``."""
    sizes = dict(row.sizes) | dict(cut)
    arrays = row.draw(np.random.default_rng([seed, *sizes.values()]), sizes, tiles, dtype)
    return Case(row, arrays, sizes, tiles)


def at(name: str, size: int) -> Case:
    """Draw a row's arrays with every cut axis of one size, in tiles of ``TILE`` and the row's first dtype."""
    row = BY_NAME[name]
    return make(row, dict.fromkeys(row.tiles, size), dict.fromkeys(row.tiles, TILE), dtype=row.dtypes[0])


@st.composite
def cases(draw: st.DrawFn, row: Row) -> Case:
    """Draw a size and a tile for each axis that is cut, a dtype and numbers."""
    cut = {axis: draw(st.integers(1, 23)) for axis in row.tiles}
    tiles = {axis: draw(st.sampled_from([2, 3, 5, 16])) for axis in row.tiles}
    return make(row, cut, tiles, dtype=draw(st.sampled_from(row.dtypes)), seed=draw(st.integers(0, 2**16)))


def normal(random: np.random.Generator, dtype: str, *shape: int) -> np.ndarray:
    """Return normal numbers, cut off at three so that the terms of sums have a scale."""
    return np.clip(random.normal(size=shape), -3, 3).astype(jax.numpy.dtype(dtype))


def shaped(*shapes: str) -> Callable[[np.random.Generator, Sizes, Sizes, str], Arrays]:
    """Return a function that draws normal numbers of shapes written as axes, such as ``"rows depth"``."""

    def draw(random: np.random.Generator, sizes: Sizes, tiles: Sizes, dtype: str) -> Arrays:
        return tuple(normal(random, dtype, *(sizes[axis] for axis in shape.split())) for shape in shapes)

    return draw


def _tokens(random: np.random.Generator, sizes: Sizes, tiles: Sizes, dtype: str) -> Arrays:
    hidden, output = shaped("tokens width", "width vocabulary")(random, sizes, tiles, dtype)
    targets = random.integers(sizes["vocabulary"], size=sizes["tokens"], dtype=np.int32)
    return hidden, output, targets


def _positions(random: np.random.Generator, sizes: Sizes, tiles: Sizes, dtype: str) -> Arrays:
    x = normal(random, dtype, sizes["heads"], sizes["positions"], 2 * sizes["pairs"])
    return x, np.arange(sizes["positions"], dtype=np.int32)


def _experts(random: np.random.Generator, sizes: Sizes, tiles: Sizes, dtype: str) -> Arrays:
    x, matrices = shaped("rows depth", "groups depth columns")(random, sizes, tiles, dtype)
    groups = random.integers(sizes["groups"], size=-(-sizes["rows"] // tiles["rows"]), dtype=np.int32)
    return x, matrices, groups


def _repeated(random: np.random.Generator, sizes: Sizes, tiles: Sizes, dtype: str) -> Arrays:
    """Return rows with ties and with the smallest value of all, minus infinity, and one zero only."""
    x = np.round(2 * random.normal(size=(sizes["rows"], sizes["columns"]))) + 0.0
    return (np.where(x < -3, -np.inf, x).astype(jax.numpy.dtype(dtype)),)


def _integers(random: np.random.Generator, sizes: Sizes, tiles: Sizes, dtype: str) -> Arrays:
    """Return values of which some are outside the bins."""
    return (random.integers(-1, sizes["bins"] + 1, size=sizes["n"], dtype=np.int32),)


def _numbers(random: np.random.Generator, sizes: Sizes, tiles: Sizes, dtype: str) -> Arrays:
    if dtype == "int32":
        return (random.integers(-(2**31), 2**31, size=sizes["n"]).astype(np.int32),)
    return (normal(random, dtype, sizes["n"]),)


MATMUL = {
    "reference": matmul.reference,
    "draw": shaped("rows depth", "depth columns"),
    "tiles": {"rows": "block_rows", "columns": "block_columns", "depth": "block_depth"},
    "depth": lambda sizes: max(sizes.values()),
    "scale": lambda sizes: 9.0,
    "gradients": (0, 1),
}
ATTENTION = {
    "function": attention.attention,
    "reference": attention.reference,
    "draw": shaped("heads queries width", "heads keys width", "heads keys channels"),
    "tiles": {"queries": "block_queries", "keys": "block_keys"},
    "sizes": {"heads": 2, "width": 5, "channels": 3},
    "depth": lambda sizes: max(sizes.values()),
    # A score is a sum of `width` products, and exp turns its error into one of the weight.
    "roundings": 4,
    "scale": lambda sizes: 3.0,
    "gradients": (0, 1, 2),
}
ROWS: tuple[Row, ...] = (
    Row("vector_add", vector_add.vector_add, vector_add.reference, shaped("n", "n"), {"n": "block"}, roundings=1),
    Row("softmax", softmax.softmax, softmax.reference, shaped("rows columns"), {"rows": "block_rows"},
        {"columns": 7}, depth=lambda sizes: sizes["columns"], gradients=(0,)),
    Row("layer_norm", layer_norm.layer_norm, layer_norm.reference, shaped("rows columns", "columns", "columns"),
        {"rows": "block_rows"}, {"columns": 7}, depth=lambda sizes: max(sizes.values()), scale=lambda sizes: 9.0,
        options=lambda sizes, tiles: {"eps": 1e-3}, gradients=(0, 1, 2)),
    Row("matmul", matmul.matmul, **MATMUL),
    Row("matmul_inside", matmul.matmul_inside, **MATMUL),
    Row("attention", **ATTENTION),
    Row("attention_causal", **ATTENTION, options=lambda sizes, tiles: {"is_causal": True}),
    Row("cross_entropy", cross_entropy.cross_entropy, cross_entropy.reference, _tokens,
        {"tokens": "block_tokens", "vocabulary": "block_vocabulary"}, {"width": 5},
        depth=lambda sizes: max(sizes.values()), roundings=4, scale=lambda sizes: 9.0, gradients=(0, 1)),
    Row("top_k", top_k.top_k, top_k.reference, _repeated, {"rows": "block_rows"}, {"columns": 11}, roundings=0,
        options=lambda sizes, tiles: {"k": 5}, gradients=(0,)),
    # An angle is the product of a position and a rounded frequency: it errs by eps times itself.
    Row("rope", rope.rope, rope.reference, _positions, {"positions": "block_positions"}, {"heads": 2, "pairs": 3},
        scale=lambda sizes: 1.0 * sizes["positions"], gradients=(0,)),
    Row("grouped_matmul", grouped_matmul.grouped_matmul, grouped_matmul.reference, _experts,
        {"rows": "block_rows", "columns": "block_columns"}, {"depth": 5, "groups": 3},
        depth=lambda sizes: max(sizes.values()), scale=lambda sizes: 9.0,
        options=lambda sizes, tiles: {"block_rows": tiles["rows"]}, gradients=(0, 1)),
    Row("stencil", stencil.stencil, stencil.reference, shaped("rows columns"),
        {"rows": "block_rows", "columns": "block_columns"}, depth=lambda sizes: 5,
        options=lambda sizes, tiles: {"rate": 0.2}, gradients=(0,)),
    Row("histogram", histogram.histogram, histogram.reference, _integers, {"n": "block", "bins": "block_bins"},
        options=lambda sizes, tiles: {"bins": sizes["bins"]}, dtypes=("int32",)),
    Row("prefix_sum", prefix_sum.prefix_sum, prefix_sum.reference, _numbers, {"n": "block"},
        depth=lambda sizes: sizes["n"], dtypes=("float32", "bfloat16", "int32"), gradients=(0,)),
)  # fmt: skip
BY_NAME = {row.name: row for row in ROWS}
WITH_GRADIENT = [row.name for row in ROWS if row.gradients]
