"""Parts of a map: orthogonal projections, energies that add up, the symbol (theory P-1)."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import circulant

from qga import OptionError, ShapeError, pattern
from tests.qga.tolerances import assert_close, assert_far

ROWS = 9
BOTH = pytest.mark.parametrize("split", [pattern.decompose, pattern.decompose_causal])


def draw(random: np.random.Generator, split: object, rows: int = ROWS) -> np.ndarray:
    matrix = random.normal(size=(rows, rows))
    return np.tril(matrix) if split is pattern.decompose_causal else matrix


@BOTH
def test_parts_add_up_and_so_do_their_energies(split: object, random: np.random.Generator, dtype: np.dtype) -> None:
    matrix = draw(random, split)
    parts = split(jnp.asarray(matrix, dtype))  # type: ignore[operator]
    assert_close(sum(parts), matrix, depth=ROWS, scale=4.0)
    assert_close(parts.energies.sum(), (matrix**2).sum(), depth=ROWS**2, scale=16.0)
    flat = np.stack([np.asarray(part, float).ravel() for part in parts])
    assert_close((flat @ flat.T).astype(dtype), np.diag(np.diag(flat @ flat.T)), depth=ROWS**2, scale=16.0)
    assert_far(parts.energies[2:].sum(), (matrix**2).sum())


@BOTH
def test_splitting_a_part_again_leaves_it_alone(split: object, random: np.random.Generator, dtype: np.dtype) -> None:
    parts = split(jnp.asarray(draw(random, split), dtype))  # type: ignore[operator]
    for number, part in enumerate(parts):
        again = split(part)  # type: ignore[operator]
        assert_close(again[number], part, depth=ROWS, scale=8.0)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(rows=st.integers(1, 8), seed=st.integers(0, 1000))
def test_causal_fit_is_the_least_squares_fit(rows: int, seed: int) -> None:
    matrix = np.tril(np.random.default_rng(seed).normal(size=(rows, rows)))
    places = [(i, j) for i in range(rows) for j in range(i + 1)]
    design = np.zeros((len(places), 2 * rows))
    for number, (i, j) in enumerate(places):
        design[number, j] = design[number, rows + i - j] = 1
    values = np.array([matrix[place] for place in places])
    fitted = design @ np.linalg.lstsq(design, values, rcond=None)[0]
    parts = pattern.decompose_causal(jnp.asarray(matrix, jnp.float32))
    got = np.asarray(matrix - parts.rest)
    assert np.abs([got[place] for place in places] - fitted).max() < 1e-4


def solved_distances(kept: np.ndarray) -> np.ndarray:
    """Solve the normal equations of key and distance, harmonic numbers and all; of mean zero."""
    rows = len(kept)
    harmonic = np.concatenate([[0], np.cumsum(1 / np.arange(1, rows + 1))])
    place = np.arange(rows)
    system = np.diag(rows - place) - (harmonic[rows] - harmonic[np.maximum(place[:, None], place[None])])
    means = kept.sum(axis=0) / (rows - place)
    sums = [sum(kept[key + lag, key] - means[key] for key in range(rows - lag)) for lag in place]
    return np.linalg.solve(system + 1.0, sums)


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 64, 257])
def test_sums_solve_the_normal_equations(rows: int, random: np.random.Generator, dtype: np.dtype) -> None:
    matrix = np.tril(random.normal(size=(rows, rows)))
    parts = pattern.decompose_causal(jnp.asarray(matrix, dtype))
    fitted = np.asarray(parts.constant + parts.column + parts.positional)
    # Down the first key, a fit goes like the distance.
    got, want = fitted[:, 0] - fitted[:, 0].mean(), solved_distances(matrix)
    assert_close(got, want - want.mean(), depth=rows, scale=8.0)
    if rows > 2:
        matrix[-1, 0] += 1
        assert_far(got, solved_distances(matrix))


def test_pure_maps_land_in_their_part(random: np.random.Generator) -> None:
    sinks = jnp.asarray(np.repeat(random.normal(size=(1, ROWS)), ROWS, 0), jnp.float32)
    local = jnp.asarray(circulant(random.normal(size=ROWS)), jnp.float32)
    for matrix, number in ((sinks, 1), (local, 2)):
        energies = np.array(pattern.decompose(matrix).energies)
        energies[[0, number]] = 0
        assert energies.max() < 1e-9
    lagged = jnp.asarray(
        sum(np.eye(ROWS, k=-lag) * value for lag, value in enumerate(random.normal(size=ROWS))), jnp.float32
    )
    assert pattern.decompose_causal(lagged).energies[3] < 1e-9
    mixed = lagged * jnp.arange(1.0, ROWS + 1)[:, None]
    assert pattern.decompose_causal(mixed).energies[3] > 1e-3


def test_symbol_is_the_spectrum_of_a_circulant(random: np.random.Generator) -> None:
    first = random.normal(size=ROWS)
    got = np.asarray(pattern.symbol(jnp.asarray(circulant(first), jnp.float32)))
    want = np.linalg.eigvals(circulant(first))
    assert max(np.abs(want - value).min() for value in got) < 1e-4
    assert_close(got[0].real, first.sum(), depth=ROWS, scale=4.0)
    # The first row of the matrix read along distances j - i.
    assert np.allclose(got, np.fft.fft(circulant(first)[0]), atol=1e-4)


def test_block_part_is_a_projection(random: np.random.Generator, dtype: np.dtype) -> None:
    matrix = random.normal(size=(8, 8))
    means = np.kron(np.eye(2), np.full((4, 4), 0.25))
    got = pattern.block_part(jnp.asarray(matrix, dtype), 4)
    assert_close(got, means @ matrix @ means, depth=16, scale=4.0)
    assert_close(pattern.block_part(got, 4), got, depth=16, scale=4.0)


def test_decompose_refuses_what_is_not_square() -> None:
    for function in (pattern.decompose, pattern.decompose_causal, pattern.symbol):
        with pytest.raises(ShapeError, match=r"a map of self-attention is square.\n  got:  float32\[2, 3\]"):
            function(jnp.ones((2, 3)))
    with pytest.raises(OptionError, match="got:  tile=3, 8 rows"):
        pattern.block_part(jnp.ones((8, 8)), 3)
