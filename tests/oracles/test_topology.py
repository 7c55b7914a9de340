"""Homology against GUDHI and Ripser (theory P-4, M-2)."""

from __future__ import annotations

import gudhi
import jax.numpy as jnp
import numpy as np
import pytest
from ripser import ripser
from scipy.spatial.distance import cdist

from qga import motivic, pattern


def test_component_scales_are_the_bars_of_ripser(random: np.random.Generator) -> None:
    distances = cdist(*[random.normal(size=(20, 3))] * 2)
    bars = ripser(distances, distance_matrix=True, maxdim=0)["dgms"][0][:, 1]
    got = np.sort(pattern.component_scales(jnp.asarray(distances, jnp.float32)))
    assert np.allclose(got, np.sort(bars[np.isfinite(bars)]), atol=1e-5)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_betti_numbers_of_masks_are_those_of_gudhi(share: float, random: np.random.Generator) -> None:
    mask = random.random((12, 14)) < share
    # Top cells are closed squares: parts touch along corners, which is connectivity 8.
    cells = gudhi.CubicalComplex(top_dimensional_cells=np.where(mask, 0.0, 1.0))
    cells.compute_persistence(min_persistence=-1)
    islands, holes = cells.persistent_betti_numbers(0.0, 0.5)[:2]
    assert int(motivic.euler(jnp.asarray(mask), connectivity=8)) == islands - holes
    opposite = motivic.euler(jnp.asarray(mask), connectivity=4)
    assert share != 0.5 or int(opposite) != islands - holes


def test_clique_complexes_are_those_of_gudhi(random: np.random.Generator) -> None:
    edges = [(a, b) for a in range(9) for b in range(a + 1, 9) if random.random() < 0.4]
    tree = gudhi.SimplexTree()
    for node in range(9):
        tree.insert([node])
    for edge in edges:
        tree.insert(list(edge))
    tree.expansion(2)
    tree.compute_persistence(persistence_dim_max=True)
    want = [*tree.betti_numbers(), 0, 0, 0]
    assert list(motivic.betti(motivic.complex_of_graph(9, edges)))[:2] == want[:2]
