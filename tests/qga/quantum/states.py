"""States, channels and families to test with."""

from __future__ import annotations

import numpy as np

from tests.qga.dense import rays

PAULI = np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])
BELL = np.array([1, 0, 0, 1]) / np.sqrt(2)


def draw_rho(random: np.random.Generator, width: int = 4, states: int = 6) -> np.ndarray:
    """Draw a state of full rank."""
    kets = rays(random.normal(size=(states, 2 * width)))
    chances = random.dirichlet(np.ones(states))
    return (kets * chances[:, None]).T @ kets.conj()


def draw_kraus(random: np.random.Generator, width: int = 4, outcomes: int = 3) -> np.ndarray:
    """Draw a channel: a random isometry cut into pieces."""
    tall = random.normal(size=(outcomes * width, width)) + 1j * random.normal(size=(outcomes * width, width))
    return np.linalg.qr(tall)[0].reshape(outcomes, width, width)


def root(matrix: np.ndarray) -> np.ndarray:
    """Take the square root of a positive matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.conj().T


def werner(share: float) -> np.ndarray:
    """Mix a Bell state with noise."""
    singlet = np.array([0, 1, -1, 0]) / np.sqrt(2)
    return share * np.outer(singlet, singlet) + (1 - share) * np.eye(4) / 4


def qwz(mass: float, size: int) -> np.ndarray:
    """Return the lower band of the model of Qi, Wu and Zhang on a grid of momenta."""
    x, y = np.meshgrid(*[np.arange(size) * 2 * np.pi / size] * 2, indexing="ij")
    fields = np.stack([np.sin(x), np.sin(y), mass + np.cos(x) + np.cos(y)], axis=-1)
    return np.linalg.eigh(np.einsum("xyk,kab->xyab", fields, PAULI))[1][..., 0]
