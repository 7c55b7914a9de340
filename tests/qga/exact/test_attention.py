"""``qga.attention`` with every option beside the dense formula, forwards and backwards."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.qga.dense_attention import dense_attention
from tests.qga.exact.compare import MAIN, of_dtype, require_equal, tiled, truth
from tests.qga.exact.options import ROWS, Row
from tests.qga.tolerances import assert_far


@jax.jit
def plain(*arrays: jax.Array) -> jax.Array:
    """Return what attention computes without any option."""
    query, key, value = arrays
    return dense_attention(query, key, value)[0]


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, id=row.name, marks=[pytest.mark.exhaustive] * (i % 2)) for i, row in enumerate(ROWS)],
)
def test_values_log_sums_and_gradients_are_those_of_the_dense_formula(row: Row, random: np.random.Generator) -> None:
    arrays = of_dtype(row.arrays(random), jnp.float32)
    got = tiled(row, arrays)
    require_equal(got, truth(row, arrays), row)
    if row.options(arrays):
        assert_far(got[0], plain(*(arrays[name] for name in MAIN)))
