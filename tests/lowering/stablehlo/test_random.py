from __future__ import annotations

import jax
import numpy as np
import pytest
from jax import lax

from lowering import reference

from ..programs import graph_of

_ALGORITHMS = [lax.RandomAlgorithm.RNG_THREE_FRY, lax.RandomAlgorithm.RNG_PHILOX, lax.RandomAlgorithm.RNG_DEFAULT]


@pytest.mark.parametrize("algorithm", _ALGORITHMS)
@pytest.mark.parametrize("shape", [(1,), (7,), (3, 4), (4, 3), (3, 5), (7, 3, 5), (3, 7, 7)])
def test_random_bits_are_those_of_xla(algorithm: lax.RandomAlgorithm, shape: tuple[int, ...]) -> None:
    key = np.array([1, 2, 0xFFFFFFFE, 3], np.uint32)

    def run(state: jax.Array) -> object:
        return lax.rng_bit_generator(state, shape, algorithm=algorithm)

    got = reference.run(graph_of(run, key), key)
    for mine, theirs in zip(got, jax.jit(run)(key), strict=True):
        np.testing.assert_array_equal(mine, np.asarray(theirs))


@pytest.mark.parametrize("algorithm", _ALGORITHMS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint64])
def test_random_bits_of_every_width_are_those_of_xla(algorithm: lax.RandomAlgorithm, dtype: type) -> None:
    # The low half of the counter wraps around within the array.
    key = np.array([5, 2**64 - 2], np.uint64)

    def run(state: jax.Array) -> object:
        return lax.rng_bit_generator(state, (3, 6), dtype=dtype, algorithm=algorithm)

    with jax.enable_x64(True):
        got = reference.run(graph_of(run, key), key)
        want = [np.asarray(array) for array in jax.jit(run)(key)]
    for mine, theirs in zip(got, want, strict=True):
        np.testing.assert_array_equal(mine, theirs)
