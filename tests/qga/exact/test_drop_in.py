"""``qga.dot_product_attention`` stands for ``jax.nn.dot_product_attention`` wherever every query sees a key."""

from __future__ import annotations

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qga
from tests.qga.tolerances import assert_close, assert_far

Q, K, V = (2, 9, 4, 6), (2, 11, 2, 6), (2, 11, 2, 6)
MASK = np.random.default_rng(1).random((2, 4, 9, 11)) < 0.6
MASK[..., 0] = True
CALLS: dict[str, dict[str, Any]] = {
    "plain": {},
    "causal": {"is_causal": True},
    "scale": {"scale": 0.3, "is_causal": True},
    "bias": {"bias": np.random.default_rng(2).normal(size=(1, 4, 9, 11)).astype(np.float32)},
    "bias of keys": {"bias": np.random.default_rng(2).normal(size=(2, 1, 1, 11)).astype(np.float32)},
    "mask": {"mask": MASK},
    "mask and causal": {"mask": MASK, "is_causal": True},
    "lengths": {"query_seq_lengths": np.int32([9, 9]), "key_value_seq_lengths": np.int32([3, 11])},
    "window": {"local_window_size": 3},
    "pair": {"local_window_size": (4, 1)},
    "causal window": {"local_window_size": (2, 0), "is_causal": True},
}


def draw(random: np.random.Generator, *shapes: tuple[int, ...]) -> list[jax.Array]:
    return [jnp.asarray(random.normal(size=shape), jnp.float32) for shape in shapes]


def both(arrays: list[jax.Array], options: dict[str, Any]) -> tuple[Any, Any]:
    """Return value and gradients of both functions."""
    options = {name: jnp.asarray(each) if isinstance(each, np.ndarray) else each for name, each in options.items()}

    def measure(function: Any) -> Any:
        def total(*arrays: jax.Array) -> tuple[jax.Array, jax.Array]:
            out = function(*arrays, **options)
            return jnp.sum(jnp.sin(out)), out

        gradients, out = jax.jit(jax.grad(total, argnums=(0, 1, 2), has_aux=True))(*arrays)
        return out, *gradients

    # JAX's own broadcasts ranks.
    with jax.numpy_rank_promotion("allow"):
        theirs = measure(jax.nn.dot_product_attention)
    return measure(qga.dot_product_attention), theirs


@pytest.mark.parametrize("name", CALLS)
def test_it_computes_what_jax_computes(name: str, random: np.random.Generator) -> None:
    ours, theirs = both(draw(random, Q, K, V), CALLS[name])
    for one, other in zip(ours, theirs, strict=True):
        assert_close(one, other, depth=11, scale=8.0)
        assert_far(one, jnp.flip(other, axis=1))


def test_arrays_without_a_batch(random: np.random.Generator) -> None:
    ours, theirs = both(draw(random, Q[1:], K[1:], V[1:]), {"is_causal": True})
    assert ours[0].shape == theirs[0].shape == (9, 4, 6)
    for one, other in zip(ours, theirs, strict=True):
        assert_close(one, other, depth=11, scale=8.0)


def test_log_sums_are_the_residual_of_jax(random: np.random.Generator) -> None:
    arrays = draw(random, Q, K, V)
    ours = jax.jit(lambda *a: qga.dot_product_attention(*a, is_causal=True, return_residual=True))(*arrays)
    with jax.numpy_rank_promotion("allow"):
        theirs = jax.nn.dot_product_attention(*arrays, is_causal=True, return_residual=True)
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape
        assert_close(one, other, depth=11, scale=4.0)


def test_a_query_that_sees_nothing_gets_zeros_and_not_the_mean(random: np.random.Generator) -> None:
    arrays = draw(random, Q, K, V)
    ours, theirs = both(arrays, {"mask": np.zeros((1, 1, 1, 11), bool)})
    mean = jnp.repeat(jnp.mean(arrays[2], axis=1, keepdims=True), 2, axis=2)
    assert not ours[0].any()
    assert_close(theirs[0], jnp.broadcast_to(mean, Q), depth=11, scale=4.0)


def test_the_arguments_of_jax_have_their_names_and_places() -> None:
    ours, theirs = (
        inspect.signature(each).parameters for each in (qga.dot_product_attention, jax.nn.dot_product_attention)
    )
    assert set(theirs) - set(ours) == {"implementation"}
    assert list(ours)[:5] == list(theirs)[:5]
    assert all(ours[name].kind == theirs[name].kind for name in ours)
