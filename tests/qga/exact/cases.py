"""Rows of ``qga.exact``: scores and lifts of every geometry, values with phases."""

from __future__ import annotations

from functools import partial
from typing import get_args

import numpy as np

from qga.exact.gauge_values import gauge_attention
from qga.exact.metrics import Metric, lift, scores
from tests.qga.case import Case

Drawn = tuple[np.ndarray, ...]
METRICS = get_args(Metric)


def draw_rows(random: np.random.Generator) -> Drawn:
    return random.normal(size=(3, 4)), random.normal(size=(5, 4))


def draw_one(random: np.random.Generator) -> Drawn:
    return (random.normal(size=(5, 4)),)


def draw_states(random: np.random.Generator) -> Drawn:
    return tuple(random.normal(size=size) + 1j * random.normal(size=size) for size in ((3, 4), (7, 4), (7, 2)))


CASES = [
    *(Case(f"scores {m}", partial(scores, metric=m, scale=0.7, curvature=-0.5), draw_rows, depth=4, scale=8.0)
      for m in METRICS),
    *(Case(f"lift {m}", partial(lift, metric=m, curvature=-0.5), draw_one, depth=4) for m in METRICS),
    Case("gauge_attention", partial(gauge_attention, beta=2.0, eps=1e-3, tile=3), draw_states, depth=7, scale=8.0),
]  # fmt: skip
