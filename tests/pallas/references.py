"""What public kernels compute, in plain JAX and NumPy, for arrays of any float dtype."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

PHILOX_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
PHILOX_STEPS = (0x9E3779B9, 0xBB67AE85)
PHILOX_ROUNDS = 10


def attention(
    queries: Array,
    keys: Array,
    values: Array,
    *,
    mask: Array | None = None,
    scale: float = 1.0,
    bias: Array | None = None,
) -> Array:
    """Mix values by the softmax of scores; arrays are [..., rows, width], mask and bias [..., queries, keys]."""
    scores = queries @ jnp.swapaxes(keys, -1, -2)
    scores = scale * (scores if bias is None else scores + bias)
    scores = scores if mask is None else jnp.where(mask, scores, -jnp.inf)
    return jax.nn.softmax(scores, axis=-1) @ values


def causal(queries: int, keys: int) -> Array:
    """Return the mask that lets query i see keys 0 to i."""
    return jnp.tril(jnp.ones((queries, keys), bool))


def heads_first(*arrays: Array) -> tuple[Array, ...]:
    """Return [batch, rows, heads, width] arrays as [batch, heads, rows, width]."""
    return tuple(jnp.swapaxes(array, 1, 2) for array in arrays)


def layer_norm(x: Array, scale: Array, shift: Array) -> Array:
    """Normalise the last axis of [batch, rows, width]."""
    centred = x - x.mean(axis=-1, keepdims=True)
    return rms_norm(centred, scale, shift)


def rms_norm(x: Array, scale: Array, shift: Array) -> Array:
    """Divide the last axis of [batch, rows, width] by its root mean square."""
    return x / jnp.sqrt(jnp.square(x).mean(axis=-1, keepdims=True) + 1e-5) * scale[None, None] + shift[None, None]


def grouped_matmul(x: Array, matrices: Array, sizes: tuple[int, ...]) -> Array:
    """Multiply consecutive runs of rows, of given sizes, by one matrix each."""
    ends = np.cumsum(sizes)
    return jnp.concatenate(
        [x[end - size : end] @ matrix for end, size, matrix in zip(ends, sizes, matrices, strict=True)]
    )


def grouped_outer(x: Array, y: Array, sizes: tuple[int, ...]) -> Array:
    """Multiply consecutive runs of columns of x by those rows of y."""
    ends = np.cumsum(sizes)
    return jnp.stack([x[:, end - size : end] @ y[end - size : end] for end, size in zip(ends, sizes, strict=True)])


def philox_bits(key: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return bits of Philox 4x32-10, the two first words of each count xored, as the kernel defines them."""
    count = np.arange(np.prod(shape), dtype=np.uint64).reshape(shape)
    words = [np.zeros_like(count), count, np.zeros_like(count), np.zeros_like(count)]
    keys = [np.uint64(key[0]), np.uint64(key[1])]
    low = np.uint64(0xFFFFFFFF)
    for _ in range(PHILOX_ROUNDS):
        first, second = (words[2 * i] * np.uint64(PHILOX_MULTIPLIERS[i]) for i in range(2))
        words = [
            (second >> np.uint64(32)) ^ words[1] ^ keys[0],
            second & low,
            (first >> np.uint64(32)) ^ words[3] ^ keys[1],
            first & low,
        ]
        keys = [(key + np.uint64(step)) & low for key, step in zip(keys, PHILOX_STEPS, strict=True)]
    return (words[0] ^ words[1]).astype(np.uint32)
