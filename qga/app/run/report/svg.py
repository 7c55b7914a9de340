"""Line and bar charts as inline SVG; colours come from the page, so that they suit light and dark."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_MARGIN_LEFT, _MARGIN_RIGHT, _MARGIN_TOP, _MARGIN_BOTTOM = 68, 16, 28, 38
_LEGEND_WIDTH = 150
_HEADROOM = 1.05
_TICKS = 5


@dataclass(frozen=True)
class Series:
    """One curve.

    Attributes:
        name: for the legend.
        style: class of the curve on the page, such as ``cpu``.
        values: one for each position; those that are not finite leave a gap.
        is_dots: draw a dot for each value instead of a line.
    """

    name: str
    style: str
    values: np.ndarray
    is_dots: bool = False

    @property
    def places(self) -> np.ndarray:
        """Horizontal places of the values: 1, 2, 3, ..."""
        return np.arange(1, len(self.values) + 1)


@dataclass(frozen=True)
class Axes:
    """How a chart is labelled and scaled.

    Attributes:
        across: label of the horizontal axis.
        up: label of the vertical axis.
        is_log: whether the vertical axis is logarithmic; values must then be positive.
        width: of the drawing, in its own units.
        height: of the drawing.
        low: lowest value shown; just below the smallest value by default.
    """

    across: str
    up: str
    is_log: bool = False
    width: int = 860
    height: int = 300
    low: float | None = None


def line_chart(series: Sequence[Series], axes: Axes) -> str:
    """Draw curves over common axes, with a legend when there are several."""
    frame = _Frame.around(series, axes)
    parts = [_open(axes), *_grid(frame, axes)]
    for number, curve in enumerate(series):
        parts += _dots(frame, curve) if curve.is_dots else [_line(frame, curve)]
        if len(series) > 1:
            parts.append(_legend(curve, number))
    return "\n".join([*parts, "</svg>"])


def bar_chart(names: Sequence[str], groups: Sequence[Series], axes: Axes) -> str:
    """Draw groups of bars: one place for each name, one bar there for each series."""
    largest = max(float(group.values.max()) for group in groups) or 1.0
    frame = _Frame(0.5, len(names) + 0.5, 0.0, largest * _HEADROOM, axes)
    parts = [_open(axes), *_grid(frame, axes, names)]
    width = 0.8 / len(groups)
    for number, group in enumerate(groups):
        for place, value in enumerate(group.values, start=1):
            left = frame.across(place - 0.4 + number * width)
            right = frame.across(place - 0.4 + (number + 1) * width)
            top, bottom = frame.up(value), frame.up(0.0)
            hint = f"<title>{html.escape(names[place - 1])}: {value:.4g}</title>"
            parts.append(
                f'<rect class="bar {group.style}" x="{left:.1f}" y="{top:.1f}" width="{right - left - 0.5:.1f}" '
                f'height="{max(bottom - top, 0):.1f}">{hint}</rect>'
            )
        if len(groups) > 1:
            parts.append(_legend(group, number))
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
        """Choose limits at round numbers that hold every value."""
        values = np.concatenate([curve.values for curve in series])
        values = values[np.isfinite(values) & ((values > 0) | (not axes.is_log))]
        low, high = (float(values.min()), float(values.max())) if values.size else (1.0, 1.0)
        low = low if axes.low is None else axes.low
        if axes.is_log:
            low, high = 10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high))
            high = high if high > low else 10 * low
        else:
            step = _tick_step(low, high)
            low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
            high = high if high > low else low + step
        places = max(len(curve.values) for curve in series)
        return _Frame(1.0, float(max(places, 2)), low, high, axes)

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
        parts.append(
            f'<text class="tick" x="{_MARGIN_LEFT - 6}" y="{height + 4:.1f}" text-anchor="end">{tick:.3g}</text>'
        )
    places = enumerate(names, start=1) if names else ((tick, f"{tick:g}") for tick in _ticks(frame.left, frame.right))
    for place, name in places:
        parts.append(
            f'<text class="tick" x="{frame.across(place):.1f}" y="{bottom + 14}" text-anchor="middle">'
            f"{html.escape(name)}</text>"
        )
    middle = (_MARGIN_LEFT + right) / 2
    parts.append(
        f'<text class="label" x="{middle:.0f}" y="{axes.height - 4}" text-anchor="middle">'
        f"{html.escape(axes.across)}</text>"
    )
    parts.append(
        f'<text class="label" transform="translate(12 {(_MARGIN_TOP + bottom) / 2:.0f}) rotate(-90)" '
        f'text-anchor="middle">{html.escape(axes.up)}</text>'
    )
    return parts


def _legend(series: Series, number: int) -> str:
    left = _MARGIN_LEFT + number * _LEGEND_WIDTH
    mark = f'<circle class="dot {series.style}" cx="{left + 10}" cy="12" r="3"/>'
    if not series.is_dots:
        mark = f'<path class="line {series.style}" d="M{left} 12h20"/>'
    return f'{mark}<text class="label" x="{left + 26}" y="16">{html.escape(series.name)}</text>'


def _line(frame: _Frame, curve: Series) -> str:
    words, pen_down = [], False
    for place, value in zip(curve.places, curve.values, strict=True):
        if np.isfinite(value):
            words.append(f"{'L' if pen_down else 'M'}{frame.across(place):.1f} {frame.up(value):.1f}")
        pen_down = bool(np.isfinite(value))
    return f'<path class="line {curve.style}" d="{"".join(words)}"/>'


def _dots(frame: _Frame, curve: Series) -> list[str]:
    return [
        f'<circle class="dot {curve.style}" cx="{frame.across(place):.1f}" cy="{frame.up(value):.1f}" r="2.4">'
        f"<title>{place}: {value:.3g}</title></circle>"
        for place, value in zip(curve.places, curve.values, strict=True)
        if np.isfinite(value)
    ]


def _tick_step(low: float, high: float) -> float:
    """Choose the distance of about five round numbers between two values."""
    rough = (high - low) / _TICKS or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    return power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))


def _ticks(low: float, high: float) -> list[float]:
    step = _tick_step(low, high)
    first = math.ceil(low / step - 1e-9)
    return [tick * step for tick in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(frame: _Frame) -> list[float]:
    first, last = round(math.log10(frame.low)), round(math.log10(frame.high))
    every = max(1, (last - first) // _TICKS)
    return [10.0**power for power in range(first, last + 1, every)]
