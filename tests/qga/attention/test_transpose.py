"""A linear map with a transpose of its own behaves under every transformation as the map itself."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from qga.attention.transpose import with_transpose

Pair = tuple[jax.Array, jax.Array]


def push(known: Pair, inputs: Pair) -> Pair:
    """Move (y, z) = (A x + sin(b) u, sum x) as (x, u) move."""
    (matrix, angles), (x, u) = known, inputs
    return matrix @ x + jnp.sin(angles) * u, jnp.sum(x)[None]


def pull(known: Pair, bars: Pair) -> Pair:
    (matrix, angles), (y, z) = known, bars
    return matrix.T @ y + z, jnp.sin(angles) * y


def linear(known: Pair, inputs: Pair, backwards: Callable = pull) -> Pair:
    return with_transpose(push, backwards, known, inputs)


@pytest.fixture
def case(random: np.random.Generator) -> tuple[Pair, Pair]:
    draw = [jnp.asarray(random.normal(size=shape), jnp.float32) for shape in ((3, 4), 3, 4, 3)]
    return (draw[0], draw[1]), (draw[2], draw[3])


def test_value_and_tangent_are_those_of_the_map(case: tuple[Pair, Pair]) -> None:
    got, want = (jax.jvp(lambda *each, f=f: f(case[0], each), case[1], case[1]) for f in (linear, push))
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize("which", [0, 1])
def test_one_input_alone_has_a_gradient(which: int, case: tuple[Pair, Pair]) -> None:
    def total(function: Callable, moved: jax.Array) -> jax.Array:
        inputs = (moved, case[1][1]) if which == 0 else (case[1][0], moved)
        return sum(jnp.sum(jnp.cos(part)) for part in function(case[0], inputs))

    got, want = (jax.grad(lambda moved, f=f: total(f, moved))(case[1][which]) for f in (linear, push))
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_reverse_mode_uses_the_transpose_that_was_given(case: tuple[Pair, Pair]) -> None:
    doubled = lambda known, bars: jax.tree.map(lambda bar: 2 * bar, pull(known, bars))  # noqa: E731
    right, twice = (
        jax.grad(lambda inputs, p=p: jnp.sum(linear(case[0], inputs, p)[0]))(case[1]) for p in (pull, doubled)
    )
    for one, other in zip(right, twice, strict=True):
        np.testing.assert_allclose(2 * one, other, rtol=1e-6)


def test_it_maps_over_batches_like_a_loop(case: tuple[Pair, Pair]) -> None:
    matrices = jnp.stack([case[0][0], 2 * case[0][0]])

    def gradient(matrix: jax.Array) -> Pair:
        return jax.grad(lambda inputs: jnp.sum(jnp.square(linear((matrix, case[0][1]), inputs)[0])))(case[1])

    for mapped, *looped in zip(jax.vmap(gradient)(matrices), *(gradient(each) for each in matrices), strict=True):
        np.testing.assert_allclose(mapped, np.stack(looped), rtol=1e-5)


@pytest.mark.usefixtures("x64")
def test_derivatives_of_every_mode_to_second_order(random: np.random.Generator) -> None:
    draw = [jnp.asarray(random.normal(size=shape)) for shape in ((3, 4), 3, 4, 3)]
    check_grads(lambda a, b, x, u: linear((a, b), (x, u)), draw, order=2, modes=["fwd", "rev"])
