"""Layers and losses whose number of kernels and of passes over memory is a promise."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from .case import Case, integers, normal

ROWS, WIDTH = 64, 48


def softmax(x: Any) -> Any:
    return jax.nn.softmax(x)


def softmax_gradient(x: Any, cotangent: Any) -> Any:
    return jax.vjp(softmax, x)[1](cotangent)[0]


def layer_norm(x: Any, scale: Any, shift: Any) -> Any:
    mean = x.mean(-1, keepdims=True)
    centred = x - mean
    return centred * lax.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-5) * scale[None, :] + shift[None, :]


def layer_norm_gradient(x: Any, scale: Any, shift: Any, cotangent: Any) -> Any:
    return jax.vjp(layer_norm, x, scale, shift)[1](cotangent)


def rms_norm(x: Any, scale: Any) -> Any:
    return x * lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5) * scale[None, :]


def cross_entropy(logits: Any, labels: Any) -> Any:
    rows = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], -1, mode="clip")
    return -rows.mean()


def adamw(parameters: Any, gradients: Any, state: Any) -> Any:
    # Optax relies on implicit promotion.
    with jax.numpy_dtype_promotion("standard"):
        updates, state = optax.adamw(1e-3).update(gradients, state, parameters)
        return optax.apply_updates(parameters, updates), state


def cosine_scores(queries: Any, keys: Any) -> Any:
    unit = lambda v: v * lax.rsqrt((v * v).sum(-1, keepdims=True))  # noqa: E731
    return jax.nn.softmax(unit(queries) @ unit(keys).T * 4.0)


_X, _SCALE, _SHIFT = normal(ROWS, WIDTH), normal(WIDTH, seed=1), normal(WIDTH, seed=2)
_COTANGENT = normal(ROWS, WIDTH, seed=3)
_ADAM = jax.tree.map(lambda v: np.asarray(v) + np.asarray(1, v.dtype), optax.adamw(1e-3).init(_X))

CASES = (
    Case("model_softmax", softmax, (_X,), depth=WIDTH),
    Case("model_softmax_gradient", softmax_gradient, (_X, _COTANGENT), depth=WIDTH, floor=1),
    Case("model_layer_norm", layer_norm, (_X, _SCALE, _SHIFT), depth=WIDTH, floor=1),
    Case("model_layer_norm_gradient", layer_norm_gradient, (_X, _SCALE, _SHIFT, _COTANGENT), depth=ROWS, floor=4),
    Case("model_rms_norm", rms_norm, (_X, _SCALE), depth=WIDTH, floor=1),
    Case("model_cross_entropy", cross_entropy, (_X, integers(ROWS, low=0, high=WIDTH)), depth=ROWS, floor=4),
    Case(
        "model_cross_entropy_gradient",
        jax.grad(cross_entropy),
        (_X, integers(ROWS, low=0, high=WIDTH)),
        depth=WIDTH,
        floor=1,
    ),
    Case("model_adamw", adamw, (_X, _COTANGENT, _ADAM), roundings=32, floor=0.1, donate=(0,)),
    Case(
        "model_cosine_scores",
        cosine_scores,
        (normal(19, 8), normal(23, 8, seed=1)),
        depth=31,
        floor=1,
        gradient=(0, 1),
        is_mapped=True,
    ),
)
