"""Row-stochastic matrices to test with."""

from __future__ import annotations

import numpy as np


def draw_chain(random: np.random.Generator, rows: int = 7) -> np.ndarray:
    """Draw a walk that can go from anywhere to anywhere."""
    return random.dirichlet(np.ones(rows), rows)


def draw_network(random: np.random.Generator, rows: int = 7) -> np.ndarray:
    """Draw symmetric positive conductances without loops."""
    network = random.random((rows, rows)) + 0.1
    return (network + network.T) * (1 - np.eye(rows))


def walk(network: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the walk on a network, which is reversible, and its law."""
    degrees = network.sum(1)
    return network / degrees[:, None], degrees / degrees.sum()


def law_of(chain: np.ndarray) -> np.ndarray:
    """Solve for the stationary law."""
    rows = len(chain)
    system = np.vstack([chain.T - np.eye(rows), np.ones(rows)])
    return np.linalg.lstsq(system, np.r_[np.zeros(rows), 1.0], rcond=None)[0]


def barbell(size: int) -> np.ndarray:
    """Return two complete graphs joined by one edge, as an adjacency matrix."""
    block = np.ones((size, size)) - np.eye(size)
    network = np.kron(np.eye(2), block)
    network[size - 1, size] = network[size, size - 1] = 1
    return network
