"""The report as one HTML page that stands alone."""

from __future__ import annotations

import html
import io
from importlib import resources
from typing import TYPE_CHECKING

from .head import Head, Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .report import Report

_COLUMNS: tuple[tuple[str, str], ...] = (
    ("head", "layer and number"),
    ("keys seen", "How many keys a query looks at: e to the entropy of its attention, averaged over queries."),
    ("effective rank", "How many directions the pattern uses: e to its entanglement entropy. Certain bounds."),
    ("information", "Nats that the key looked at tells about the query. Zero: every query looks alike."),
    ("capacity", "The most nats that any choice of queries could route, tile to tile. Certain bounds."),
    ("metric", "Share of the attention metric in its leading direction: near 1, one direction of the query matters."),
    ("curvature", "Median curvature of the metric on its leading plane: 0 flat, 1/4 a choice among three keys."),
    ("smoothing", "Variance of the mixed values over that of the values. Near 0 all rows come out alike."),
    ("gap", "Spectral gap of the walk that follows attention in either direction: how fast it forgets."),
    ("conductance", "Bounds of the narrowest cut of the attention network (Cheeger)."),
    ("mixing time", "Bounds of the flow time until every start is within 1/4 of the stationary law."),
    ("bottleneck", "The link between tiles of rows that is hardest to do without; leverage 1 is a bridge."),
    ("phase gap", "Smallest phase of the quantum walk: at least the square root of twice the gap."),
    ("entropy rate", "Nats that each step of the walk tells."),
    ("finest scale", "Share of the energy of the rows in the finest scale of tiles: high for heads that pick places."),
)


def write_page(report: Report) -> str:
    """Write the page: how to read it, an overview, a table of all heads, and the patterns of every layer."""
    style = resources.files("qga.analysis").joinpath("page.css").read_text(encoding="utf-8")
    kind = "causal" if all(head.is_causal for head in report.heads) else "bidirectional"
    count = len(report.heads)
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Attention report</title>",
        f"<meta name='viewport' content='width=device-width'><style>{style}</style></head><body><main>",
        "<h1>Attention report</h1>",
        f"<p>{count} {kind} heads in {len(report.layers)} layers, over {report.rows} rows.</p>",
        "<h2>Overview</h2>",
        "<p>Each square is a head. Colours stop where a twentieth of the heads is left at either end; arrows say that"
        " there are such heads. Grey: no number. What the numbers mean stands below the table.</p>",
        _picture(report.plot()),
        "<h2>Numbers</h2>",
        _table(report),
        "<h2>What the numbers mean</h2><dl>",
        *(f"<dt>{html.escape(name)}</dt><dd>{html.escape(meaning)}</dd>" for name, meaning in _COLUMNS[1:]),
        "</dl><h2>Patterns</h2>",
        "<p>Where each head looks, averaged over tiles of rows; brighter is more, on one scale for a layer."
        " Colours follow the square root of the share, so that small ones are seen.</p>",
    ]
    for layer in report.layers:
        parts += [f"<h3>Layer {html.escape(layer)}</h3>", _picture(report.plot_patterns(layer))]
    return "\n".join([*parts, "</main></body></html>\n"])


def _table(report: Report) -> str:
    head = "".join(f"<th title='{html.escape(meaning)}'>{html.escape(name)}</th>" for name, meaning in _COLUMNS)
    rows = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in _cells(each))}</tr>" for each in report.heads)
    return f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"


def _cells(head: Head) -> list[str]:
    values = head.metric_eigenvalues
    leading = "" if values is None or not values.sum() else f"{values[0] / values.sum():.2f}"
    narrow = ""
    if len(head.bottlenecks):
        first, second = (int(tile) * head.tile for tile in head.bottlenecks[0])
        narrow = f"rows {first} and {second}, {head.leverage[0]:.2f}"
    return [
        html.escape(f"{head.layer}.{head.head}"),
        f"{head.keys_seen:.1f}",
        _between(head.effective_rank),
        f"{head.information:.3f}",
        _between(head.capacity),
        leading,
        f"{head.median_curvature:.3g}",
        f"{head.smoothing:.3f}",
        f"{head.spectral_gap:.4f}",
        _between(head.cheeger),
        _between(head.mixing_time),
        narrow,
        f"{float(head.arithmetic.phase_gap):.3f}",
        f"{float(head.arithmetic.entropy_rate):.3f}",
        f"{head.weight_spectrum[-1]:.3f}",
    ]


def _between(interval: Interval) -> str:
    low, high = f"{interval.lower:.3g}", f"{interval.upper:.3g}"
    return low if low == high else f"{low} to {high}"


def _picture(figure: Figure) -> str:
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    return f"<figure>{text[text.index('<svg') :]}</figure>"
