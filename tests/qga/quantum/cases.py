"""Rows of ``qga.quantum``."""

from __future__ import annotations

import numpy as np

from qga import quantum
from tests.qga.case import Case
from tests.qga.dense import rays


def draw_states(random: np.random.Generator) -> tuple[np.ndarray, ...]:
    return (rays(random.normal(size=(6, 8))),)


def draw_rho(random: np.random.Generator) -> tuple[np.ndarray, ...]:
    states = rays(random.normal(size=(6, 8)))
    return (states.T @ states.conj() / 6,)


CASES = [
    Case("density", quantum.density, draw_states, depth=6),
    Case("entropy", lambda rho: quantum.entropy((rho + rho.conj().T) / 2), draw_rho, lowers=False, depth=4),
    Case("purity", quantum.purity, draw_rho, depth=16),
]
