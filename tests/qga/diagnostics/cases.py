"""Rows of ``qga.diagnostics``."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from qga import diagnostics
from tests.qga.case import Case

Drawn = tuple[np.ndarray, ...]


def draw_chain(random: np.random.Generator) -> Drawn:
    return random.dirichlet(np.ones(5), 5), random.dirichlet(np.ones(5))


def draw_field(random: np.random.Generator) -> Drawn:
    return (random.normal(size=(10, 7)),)


def draw_numbers(random: np.random.Generator) -> Drawn:
    return tuple(random.random(()) + 0.5 for _ in range(3))


CASES = [
    Case("routing_efficiency", lambda p, w: diagnostics.routing_efficiency(p, w, iterations=30), draw_chain,
         is_smooth=False, depth=30, scale=4.0),
    Case("coarse_error", lambda x: diagnostics.coarse_error(x, 3), draw_field, depth=70),
    Case("consistency_error", diagnostics.consistency_error, draw_numbers, scale=4.0),
    Case("certified_saving", lambda x: diagnostics.certified_saving(x > 0, jnp.abs(x[0])), draw_field, depth=70),
    Case("certified_saving, work",
         lambda x: diagnostics.certified_saving(x > 0, jnp.abs(x[0]), work=jnp.square(x)), draw_field, depth=70,
         scale=2.0),
    Case("oscillation", lambda x: diagnostics.oscillation(x, 3), draw_field, scale=4.0),
]  # fmt: skip
