"""The mean of a tile splits where 1 / lambda_max says."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from qga.errors import OptionError, ShapeError
from qga.tiling import critical_beta
from tests.qga.dense import softmax
from tests.qga.tolerances import assert_close, bound


@pytest.mark.parametrize("squarings", [1, 3, 8, 12])
def test_bounds_enclose_the_largest_eigenvalue(squarings: int, random: np.random.Generator, dtype: np.dtype) -> None:
    for size in (1e-3, 1.0, 1e3):
        factor = random.normal(size=(7, 5))
        covariance = size * factor.T @ factor
        want = 1 / np.linalg.eigvalsh(covariance)[-1]
        got = critical_beta(jnp.asarray(covariance, dtype), squarings=squarings)
        slack = bound(dtype, depth=5, scale=8 * want)
        assert float(got.low) - slack <= want <= float(got.high) + slack
        assert float(got.high) <= float(got.low) * 5 ** (2 / 2**squarings) + slack
        if squarings >= 8:
            assert_close(got.low, want, scale=want, depth=5, roundings=4 + 0.02 / float(np.finfo(dtype).eps))


def test_a_stretched_covariance_is_noticed() -> None:
    narrow, wide = (critical_beta(jnp.diag(jnp.asarray([1.0, top]))) for top in (2.0, 2.2))
    assert wide.high < narrow.low


def test_equal_keys_never_split() -> None:
    assert np.all(np.isinf(critical_beta(jnp.zeros((3, 3)))))


def test_the_mean_of_keys_splits_there(random: np.random.Generator) -> None:
    keys = random.normal(size=(40, 3)) * [1.5, 1.0, 0.5]
    keys = np.concatenate([keys, -keys])
    got = critical_beta(jnp.asarray(np.cov(keys.T, bias=True), jnp.float32))
    for beta, stays in ((0.95 * float(got.low), True), (1.05 * float(got.high), False)):
        place = 1e-4 * np.ones(3)
        for _ in range(400):
            place = softmax(beta * keys @ place) @ keys
        assert (np.linalg.norm(place) < 1e-6) == stays


@pytest.mark.parametrize(("covariance", "squarings", "error"), [((2, 3), 8, ShapeError), ((2, 2), 0, OptionError)])
def test_critical_beta_refuses(covariance: tuple[int, int], squarings: int, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"(?s)^critical_beta: .*got:  .*(2, 3|squarings=0)"):
        critical_beta(jnp.ones(covariance), squarings=squarings)
