"""Line and bar charts as inline SVG; colours come from the page, so that they suit light and dark."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_MARGIN_LEFT, _MARGIN_RIGHT, _MARGIN_TOP, _MARGIN_BOTTOM = 58, 14, 10, 36
_TICKS = 5


@dataclass(frozen=True)
class Series:
    """One curve.

    Attributes:
        name: for the legend.
        style: class of the curve on the page, such as ``cpu``.
        values: one for each position; those that are not finite leave a gap.
        positions: horizontal places; 1, 2, 3, ... by default.
    """

    name: str
    style: str
    values: np.ndarray
    positions: np.ndarray | None = None

    @property
    def places(self) -> np.ndarray:
        """Horizontal places of the values."""
        return np.arange(1, len(self.values) + 1) if self.positions is None else self.positions


@dataclass(frozen=True)
class Axes:
    """How a chart is labelled and scaled.

    Attributes:
        across: label of the horizontal axis.
        up: label of the vertical axis.
        is_log: whether the vertical axis is logarithmic; values must then be positive.
        width: of the drawing, in its own units.
        height: of the drawing.
        low: lowest value shown; the smallest value by default.
        high: highest value shown; the largest value by default.
    """

    across: str
    up: str
    is_log: bool = False
    width: int = 640
    height: int = 260
    low: float | None = None
    high: float | None = None


def line_chart(series: Sequence[Series], axes: Axes) -> str:
    """Draw curves over common axes, with a legend when there are several."""
    frame = _Frame.around(series, axes)
    parts = [_open(axes), *_grid(frame, axes)]
    for number, curve in enumerate(series):
        parts.append(f'<path class="line {curve.style}" d="{_path(frame, curve)}"/>')
        if len(series) > 1:
            parts.append(_legend(curve, number, axes))
    return "\n".join([*parts, "</svg>"])


def bar_chart(names: Sequence[str], groups: Sequence[Series], axes: Axes) -> str:
    """Draw groups of bars: one place for each name, one bar there for each series."""
    frame = _Frame(0.5, len(names) + 0.5, 0.0, _largest(groups) or 1.0, axes)
    parts = [_open(axes), *_grid(frame, axes, names)]
    width = 0.8 / len(groups)
    for number, group in enumerate(groups):
        for place, value in enumerate(group.values, start=1):
            left = frame.across(place - 0.4 + number * width)
            right = frame.across(place - 0.4 + (number + 1) * width)
            top, bottom = frame.up(value), frame.up(0.0)
            parts.append(
                f'<rect class="bar {group.style}" x="{left:.1f}" y="{top:.1f}" width="{right - left - 0.5:.1f}" '
                f'height="{max(bottom - top, 0):.1f}"><title>{html.escape(names[place - 1])}: {value:.4g}</title></rect>'
            )
        if len(groups) > 1:
            parts.append(_legend(group, number, axes))
    return "\n".join([*parts, "</svg>"])


@dataclass(frozen=True)
class _Frame:
    """The map from values to the drawing."""

    left: float
    right: float
    low: float
    high: float
    axes: Axes

    @staticmethod
    def around(series: Sequence[Series], axes: Axes) -> _Frame:
        values = np.concatenate([curve.values for curve in series])
        values = values[np.isfinite(values) & ((values > 0) | (not axes.is_log))]
        low = float(values.min()) if axes.low is None and values.size else axes.low or 0.0
        high = float(values.max()) if axes.high is None and values.size else axes.high or 1.0
        if axes.is_log:
            low, high = 10.0 ** math.floor(math.log10(low or 0.1)), 10.0 ** math.ceil(math.log10(high))
        if high <= low:
            high = low * 10 if axes.is_log else low + 1
        places = np.concatenate([curve.places for curve in series])
        left, right = float(places.min()), float(places.max())
        return _Frame(left, right if right > left else left + 1, low, high, axes)

    def across(self, place: float) -> float:
        room = self.axes.width - _MARGIN_LEFT - _MARGIN_RIGHT
        return _MARGIN_LEFT + room * (place - self.left) / (self.right - self.left)

    def up(self, value: float) -> float:
        room = self.axes.height - _MARGIN_TOP - _MARGIN_BOTTOM
        low, high = self.low, self.high
        if self.axes.is_log:
            low, high, value = math.log10(low), math.log10(high), math.log10(max(value, self.low))
        share = min(max((value - low) / (high - low), 0.0), 1.0)
        return self.axes.height - _MARGIN_BOTTOM - room * share


def _open(axes: Axes) -> str:
    label = html.escape(f"{axes.up} against {axes.across}", quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {axes.width} {axes.height}" role="img" '
        f'aria-label="{label}">'
    )


def _grid(frame: _Frame, axes: Axes, names: Sequence[str] | None = None) -> list[str]:
    right, bottom = axes.width - _MARGIN_RIGHT, axes.height - _MARGIN_BOTTOM
    parts = []
    for tick in _log_ticks(frame) if axes.is_log else _ticks(frame.low, frame.high):
        height = frame.up(tick)
        parts.append(f'<path class="grid" d="M{_MARGIN_LEFT} {height:.1f}H{right}"/>')
        parts.append(f'<text class="tick" x="{_MARGIN_LEFT - 6}" y="{height + 4:.1f}" text-anchor="end">{tick:.3g}</text>')
    places = enumerate(names, start=1) if names else ((tick, f"{tick:g}") for tick in _ticks(frame.left, frame.right))
    for place, name in places:
        parts.append(
            f'<text class="tick" x="{frame.across(place):.1f}" y="{bottom + 14}" text-anchor="middle">'
            f"{html.escape(name)}</text>"
        )
    middle = (_MARGIN_LEFT + right) / 2
    parts.append(
        f'<text class="label" x="{middle:.0f}" y="{axes.height - 4}" text-anchor="middle">{html.escape(axes.across)}</text>'
    )
    parts.append(
        f'<text class="label" transform="translate(12 {(_MARGIN_TOP + bottom) / 2:.0f}) rotate(-90)" '
        f'text-anchor="middle">{html.escape(axes.up)}</text>'
    )
    return parts


def _legend(series: Series, number: int, axes: Axes) -> str:
    right, height = axes.width - _MARGIN_RIGHT, _MARGIN_TOP + 12 + 16 * number
    return (
        f'<path class="line {series.style}" d="M{right - 26} {height - 4}h22"/>'
        f'<text class="label" x="{right - 32}" y="{height}" text-anchor="end">{html.escape(series.name)}</text>'
    )


def _path(frame: _Frame, curve: Series) -> str:
    words, pen_down = [], False
    for place, value in zip(curve.places, curve.values, strict=True):
        if not np.isfinite(value):
            pen_down = False
            continue
        words.append(f"{'L' if pen_down else 'M'}{frame.across(place):.1f} {frame.up(value):.1f}")
        pen_down = True
    return "".join(words)


def _ticks(low: float, high: float) -> list[float]:
    """Choose about five round numbers between two values."""
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step - 1e-9)
    return [tick * step for tick in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(frame: _Frame) -> list[float]:
    first, last = round(math.log10(frame.low)), round(math.log10(frame.high))
    every = max(1, (last - first) // _TICKS)
    return [10.0**power for power in range(first, last + 1, every)]


def _largest(groups: Sequence[Series]) -> float:
    return max(float(group.values.max()) for group in groups)
