"""Rows of ``qga.flow``."""

from __future__ import annotations

import jax
import numpy as np

from qga import flow
from tests.qga.case import Case

Drawn = tuple[np.ndarray, ...]


def draw_scores(random: np.random.Generator) -> Drawn:
    return random.normal(size=(6, 5)), random.normal(size=6), random.normal(size=5)


def draw_memories(random: np.random.Generator) -> Drawn:
    return random.normal(size=4), random.normal(size=(6, 4))


def draw_mask(random: np.random.Generator) -> Drawn:
    return (random.random((7, 8)) < 0.4,)


def draw_narrow(random: np.random.Generator) -> Drawn:
    return (random.random((1, 17)) < 0.5,)


def draw_width(random: np.random.Generator) -> Drawn:
    return random.random((9, 5)) < 0.5, np.array(1.7)


def balanced(scores: jax.Array, rows: jax.Array, columns: jax.Array) -> tuple[jax.Array, ...]:
    return flow.sinkhorn(scores, jax.nn.softmax(rows), jax.nn.softmax(columns), iterations=3)


def interval(costs: jax.Array, rows: jax.Array, columns: jax.Array) -> tuple[jax.Array, ...]:
    return flow.transport_interval(costs, jax.nn.softmax(rows), jax.nn.softmax(columns), eps=0.3, iterations=10)


def heated(scores: jax.Array, rows: jax.Array, _: jax.Array) -> jax.Array:
    operator = jax.nn.softmax(scores @ scores.T)
    return flow.heat(lambda field: operator @ field, rows[:, None], 1.3, order=8)[0]


CASES = [
    Case("heat", heated, draw_scores, depth=50),
    Case("pattern_flow", lambda s, r, _: flow.pattern_flow(s, s, r[:, None], 1.0, order=5, tile=4)[0], draw_scores,
         depth=50, scale=4.0),
    Case("sinkhorn", balanced, draw_scores, depth=30, scale=8.0),
    Case("sinkhorn_plan", flow.sinkhorn_plan, draw_scores, scale=8.0),
    Case("sinkhorn_rate", lambda s, *_: flow.sinkhorn_rate(s), draw_scores, scale=8.0),
    Case("transport_interval", interval, draw_scores, depth=60, scale=20.0),
    Case("hopfield", lambda x, k: flow.hopfield(x, k, 1.5, steps=3), draw_memories, depth=18, scale=4.0),
    Case("hopfield_energy", lambda x, k: flow.hopfield_energy(x, k, 1.5), draw_memories, depth=6, scale=8.0),
    Case("is_contraction", lambda _, k: flow.is_contraction(k, 0.05), draw_memories, is_smooth=False),
    Case("threshold_dynamics", lambda m: flow.threshold_dynamics(m, 1.2, steps=2, active=20), draw_mask,
         is_smooth=False),
    Case("threshold_dynamics, one row", lambda m: flow.threshold_dynamics(m, 2.0, steps=3, active=8), draw_narrow,
         is_smooth=False),
    Case("threshold_dynamics, width", lambda m, w: flow.threshold_dynamics(m, w, steps=2, active=22), draw_width,
         is_smooth=False),
    Case("threshold_energy", lambda m: flow.threshold_energy(m, 1.2), draw_mask, is_smooth=False, depth=56, scale=8.0),
    Case("threshold_energy, width", flow.threshold_energy, draw_width, depth=45, scale=8.0),
]  # fmt: skip
