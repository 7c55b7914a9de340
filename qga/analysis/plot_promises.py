"""Pictures of what adaptive attention does at several promises, with matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import OptionError, refuse
from ..tiling import LEVEL_NAMES
from .plot import figure_class
from .promises import Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Light to dark as more is looked at, equally far apart for every kind of sight; hidden tiles are the paper.
_COLOURS = {
    "hidden": "#ffffff",
    "left out": "#e3e3e3",
    "coarse": "#fde725",
    "half": "#90d743",
    "mixed": "#35b779",
    "split": "#21918c",
    "exact": "#3b2a6e",
}
_MAP, _CURVE = 2.1, 3.0

PictureRow = tuple[str, Sequence[Trial], int]


def plot_promises(rows: Sequence[PictureRow], *, batch: int = 0) -> Figure:
    """Draw a row for each head: the map of levels at each promise, bounds above errors, and the work of each promise.

    Operations and bytes are those of the head, with what was scored for the plan; time is that of all heads of a trial.

    Args:
        rows: a title, what ``try_promises`` returned, and which head of it; as many trials in each.
        batch: which example.

    Returns:
        A matplotlib figure (``pip install qga[plot]``).

    Raises:
        OptionError: there is nothing to draw, or matplotlib is not there.

    Example:
        >>> import jax
        >>> from qga.analysis import try_promises
        >>> x = jax.random.normal(jax.random.key(0), (1, 256, 1, 8))
        >>> figure = plot_promises([("first head", try_promises(x, x, x, promises=[0.1, 0.01], is_causal=True), 0)])
        >>> len(figure.axes)
        4
    """
    counts = [len(trials) for _, trials, _ in rows]
    if not counts or not counts[0] or len(set(counts)) > 1:
        refuse(
            OptionError,
            "plot_promises: rows of a picture have as many trials as one another.",
            got=f"{len(counts)} rows of {counts} trials",
            want="at least one row, and at least one trial in each",
            fix="pass what try_promises returns for the same promises.",
        )
    widths = [_MAP] * counts[0] + [_CURVE, _CURVE]
    size = sum(widths) + 0.6, 2.5 * len(rows) + 0.7
    figure = figure_class()(figsize=size, layout="constrained")
    grid = figure.subplots(len(rows), len(widths), squeeze=False, width_ratios=widths)
    for axes, (title, trials, head) in zip(grid, rows, strict=True):
        for axis, trial in zip(axes, trials, strict=False):
            _draw_map(axis, trial, np.asarray(trial.levels.levels)[batch, head])
        axes[0].set_ylabel(f"{title}\nquery", fontsize=9)
        _draw_bounds(axes[-2], trials, batch, head)
        _draw_work(axes[-1], trials, batch, head)
    _name_levels(figure, [trial for _, trials, _ in rows for trial in trials])
    return figure


def _draw_map(axis: Axes, trial: Trial, levels: np.ndarray) -> None:
    from matplotlib.colors import ListedColormap

    down, along = (int(trial.levels.tile) * tiles for tiles in levels.shape)
    colours = ListedColormap([_COLOURS[name] for name in LEVEL_NAMES])
    axis.imshow(
        levels,
        cmap=colours,
        vmin=-0.5,
        vmax=len(LEVEL_NAMES) - 0.5,
        interpolation="nearest",
        extent=(0, along, down, 0),
    )
    axis.set_title(f"eps = {trial.eps:g}", fontsize=9)
    axis.set_xlabel("key", fontsize=8)
    axis.set_xticks([0, along])
    axis.set_yticks([0, down])
    axis.tick_params(labelsize=7)


def _draw_bounds(axis: Axes, trials: Sequence[Trial], batch: int, head: int) -> None:
    """Draw the bound of each query as a line and its error as dots, for the first and the last promise."""
    shown = trials if len(trials) < 2 else (trials[0], trials[-1])
    for trial, colour in zip(shown, ("#c2410c", "#1f6fd6"), strict=False):
        unit = np.asarray(trial.certificate.value_scale)[batch, :, head]
        bound = np.asarray(trial.certificate.out_error)[batch, :, head] / unit
        error = trial.error[batch, :, head] / unit
        places = np.arange(len(bound))
        axis.semilogy(places, bound, color=colour, linewidth=1.4, label=f"bound, {trial.eps:g}")
        every = max(1, len(bound) // 128)
        axis.semilogy(places[::every], error[::every], ".", color=colour, markersize=2, label=f"error, {trial.eps:g}")
    axis.set_title("bound and error of a query, in values", fontsize=9)
    axis.set_xlabel("query", fontsize=8)
    axis.tick_params(labelsize=7)
    low, high = axis.get_ylim()
    # Room for the legend above all curves.
    axis.set_ylim(low, high * (high / low) ** 0.45)
    axis.legend(fontsize=7, ncols=2, loc="upper center", frameon=False)


def _draw_work(axis: Axes, trials: Sequence[Trial], batch: int, head: int) -> None:
    promises = [trial.eps for trial in trials]
    for name, style, done, exact in (
        ("operations", "o-", "flops", "flops_exact"),
        ("bytes", "s--", "bytes_read", "bytes_exact"),
    ):
        shares = [
            float(np.sum(getattr(trial.certificate, done)[batch, :, head]))
            / float(np.sum(getattr(trial.certificate, exact)[batch, :, head]))
            for trial in trials
        ]
        axis.semilogx(promises, shares, style, markersize=4, label=name)
    times = [trial.seconds / trial.seconds_exact for trial in trials]
    axis.semilogx(promises, times, "^-.", markersize=4, label="time")
    axis.axhline(1, color="#777777", linewidth=0.8, linestyle=":")
    # Room for the legend above all curves.
    axis.set_ylim(0, 1.35 * max(1.05, axis.get_ylim()[1]))
    axis.set_title("work, of exact attention's", fontsize=9)
    axis.set_xlabel("eps", fontsize=8)
    axis.set_xticks(promises, [f"{eps:g}" for eps in promises])
    axis.minorticks_off()
    axis.tick_params(labelsize=7)
    axis.legend(fontsize=7, ncols=3, loc="upper center", frameon=False, columnspacing=1)


def _name_levels(figure: Figure, trials: Sequence[Trial]) -> None:
    from matplotlib.patches import Patch

    numbers = np.unique(np.concatenate([np.ravel(np.asarray(trial.levels.levels)) for trial in trials]))
    names = [LEVEL_NAMES[number] for number in numbers]
    patches = [Patch(facecolor=_COLOURS[name], edgecolor="#777777", linewidth=0.5, label=name) for name in names]
    figure.legend(
        handles=patches, loc="outside lower center", ncols=len(patches), fontsize=8, frameon=False,
        title="a tile of keys for a tile of queries was", title_fontsize=8,
    )  # fmt: skip
