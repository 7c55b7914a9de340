"""jax.numpy and jax.numpy.linalg: products, norms, moves, searches, counts; what needs no factorisation."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from .case import Program, normal


def _norms(a: Any, b: Any) -> Any:
    norm = jnp.linalg.norm
    return {
        "norms": [norm(a, order) for order in (None, "fro", 1, -1, jnp.inf, -jnp.inf)],
        "vectors": [norm(a, order, axis=1) for order in (0, 1, 2, 3, jnp.inf)],
        "determinants": (jnp.linalg.det(a[:2, :2]), jnp.linalg.det(a[:3, :3])),
        "power": jnp.linalg.matrix_power(a[:5, :5] / 3, 5),
        "cross": jnp.linalg.cross(a[:, :3], b[:, :3]),
        "chain": jnp.linalg.multi_dot([a, b.T, a, b.T]),
        "vecdot": jnp.linalg.vecdot(a, b),
        "trace": (jnp.linalg.trace(a), jnp.linalg.diagonal(a, offset=1)),
        "gradient": jax.grad(lambda x: norm(x @ b.T))(a),
    }


def _products(a: Any, b: Any) -> Any:
    return {
        "einsum": jnp.einsum("ij,kj,kl,im->lm", a, b, b, a),
        "ellipsis": jnp.einsum("...i,...i->...", a, b),
        "inner": jnp.inner(a, b),
        "kron": jnp.kron(a[:2], b[:3]),
        "outer": jnp.outer(a[0], b[0]),
        "tensordot": jnp.tensordot(a, b, axes=((0, 1), (0, 1))),
        "halves": a.astype("bfloat16") @ b.astype("bfloat16").T,
        "integers": (a * 9).astype("int8") @ (b * 9).astype("int8").T,
        "complex": (a + 1j * b) @ (b - 1j * a).T,
        "vander": jnp.vander(a[0], 4),
    }


def _moves(x: Any) -> Any:
    rows = jnp.array([4, -1, 0, 2])
    return {
        "gather": x[rows, :3],
        "mask": jnp.where(x > 0, x, -jnp.inf),
        "paste": x.at[rows].set(0).at[:, 1].multiply(3).at[0, ::2].max(1.0),
        "pad": [jnp.pad(x, 2, mode=mode) for mode in ("constant", "reflect", "edge", "wrap", "symmetric")],
        "repeat": (jnp.repeat(x, 3, axis=1), jnp.tile(x, (2, 2)), jnp.roll(x, 2, 1)),
        "split": jnp.array_split(x, 3, axis=1),
        "stack": jnp.stack([x, x[::-1], jnp.flip(x, 1)], axis=1),
        "take": jnp.take_along_axis(x, jnp.argmax(x, axis=1, keepdims=True), axis=1),
        "triangle": (jnp.tril(x), jnp.triu(x, 1), jnp.diag(x[:, 0])),
        "windows": jax.vmap(lambda i: jax.lax.dynamic_slice(x, (i, i), (2, 2)))(jnp.arange(4)),
        "bits": (jnp.packbits(x > 0), jnp.unpackbits((jnp.abs(x) * 50).astype("uint8"))),
        "swap": jnp.moveaxis(x.reshape(2, 3, 7), 0, 2).swapaxes(0, 1).ravel(),
    }


def _counts(x: Any) -> Any:
    whole = (x * 3).astype(jnp.int32)
    edges = jnp.linspace(-2, 2, 9)
    return {
        "bincount": jnp.bincount(whole.ravel() % 7, length=7),
        "digitize": jnp.digitize(x, edges),
        "extremes": (jnp.argmin(x, 0), jnp.nanargmax(x, 1), jnp.ptp(x, 0)),
        "histogram": jnp.histogram(x, edges)[0],
        "interpolate": jnp.interp(x, edges, edges**2),
        "nonzero": jnp.nonzero(x > 1, size=20, fill_value=-1),
        "search": [jnp.searchsorted(edges, x, method=method) for method in ("scan", "compare_all")],
        "segments": jax.ops.segment_sum(x.ravel(), whole.ravel() % 5, 5),
        "extreme_segments": jax.ops.segment_max(x.ravel(), whole.ravel() % 5, 5),
    }


def _statistics(x: Any) -> Any:
    return {
        "moments": (x.mean(0), x.std(1, ddof=1), jnp.var(x), jnp.average(x, weights=jnp.abs(x))),
        "correlation": (jnp.cov(x), jnp.corrcoef(x)),
        "differences": (jnp.diff(x, 2), *jnp.gradient(x), jnp.ediff1d(x)),
        "cumulative": (jnp.cumsum(x, 1), jnp.cumprod(x / 2, 0), jax.lax.cummax(x, 1), jax.lax.cumlogsumexp(x, 0)),
        "missing": (jnp.nanmean(jnp.where(x > 0, x, jnp.nan), 1), jnp.nansum(jnp.where(x > 0, x, jnp.nan))),
        "trapezoid": jnp.trapezoid(x),
        "polynomials": (jnp.polyval(x[0], x), jnp.polyder(x[1]), jnp.polyint(x[2])),
    }


def _whole_numbers(x: Any, y: Any) -> Any:
    small, unsigned = x.astype(jnp.int8), x.astype(jnp.uint16)
    return {
        "division": (x // y, x % y, jnp.fmod(x, y), *jnp.divmod(x, y)),
        "common": (jnp.gcd(x, y), jnp.lcm(x % 50, y)),
        "bits": (x & y, x ^ y, ~x, x << 3, unsigned >> 2, jnp.bitwise_count(x)),
        "wrapping": (small * small, unsigned - unsigned[::-1], small.sum(dtype=jnp.int8)),
        "powers": x % 7 ** (y % 3),
        "logic": (jnp.all(x > y), jnp.any(x == y), jnp.logical_xor(x > 0, y > 5)),
    }


def _floats(x: Any) -> Any:
    return {
        "parts": (*jnp.frexp(x), *jnp.modf(x), jnp.ldexp(x, jnp.arange(7) - 3)),
        "rounding": (jnp.round(x, 1), jnp.rint(x), jnp.trunc(x), jnp.ceil(x), jnp.floor_divide(x, 0.7)),
        "functions": (jnp.hypot(x, 2.0), jnp.cbrt(x), jnp.exp2(x), jnp.log2(jnp.abs(x)), jnp.arctan2(x, -x[::-1])),
        "neighbours": jnp.nextafter(x, jnp.zeros_like(x)),
        "powers": (jnp.abs(x) ** 2.5, x**-3, jnp.sqrt(jnp.abs(x)), jnp.prod(x, 1)),
        "signs": (jnp.copysign(2.0, x), jnp.signbit(x), jnp.heaviside(x, 0.5)),
        "closeness": (jnp.isclose(x, x + 1e-7), jnp.allclose(x, x), jnp.nan_to_num(x / jnp.where(x > 0, 1, 0))),
        "sums": (jnp.logaddexp(x, 0.3), jnp.sinc(x), jnp.unwrap(x * 4), jnp.float_power(jnp.abs(x), 1.7)),
    }


def _activations(x: Any) -> Any:
    names = (
        "celu elu gelu glu hard_sigmoid hard_swish hard_tanh leaky_relu log_sigmoid log_softmax mish relu relu6 selu "
        "sigmoid silu soft_sign softmax softplus sparse_plus sparse_sigmoid squareplus standardize"
    ).split()
    functions = [getattr(jax.nn, name) for name in names]
    return {
        name: (function(x), jax.grad(lambda v, f=function: jnp.square(f(v)).sum())(x))
        for name, function in zip(names, functions, strict=True)
    } | {"one_hot": jax.nn.one_hot(jnp.argmax(x, 1), 8), "attention": _attention(x)}


def _attention(x: Any) -> Any:
    heads = x.reshape(1, 6, 2, 4)
    return jax.nn.dot_product_attention(heads, heads[:, ::-1], heads * 2, is_causal=True)


PROGRAMS = [
    Program("linalg_norms", _norms, (normal(6, 7), normal(6, 7, seed=1)), depth=2048),
    Program("numpy_products", _products, (normal(6, 7), normal(6, 7, seed=1)), depth=256),
    Program("numpy_moves", _moves, (normal(6, 7),)),
    Program("numpy_counts", _counts, (normal(6, 7),), depth=42),
    Program("numpy_statistics", _statistics, (normal(6, 7),), depth=64),
    Program("numpy_whole_numbers", _whole_numbers, (jnp.arange(-70, 70, 3), jnp.arange(47) % 9 + 1)),
    Program("numpy_floats", _floats, (normal(6, 7),)),
    Program("nn_activations", _activations, (normal(6, 8),), depth=16),
]
