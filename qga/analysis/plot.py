"""The pictures of a report, with matplotlib."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..errors import OptionError, refuse
from .head import Head

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .report import Report

# Outside of the middle nine tenths of the heads colours stop: one odd head must not hide the others.
_COLOURED = (5, 95)
# (title, what a large number means, number of a head)
_MAPS: tuple[tuple[str, str, Callable[[Head], float]], ...] = (
    ("keys a query looks at", "e^entropy, mean", lambda head: head.keys_seen),
    ("directions the pattern needs", "effective rank, upper bound", lambda head: head.effective_rank.upper),
    ("what a key tells of the query", "mutual information, nats", lambda head: head.information),
    ("how fast a walk forgets", "spectral gap", lambda head: head.spectral_gap),
    ("how the metric is curved", "median Gaussian curvature", lambda head: head.median_curvature),
    ("what mixing leaves of the values", "share of their variance", lambda head: head.smoothing),
)


def draw_overview(report: Report) -> Figure:
    """Draw six quantities as maps: a row for each layer, a column for each head."""
    figure_class = _figure_class()
    layers = report.layers
    heads = max(len(report.of_layer(layer)) for layer in layers)
    figure = figure_class(figsize=(10, 1.6 + 2 * min(1.2 + 0.22 * len(layers), 6)), layout="constrained")
    axes = figure.subplots(2, 3)
    for axis, (title, unit, number) in zip(axes.flat, _MAPS, strict=True):
        values = np.full((len(layers), heads), np.nan)
        for row, layer in enumerate(layers):
            for head in report.of_layer(layer):
                values[row, head.head] = number(head)
        known = values[np.isfinite(values)]
        low, high = np.percentile(known, _COLOURED) if known.size else (0.0, 1.0)
        image = axis.imshow(values, vmin=low, vmax=high, aspect="auto", cmap="viridis", interpolation="nearest")
        _name_axes(axis, layers, heads)
        axis.set_title(title, fontsize=10)
        figure.colorbar(image, ax=axis, label=unit, extend=_beyond(known, low, high))
    return figure


def draw_patterns(report: Report, layer: str) -> Figure:
    """Draw where each head of a layer looks, tile by tile."""
    found = report.of_layer(layer)
    if not found:
        refuse(
            OptionError,
            "plot_patterns: the report has no such layer.",
            got=repr(layer),
            want=" or ".join(map(repr, report.layers)),
            fix="name a layer of report.layers.",
        )
    columns = min(4, len(found))
    rows = math.ceil(len(found) / columns)
    figure = _figure_class()(figsize=(2.4 * columns + 0.6, 2.5 * rows + 0.4), layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).flat
    for axis, head in zip(axes, found, strict=False):
        end = head.tile * head.tile_operator.shape[1]
        shown = np.sqrt(head.tile_operator)
        axis.imshow(shown, cmap="magma", interpolation="nearest", extent=(0, end, end, 0))
        axis.set_title(f"head {head.head}", fontsize=9)
        axis.set_xlabel("key", fontsize=8)
        axis.set_ylabel("query", fontsize=8)
        axis.tick_params(labelsize=7)
    for axis in list(axes)[len(found) :]:
        axis.set_axis_off()
    return figure


def _beyond(values: np.ndarray, low: float, high: float) -> str:
    """Say at which ends of a colour bar there are values that it does not show."""
    ends = bool((values < low).any()), bool((values > high).any())
    return {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[ends]


def _name_axes(axis: Axes, layers: tuple[str, ...], heads: int) -> None:
    axis.set_xlabel("head")
    axis.set_ylabel("layer")
    step = max(1, heads // 6)
    axis.set_xticks(range(0, heads, step))
    step = max(1, len(layers) // 8)
    axis.set_yticks(range(0, len(layers), step), layers[::step])


def _figure_class() -> type[Figure]:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        refuse(
            OptionError,
            "report: pictures are drawn with matplotlib.",
            got="no module matplotlib",
            want="matplotlib 3.9 or later",
            fix="pip install 'qga[plot]'",
        )
    return Figure
