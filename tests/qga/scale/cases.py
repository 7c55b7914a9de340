"""Rows of ``qga.scale``."""

from __future__ import annotations

import numpy as np

from qga import scale
from tests.qga.case import Case


def draw_field(random: np.random.Generator) -> tuple[np.ndarray, ...]:
    return (random.normal(size=(12, 3)),)


def draw_scores(random: np.random.Generator) -> tuple[np.ndarray, ...]:
    return (random.normal(size=(3, 16)),)


def draw_wide(random: np.random.Generator) -> tuple[np.ndarray, ...]:
    return (12 * random.normal(size=(3, 16)),)


CASES = [
    Case("coarsen", lambda f: scale.coarsen(f, levels=2), draw_field, depth=4),
    Case("refine", lambda f: scale.refine(f, levels=2), draw_field),
    Case("coarsen_scores", lambda s: scale.coarsen_scores(s, levels=2), draw_scores, depth=4, scale=4.0),
    Case("centroid_scores", lambda s: scale.centroid_scores(s, levels=2), draw_scores, depth=4),
    Case("jensen_gap", scale.jensen_gap, draw_scores, depth=16),
    Case("jensen_gap, wide", scale.jensen_gap, draw_wide, depth=16, scale=40.0),
]
