"""The cases of `qga bench`: a function, its inputs, and what it must at least move and compute."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True, slots=True)
class Case:
    """One benchmark.

    Attributes:
        summary: what it is, for `--help`.
        function: the program, jitted by the runner.
        shapes: f32 inputs at scale 1; the leading axis grows with the scale.
        scaled: which axes of each input grow, all by the same factor.
        passes: arrays read and written at least once, in units of the first input; 0 where bytes say nothing.
        flops: floating-point operations at a list of shapes; None where they say nothing.
    """

    summary: str
    function: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    scaled: tuple[tuple[int, ...], ...]
    passes: int = 0
    flops: Callable[..., int] | None = None

    def shapes_at(self, scale: int) -> list[tuple[int, ...]]:
        """Return the shapes of the inputs at a scale."""
        return [
            tuple(extent * scale if axis in axes else extent for axis, extent in enumerate(shape))
            for shape, axes in zip(self.shapes, self.scaled, strict=True)
        ]

    def inputs(self, scale: int) -> list[np.ndarray]:
        """Return the same random inputs every time."""
        generator = np.random.default_rng(0)
        return [generator.standard_normal(shape, dtype=np.float32) for shape in self.shapes_at(scale)]

    def size_text(self, scale: int) -> str:
        """Return the size as the table shows it."""
        return " ".join("x".join(map(str, shape)) or "1" for shape in dict.fromkeys(self.shapes_at(scale)))

    def moved_bytes(self, scale: int) -> int:
        """Return the bytes that any implementation reads and writes; 0 where that is not what limits the case."""
        return 4 * self.passes * math.prod(self.shapes_at(scale)[0])

    def operations(self, scale: int) -> int:
        """Return the floating-point operations of the textbook formula; 0 where they are not what limits the case."""
        return 0 if self.flops is None else self.flops(*self.shapes_at(scale))


def _chain(x: jax.Array) -> jax.Array:
    return jnp.tanh(x * 1.5 + 0.25) * jax.nn.sigmoid(x) - jnp.exp(-jnp.square(x))


def _layer_norm(x: jax.Array) -> jax.Array:
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + 1e-5)


def _softmax_gradient(x: jax.Array) -> jax.Array:
    return jax.grad(lambda x: jnp.square(jax.nn.softmax(x, -1)).sum())(x)


def _attention(queries: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
    scores = jnp.einsum("bqd,bkd->bqk", queries, keys) / math.sqrt(queries.shape[-1])
    return jnp.einsum("bqk,bkd->bqd", jax.nn.softmax(scores, -1), values)


def _scan(x: jax.Array) -> jax.Array:
    return jax.lax.scan(lambda carry, _: (jnp.sin(carry) + 0.5 * carry, None), x, None, length=64)[0]


CASES: dict[str, Case] = {
    "dispatch": Case("one tiny addition: the cost of a call", lambda x: x + 1, ((8,),), ((),)),
    "chain": Case("fused elementwise chain", _chain, ((1 << 20,),), ((0,),), passes=2),
    "softmax": Case("softmax of rows", lambda x: jax.nn.softmax(x, -1), ((1024, 1024),), ((0,),), passes=2),
    "softmax_vjp": Case("gradient through a softmax", _softmax_gradient, ((1024, 1024),), ((0,),), passes=2),
    "layer_norm": Case("layer normalisation of rows", _layer_norm, ((1024, 1024),), ((0,),), passes=2),
    "sum": Case("sum of a whole array", jnp.sum, ((1 << 20,),), ((0,),), passes=1),
    "transpose": Case("transpose of a matrix", lambda x: x.T + 0, ((1024, 1024),), ((0, 1),), passes=2),
    "matmul": Case(
        "matrix product, f32", jnp.matmul, ((512, 512), (512, 512)), ((0, 1), (0, 1)),
        flops=lambda left, right: 2 * left[0] * left[1] * right[1],
    ),
    "attention": Case(
        "softmax attention, textbook formula", _attention, ((4, 256, 64),) * 3, ((1,),) * 3,
        flops=lambda queries, keys, values: 4 * queries[0] * queries[1] * keys[1] * queries[2],
    ),
    "scan": Case("64 dependent steps over a vector", _scan, ((4096,),), ((0,),)),
}  # fmt: skip
