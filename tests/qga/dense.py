"""The dense truths in float64 NumPy that tiled functions are compared with."""

from __future__ import annotations

import numpy as np


def softmax(scores: np.ndarray) -> np.ndarray:
    """Normalise the exponentials of each row; rows of minus infinity become zeros."""
    peak = scores.max(axis=-1, keepdims=True, initial=-np.inf)
    weights = np.exp(scores - np.where(np.isneginf(peak), 0, peak))
    mass = weights.sum(axis=-1, keepdims=True)
    return weights / np.where(mass == 0, 1, mass)


def dot_weights(queries: np.ndarray, keys: np.ndarray, scale: float, visible: np.ndarray | None = None) -> np.ndarray:
    """Compute the dense weights of dot attention."""
    return _weights(scale * queries.astype(float) @ np.swapaxes(keys.astype(float), -1, -2), visible)


def fidelity_weights(
    queries: np.ndarray, keys: np.ndarray, beta: float, visible: np.ndarray | None = None
) -> np.ndarray:
    """Compute the dense weights of fidelity attention, with complex numbers."""
    overlaps = rays(queries) @ np.swapaxes(rays(keys).conj(), -1, -2)
    return _weights(beta * np.abs(overlaps) ** 2, visible)


def rays(rows: np.ndarray) -> np.ndarray:
    """Read rows as unit complex vectors."""
    half = rows.shape[-1] // 2
    states = rows[..., :half].astype(float) + 1j * rows[..., half:].astype(float)
    return states / np.linalg.norm(states, axis=-1, keepdims=True)


def as_rows(states: np.ndarray) -> np.ndarray:
    """Write complex vectors as rows of real and imaginary halves."""
    return np.concatenate([states.real, states.imag], axis=-1)


def random_unitary(random: np.random.Generator, width: int) -> np.ndarray:
    """Draw a unitary matrix."""
    entries = random.normal(size=(width, width)) + 1j * random.normal(size=(width, width))
    return np.linalg.qr(entries)[0]


def _weights(scores: np.ndarray, visible: np.ndarray | None) -> np.ndarray:
    return softmax(scores if visible is None else np.where(visible, scores, -np.inf))
