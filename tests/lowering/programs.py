"""JAX programs that several tests import, run and rewrite; each with arguments for JAX's strict promotion rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lowering.graph import Graph
from lowering.stablehlo import import_module

Program = tuple[Callable[..., Any], tuple[Any, ...]]
PROGRAMS: dict[str, Program] = {}


def lowered(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Return the StableHLO module of a jitted function, keeping unused arguments."""
    traced = jax.jit(function, keep_unused=True, **options).trace(*arguments)
    return traced.lower(lowering_platforms=("cpu",)).compiler_ir("stablehlo")


def graph_of(function: Callable[..., Any], *arguments: Any, **options: Any) -> Graph:
    """Return the graph of a jitted function."""
    return import_module(lowered(function, *arguments, **options))


def leaves(arguments: Any) -> list[np.ndarray]:
    """Return the arrays of a tree."""
    return [np.asarray(leaf) for leaf in jax.tree.leaves(arguments)]


def normal(*shape: int, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    """Return seeded normal numbers."""
    return np.asarray(np.random.default_rng(seed).normal(size=shape)).astype(dtype)


def program(*arguments: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Put a function into the table with its arguments."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        PROGRAMS[function.__name__] = (function, arguments)
        return function

    return register


@program(normal(4, 9))
def softmax_gradient(x: Any) -> Any:
    return jax.value_and_grad(lambda v: (jax.nn.softmax(v) ** 2).sum())(x)


def _norm(x: Any, scale: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    return centred * lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * scale[None, :]


@program(normal(5, 8), normal(8, seed=1))
def layer_norm_gradient(x: Any, scale: Any) -> Any:
    return jax.grad(lambda a, b: jnp.sin(_norm(a, b)).sum(), (0, 1))(x, scale)


_WIDTH = 8
_WEIGHTS = {
    "qkv": normal(3, _WIDTH, _WIDTH, seed=1),
    "up": normal(_WIDTH, 2 * _WIDTH, seed=2),
    "down": normal(2 * _WIDTH, _WIDTH, seed=3),
    "embedding": normal(11, _WIDTH, seed=4),
    "scale": normal(_WIDTH, seed=5),
}


@program(_WEIGHTS, np.array([[1, 3, 5, 7, 2, 0], [10, 9, 8, 1, 1, 4]], np.int32))
def transformer_step(weights: Any, tokens: Any) -> Any:
    def loss(w: Any) -> Any:
        x = w["embedding"][tokens[:, :-1]]
        q, k, v = jnp.einsum("btc,hcd->hbtd", _norm2(x, w["scale"]), w["qkv"])
        scores = jnp.einsum("btd,bsd->bts", q, k)
        mask = jnp.tril(jnp.ones((5, 5), bool))[None]
        x = x + jax.nn.softmax(jnp.where(mask, scores, -jnp.inf)) @ v
        x = x + jax.nn.gelu(x @ w["up"]) @ w["down"]
        logits = jax.nn.log_softmax(x @ w["embedding"].T)
        return -jnp.take_along_axis(logits, tokens[:, 1:, None], -1).mean()

    value, gradient = jax.value_and_grad(loss)(weights)
    return value, jax.tree.map(lambda w, g: w - 0.1 * g, weights, gradient)


def _norm2(x: Any, scale: Any) -> Any:
    return x * lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5) * scale[None, None, :]


@program(normal(3, 4), normal(6, 3, seed=1))
def scan_gradient(w: Any, xs: Any) -> Any:
    def run(matrix: Any) -> Any:
        step = lambda c, x: (jnp.tanh(c + x @ matrix), c.sum())  # noqa: E731
        carry, sums = lax.scan(step, jnp.zeros(4), xs)
        return carry.sum() + (sums**2).sum()

    return jax.value_and_grad(run)(w)


@program(normal(5), np.int32(7))
def true_while(x: Any, n: Any) -> Any:
    return lax.while_loop(lambda c: (c[0] < n) & (c[1].sum() < 1e3), lambda c: (c[0] + 1, c[1] * 1.5 + x), (0, x))


@program(normal(4))
def counted_loop(x: Any) -> Any:
    return lax.fori_loop(2, 9, lambda i, c: c.at[i % 4].add(c.sum() * 0.1), x)


@program(normal(4), np.int32(2))
def branches(x: Any, index: Any) -> Any:
    one = lax.switch(index, [jnp.sin, jnp.cos, lambda v: v * x.sum()], x)
    return one, lax.cond(x[0] > 0, lambda: x, lambda: one)


@program(normal(6, 5), np.array([[0, 4], [5, -7], [9, 2]], np.int32))
def gathers(x: Any, i: Any) -> Any:
    return (
        x[i],
        x[i[:, 0], 1:4],
        jnp.take(x, i, axis=1, mode="clip"),
        jnp.take(x, i, axis=0, mode="fill"),
        x[2],
        x[:, 3],
    )


@program(normal(6, 5), np.array([0, 4, 4, -1, 9], np.int32), normal(5, seed=3))
def scatters(x: Any, i: Any, u: Any) -> Any:
    row = x.at[:, 0]
    return (
        x.at[i, 2].add(u),
        x.at[i, 1].mul(u),
        x.at[i].max(u[:, None] * jnp.ones((1, 5))),
        x.at[i, 0].min(u),
        row.set(1.0),
        x.at[2, 3].set(5.0),
        x.at[1:3, 2:4].set(0.5),
        x.at[i[:3], i[:3]].set(u[:3], mode="drop"),
    )


@program(np.array([[3.0, np.nan, 1.0, np.nan], [2.0, 5.0, 5.0, -1.0], [-np.inf] * 4], np.float32))
def extremes(x: Any) -> Any:
    return jnp.argmax(x, 1), jnp.argmin(x, 0), jnp.max(x), jnp.min(x, 1), jnp.argmax(x[1].astype(jnp.int32))


@program(normal(3, 7))
def cumulative(x: Any) -> Any:
    return jnp.cumsum(x, 1), jnp.cumprod(x, 0), lax.cummax(x, 1, reverse=True), lax.cumlogsumexp(x, 1)


@program(normal(3, 4), normal(2, 4, seed=1))
def movements(x: Any, y: Any) -> Any:
    padded = lax.pad(x, jnp.float32(9), ((1, -1, 2), (-1, 2, 0)))
    joined = jnp.concatenate([x, y, x[1:]])
    return (
        padded,
        joined,
        joined[1:4],
        jnp.flip(x),
        x.T.reshape(2, 6),
        jnp.tile(x, (2, 1)),
        jnp.roll(x, 2, 1),
        x[::2, 3:0:-2],
    )


@program(normal(2, 9, 9))
def windows(x: Any) -> Any:
    image = x[..., None]
    total = lax.reduce_window(image, jnp.float32(0), lax.add, (1, 3, 2, 1), (1, 2, 1, 1), "SAME")
    return total, lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 3), (1, 1, 2), "VALID", window_dilation=(1, 2, 1))


@program(np.uint32(42))
def random_numbers(seed: Any) -> Any:
    key, other = jax.random.split(jax.random.key(seed))
    return jax.random.normal(key, (5, 3)), jax.random.randint(other, (7,), -5, 90), jax.random.bits(key, (3,))


@program(normal(4, 4), normal(4, 4, seed=1))
def complex_numbers(a: Any, b: Any) -> Any:
    z = lax.complex(a, b)
    return jnp.exp(z), z @ z.conj().T, jnp.abs(z), z * (1 - 2j), jnp.sqrt(z), (z / (z + 3.0)).imag, jnp.sum(z)


@program(normal(2, 3, 4), normal(4, 3, 5, seed=1))
def products(a: Any, b: Any) -> Any:
    halves = a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)
    return (
        jnp.einsum("ijk,kjl->jil", a, b),
        jnp.einsum("ijk,kjl->il", a, b),
        jnp.einsum("ijk,kjl->ikjl", a, b),
        lax.dot_general(*halves, (((2,), (0,)), ((1,), (1,))), preferred_element_type=jnp.float32),
        jnp.dot(a[0, 0].astype(jnp.int32), b[:, 0].astype(jnp.int32)),
    )


@program(normal(3, 0), normal(0, 4, seed=1), normal(5, seed=2))
def without_elements(a: Any, b: Any, c: Any) -> Any:
    return a @ b, a.sum(1), jnp.concatenate([c, b[:, 0]]), jnp.pad(a, ((0, 0), (1, 1))), c[:0] + 1.0


@program(normal(4, 6))
def general_reductions(x: Any) -> Any:
    def pair(left: Any, right: Any) -> Any:
        return left[0] + right[0], jnp.maximum(left[1], right[1])

    return lax.reduce((x, x * x), (jnp.float32(0), jnp.float32(-1)), pair, (1,)), jnp.all(x > -9), jnp.any(x > 3, 0)
