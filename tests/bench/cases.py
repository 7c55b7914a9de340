"""The timed functions: their inputs, what any implementation must move and compute, and how far rounding may carry."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lowering import dtypes

MEMORY, MATRIX = "memory", "matmul"


@dataclass(frozen=True, slots=True)
class Case:
    """One function at one size.

    Attributes:
        name: as the command line and the record call it.
        group: `MEMORY` or `MATRIX`: what limits it, and so what its roof is.
        function: from arrays to an array or a tuple of arrays; it must accept f64 as well, for its reference.
        inputs: (dtype, shape) of each argument, dtypes in the compiler's names.
        operations: multiplications and additions, 0 where memory is the limit.
        roundings: roundings of one result that two good implementations may differ by.
        depths: terms of the longest sum into an element of each result; the last number holds for the rest.
        terms: magnitude of what is added up; 0 takes that of the result's row.
    """

    name: str
    group: str
    function: Callable[..., Any]
    inputs: tuple[tuple[str, tuple[int, ...]], ...]
    operations: int = 0
    roundings: float = 8.0
    depths: tuple[int, ...] = (1,)
    terms: float = 0.0

    def arrays(self, seed: int) -> list[np.ndarray]:
        """Draw normal inputs; the same seed gives the same numbers in every process."""
        generator = np.random.default_rng([seed, *self.name.encode()])
        return [
            generator.standard_normal(shape, dtype=np.float32).astype(dtypes.NUMPY[dtype], copy=False)
            for dtype, shape in self.inputs
        ]

    def depth_of(self, position: int) -> int:
        """Return the depth of a result."""
        return self.depths[min(position, len(self.depths) - 1)]

    def structures(self) -> list[jax.ShapeDtypeStruct]:
        """Return what the function is lowered for."""
        return [jax.ShapeDtypeStruct(shape, dtypes.NUMPY[dtype]) for dtype, shape in self.inputs]

    def moved_bytes(self) -> int:
        """Count what any implementation moves: every argument is read once and every result written once."""
        results = jax.tree.leaves(jax.eval_shape(self.function, *self.structures()))
        return sum(math.prod(item.shape) * item.dtype.itemsize for item in (*self.structures(), *results))


# --- functions --------------------------------------------------------------------------------------------------------


def chain(x: Any) -> Any:
    """Compute a dozen elementwise operations, three of them elementary functions."""
    return jnp.tanh(x * 1.5 + 0.25) * jax.nn.sigmoid(x) - jnp.exp(-jnp.square(x))


def softmax(x: Any) -> Any:
    """Normalise rows to probabilities."""
    return jax.nn.softmax(x, axis=-1)


def softmax_gradient(x: Any, cotangent: Any) -> Any:
    """Pull a cotangent back through softmax, which is computed again."""
    return jax.vjp(softmax, x)[1](cotangent)[0]


def layer_norm(x: Any, gain: Any, bias: Any) -> Any:
    """Normalise rows to mean 0 and variance 1, then scale and shift."""
    centred = x - x.mean(-1, keepdims=True)
    variance = jnp.square(centred).mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + 1e-5) * gain[None, :] + bias[None, :]


def layer_norm_gradient(x: Any, gain: Any, cotangent: Any) -> Any:
    """Pull a cotangent back through LayerNorm to its input, gain and bias, whose value does not matter."""
    return jax.vjp(layer_norm, x, gain, jnp.zeros_like(gain))[1](cotangent)


def transposed(x: Any) -> Any:
    """Turn a matrix around."""
    return jnp.swapaxes(x, 0, 1)


def product(equation: str) -> Callable[..., Any]:
    """Return the contraction, in full precision: no part of f32 may be dropped."""
    return lambda left, right: jnp.einsum(equation, left, right, precision=jax.lax.Precision.HIGHEST)


def feed_in(x: Any, weight: Any, bias: Any) -> Any:
    """Compute the first half of a feed-forward layer: product, bias, GELU."""
    return jax.nn.gelu(x @ weight + bias[None, :])


# --- the table --------------------------------------------------------------------------------------------------------


def all_cases(*, is_quick: bool) -> dict[str, Case]:
    """Return the cases by name, the most telling first; quick ones are small enough for a software driver."""
    listed = [*_memory_cases(1 << 18 if is_quick else 1 << 26), *_matrix_cases(16 if is_quick else 1)]
    return {case.name: case for case in listed}


def _memory_cases(elements: int) -> list[Case]:
    cases = [Case("chain", MEMORY, chain, (("f32", (elements,)),), terms=1.0)]
    for width in (1024, 4096):
        shape = (elements // width, width)
        x, row = ("f32", shape), ("f32", (width,))
        deep, tall = {"depths": (width,), "terms": 4.0}, {"depths": (width, shape[0]), "terms": 4.0}
        cases += [
            Case(f"softmax_{width}", MEMORY, softmax, (x,), depths=(width,)),
            Case(f"layer_norm_{width}", MEMORY, layer_norm, (x, row, row), **deep),
            Case(f"layer_norm_gradient_{width}", MEMORY, layer_norm_gradient, (x, row, x), **tall),
            Case(f"softmax_gradient_{width}", MEMORY, softmax_gradient, (x, x), depths=(width,)),
        ]
    side = math.isqrt(elements)
    square = ("f32", (side, side))
    return [
        *cases,
        Case("sum_columns", MEMORY, lambda x: x.sum(0), (square,), depths=(side,), terms=4.0),
        Case("sum_rows", MEMORY, lambda x: x.sum(1), (square,), depths=(side,), terms=4.0),
        Case("sum_all", MEMORY, jnp.sum, (("f32", (elements,)),), depths=(elements,), terms=4.0),
        Case("transpose", MEMORY, transposed, (square,), roundings=0.0),
    ]


def _matrix_cases(divisor: int) -> list[Case]:
    def size(extent: int) -> int:
        return max(extent // divisor, 8) if extent > 64 else extent

    def matrix(name: str, equation: str, dtype: str, **extents: int) -> Case:
        sizes = {letter: size(extent) for letter, extent in extents.items()}
        left, right = equation.partition("->")[0].split(",")
        shapes = tuple((dtype, tuple(sizes[letter] for letter in side)) for side in (left, right))
        depth = math.prod(sizes[letter] for letter in set(left) & set(right) - set(equation.partition("->")[2]))
        return Case(name, MATRIX, product(equation), shapes, 2 * math.prod(sizes.values()), 4.0, (depth,))

    tokens, width, hidden = size(16384), size(768), size(3072)
    feed = (("f16", (tokens, width)), ("f16", (width, hidden)), ("f16", (hidden,)))
    # Of one size in quick and full runs: what drivers of processors are compared by.
    square = (("f32", (1024, 1024)),) * 2
    return [
        matrix("matmul_f16", "ij,jk->ik", "f16", i=4096, j=4096, k=4096),
        matrix("matmul_f32", "ij,jk->ik", "f32", i=4096, j=4096, k=4096),
        matrix("matmul_bf16", "ij,jk->ik", "bf16", i=4096, j=4096, k=4096),
        Case("feed_in_f16", MATRIX, feed_in, feed, 2 * tokens * width * hidden, 8.0, (width,)),
        matrix("feed_out_f16", "ij,jk->ik", "f16", i=16384, j=3072, k=768),
        matrix("feed_out_f32", "ij,jk->ik", "f32", i=16384, j=3072, k=768),
        matrix("weight_gradient_f16", "ji,jk->ik", "f16", i=768, j=16384, k=3072),
        matrix("weight_gradient_f32", "ji,jk->ik", "f32", i=768, j=16384, k=3072),
        matrix("input_gradient_f16", "ij,kj->ik", "f16", i=16384, j=3072, k=768),
        matrix("scores_f16", "bqd,bkd->bqk", "f16", b=96, q=1024, k=1024, d=64),
        matrix("mix_f16", "bqk,bkd->bqd", "f16", b=96, q=1024, k=1024, d=64),
        Case("square_f32", MATRIX, product("ij,jk->ik"), square, 2 * 1024**3, 4.0, (1024,)),
        matrix("decode_f16", "ij,jk->ik", "f16", i=8, j=4096, k=16384),
        matrix("vector_f32", "ij,jk->ik", "f32", i=1, j=4096, k=16384),
    ]
