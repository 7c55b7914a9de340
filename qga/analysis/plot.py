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
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    from .report import Report

# Outside of the middle nine tenths of the heads colours stop: one odd head must not hide the others.
_COLOURED = (5, 95)
# (title, what a large number means, number of a head)
_MAPS: tuple[tuple[str, str, Callable[[Head], float]], ...] = (
    ("keys a query looks at", "e^entropy, keys", lambda head: head.keys_seen),
    ("directions the pattern needs", "effective rank, upper bound", lambda head: head.effective_rank.upper),
    ("what a key tells of the query", "mutual information, nats", lambda head: head.information),
    ("how fast a walk forgets", "spectral gap", lambda head: head.spectral_gap),
    ("how the metric is curved", "median Gaussian curvature", lambda head: head.median_curvature),
    ("what mixing leaves of the values", "share of their variance", lambda head: head.smoothing),
)
# Numbers of either sign, whose zero is a colour of its own.
_SIGNED = ("how the metric is curved",)


def draw_overview(report: Report) -> Figure:
    """Draw six quantities as maps: a row for each layer, a column for each head."""
    layers = report.layers
    heads = max(len(report.of_layer(layer)) for layer in layers)
    figure = figure_class()(figsize=(10, 1.6 + 2 * min(1.8 + 0.22 * len(layers), 6)), layout="constrained")
    axes = figure.subplots(2, 3)
    for axis, (title, unit, number) in zip(axes.flat, _MAPS, strict=True):
        values = np.full((len(layers), heads), np.nan)
        for row, layer in enumerate(layers):
            for head in report.of_layer(layer):
                values[row, head.head] = number(head)
        known = values[np.isfinite(values)]
        low, high = _range_of(known, is_signed=title in _SIGNED)
        colours = "RdBu_r" if title in _SIGNED else "viridis"
        image = axis.imshow(values, vmin=low, vmax=high, aspect="auto", cmap=colours, interpolation="nearest")
        axis.set_facecolor("#999999")
        _name_axes(axis, layers, heads)
        axis.set_title(title, fontsize=10)
        bar = figure.colorbar(image, ax=axis, extend=_beyond(known, low, high))
        bar.set_label(unit, fontsize=8)
        bar.ax.tick_params(labelsize=8)
    figure.suptitle(f"{len(report.heads)} heads over {report.rows} rows", fontsize=11)
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
    figure = figure_class()(figsize=(2.4 * columns + 1.2, 2.5 * rows + 0.8), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    # One scale for all heads of a layer: what is brighter is more, also between two of them.
    scale = _root_scale(max(float(np.max(head.tile_operator)) for head in found))
    for axis, head in zip(axes, found, strict=False):
        down, along = (head.tile * tiles for tiles in head.tile_operator.shape)
        axis.imshow(head.tile_operator, cmap="magma", norm=scale, interpolation="nearest", extent=(0, along, down, 0))
        axis.set_title(f"head {head.head}", fontsize=9)
        axis.set_xlabel("key, row", fontsize=8)
        axis.set_ylabel("query, row", fontsize=8)
        axis.tick_params(labelsize=7)
    for axis in axes[len(found) :]:
        axis.remove()
    label = f"share of attention in a tile of {found[0].tile} keys"
    figure.colorbar(axes[0].get_images()[0], ax=axes[: len(found)], label=label, shrink=0.8)
    figure.suptitle(f"layer {layer}: where queries look", fontsize=11)
    return figure


def _range_of(values: np.ndarray, *, is_signed: bool) -> tuple[float, float]:
    """Choose where colours begin and end; about zero for numbers of either sign."""
    if not values.size:
        return 0.0, 1.0
    low, high = (float(each) for each in np.percentile(values, _COLOURED))
    most = max(abs(low), abs(high))
    return (-most, most) if is_signed else (low, high)


def _root_scale(most: float) -> PowerNorm:
    """Make colours follow the root of a share, so that small ones are seen."""
    from matplotlib.colors import PowerNorm

    return PowerNorm(0.5, vmin=0, vmax=most)


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


def figure_class() -> type[Figure]:
    """Return the class of figures, or say what is missing."""
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
