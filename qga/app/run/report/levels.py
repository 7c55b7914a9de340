"""The section on adaptive attention: where it looked, what it promised, what was true, what it cost."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ....tiling import LEVEL_NAMES, level_shares, report_certificate
from ..adapt import SHOWN, SLOPE, Adapted
from .svg import Axes, Series, line_chart

_UNIT = 10
_WIDEST_CURVE = 256
_MEANINGS = {"half": ": one product of 16 bits", "split": ": three", "exact": ": in the given numbers"}


def adaptive_section(adapted: Adapted, titles: list[str]) -> tuple[str, str]:
    """Return the text before the pictures, and the pictures.

    Args:
        adapted: what was tried.
        titles: of the heads.
    """
    eps = adapted.trials[SHOWN].eps
    intro = (
        "<code>qga.adaptive_attention</code> leaves out tiles of keys, or multiplies in fewer bits, while the weights "
        "of every query change by at most eps in total variation. Here the heads read "
        f"{adapted.rows:,} characters, the examples one behind the other, as texts lie in a cache; each head as it is, "
        f"and with a bias that takes {SLOPE:g} nats for each character of distance (ALiBi), which it was not trained "
        f"with. Maps show eps = {eps:g}. Bounds hold whatever the rows are; errors are against exact attention in "
        "float64, and both are in lengths of a value. Trained heads without a bias that decays have little to skip: "
        "that is usual, and the map says so."
    )
    panels = "\n".join(_panel(adapted, head, title) for head, title in enumerate(titles))
    words = "\n\n".join(
        f"{name}, eps = {eps:g}\n{report_certificate(_of_heads(adapted.trials[SHOWN].certificate, heads))}"
        for name, heads in _halves(adapted)
    )
    return (
        intro,
        f'{_legend(adapted)}\n<div class="row">{panels}</div>\n{_table(adapted)}\n<pre>{html.escape(words)}</pre>',
    )


def level_picture(levels: np.ndarray, caption: str) -> str:
    """Draw a map of levels as SVG, whose colours come from the page; runs of equal tiles are one shape."""
    down, along = levels.shape
    shares = {name: float(share) for name, share in level_shares(levels).items() if share}
    label = ", ".join(f"{name} {100 * share:.3g} %" for name, share in shares.items())
    shapes = []
    for number, name in enumerate(LEVEL_NAMES):
        runs = [run for row in range(down) for run in _runs(levels[row] == number, row)]
        if runs:
            path = "".join(f"M{first * _UNIT} {row * _UNIT}h{count * _UNIT}v{_UNIT}h-{count * _UNIT}z"
                           for row, first, count in runs)  # fmt: skip
            shapes.append(f'<path class="level {_style(name)}" d="{path}"><title>{name}</title></path>')
    return (
        f'<figure><svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {along * _UNIT} {down * _UNIT}" role="img" '
        f'aria-label="{html.escape(f"{caption}: {label}", quote=True)}">{"".join(shapes)}</svg>'
        f"<figcaption>{html.escape(caption)}: {html.escape(label)}</figcaption></figure>"
    )


def _runs(marks: np.ndarray, row: int) -> list[tuple[int, int, int]]:
    """Return (row, first, count) of each run of marks."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], marks.astype(np.int8), [0]])))
    return [(row, int(first), int(end - first)) for first, end in edges.reshape(-1, 2)]


def _panel(adapted: Adapted, head: int, title: str) -> str:
    trial = adapted.trials[SHOWN]
    levels = np.asarray(trial.levels.levels)[0]
    maps = level_picture(levels[head], "as it is") + level_picture(levels[head + adapted.heads], "with decay")
    every = -(-adapted.rows // _WIDEST_CURVE)
    curves = []
    for name, style, place in (("as it is", "cpu", head), ("with decay", "vulkan", head + adapted.heads)):
        unit = np.asarray(trial.certificate.value_scale)[0, ::every, place]
        bound = np.asarray(trial.certificate.out_error)[0, ::every, place]
        error = trial.error[0, ::every, place]
        curves += [
            Series(f"bound, {name}", style, _positive(bound / unit)),
            Series(f"error, {name}", style, _positive(error / unit), is_dots=True),
        ]
    across = f"query, one in {every}" if every > 1 else "query"
    chart = line_chart(curves, Axes(across, "error / value", is_log=True, width=700, height=240))
    return (
        f'<div class="head"><h3>{html.escape(title)}</h3><div class="maps">{maps}</div><figure>{chart}</figure></div>'
    )


def _positive(values: np.ndarray) -> np.ndarray:
    """Leave a gap where a number has no logarithm."""
    return np.where(values > 0, values, np.nan)


def _legend(adapted: Adapted) -> str:
    found = np.unique(np.asarray(adapted.trials[SHOWN].levels.levels))
    names = [LEVEL_NAMES[number] for number in found]
    parts = "".join(f'<span><i class="{_style(name)}"></i>{name}{_MEANINGS.get(name, "")}</span>' for name in names)
    return f'<p class="levels">A tile of keys was, for a tile of queries: {parts}</p>'


def _table(adapted: Adapted) -> str:
    columns: tuple[tuple[str, Callable[[Any], str]], ...] = (
        ("left out", lambda each: f"{_share(each['levels'], 'left out')} %"),
        ("one product of 16 bits", lambda each: f"{_share(each['levels'], 'half')} %"),
        ("three", lambda each: f"{_share(each['levels'], 'split')} %"),
        ("operations", lambda each: f"{_ratio(each['certificate'], 'flops', 'flops_exact')}"),
        ("bytes", lambda each: f"{_ratio(each['certificate'], 'bytes_read', 'bytes_exact')}"),
        ("largest bound", lambda each: f"{np.max(each['certificate'].relative_error):.2g}"),
        ("largest error", lambda each: f"{np.max(each['error']):.2g}"),
        ("sound", lambda each: f"{100 * np.mean(each['certificate'].sound):.3g} %"),
    )
    lines = []
    for trial in adapted.trials:
        for name, heads in _halves(adapted):
            certificate = _of_heads(trial.certificate, heads)
            found = {
                "levels": np.asarray(trial.levels.levels)[0, heads],
                "certificate": certificate,
                "error": trial.error[..., heads] / np.asarray(certificate.value_scale),
            }
            cells = "".join(f'<td class="number">{read(found)}</td>' for _, read in columns)
            lines.append(f"<tr><td>{trial.eps:g}</td><td>{name}</td>{cells}</tr>")
    header = "".join(f'<th class="number">{name}</th>' for name, _ in columns)
    times = ", ".join(f"{1e3 * trial.seconds:.3g} ms at eps = {trial.eps:g}" for trial in adapted.trials)
    return (
        f'<div class="scroll after"><table><thead><tr><th>eps</th><th>heads</th>{header}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>\n<p>Operations and bytes are in those of exact attention, "
        "with what was scored for the plan; a promise that rounding alone may break is not sound, and its bounds hold "
        f"still. All heads together took {times} on the CPU, and exact attention "
        f"{1e3 * adapted.trials[0].seconds_exact:.3g} ms. Products of fewer bits "
        "save time on matrix units, and cost time without them, as on a CPU.</p>"
    )


def _halves(adapted: Adapted) -> tuple[tuple[str, slice], ...]:
    return ("as they are", slice(adapted.heads)), ("with decay", slice(adapted.heads, None))


def _of_heads(certificate: Any, heads: slice) -> Any:
    return jax.tree.map(lambda each: each[..., heads], certificate)


def _share(levels: np.ndarray, name: str) -> str:
    return f"{100 * float(np.mean(level_shares(levels)[name])):.3g}"


def _ratio(certificate: Any, done: str, exact: str) -> str:
    return f"{float(np.sum(getattr(certificate, done))) / float(np.sum(getattr(certificate, exact))):.3g}"


def _style(name: str) -> str:
    return name.replace(" ", "-")
