"""Put a report on one HTML page that needs nothing else."""

from __future__ import annotations

import html
from importlib import resources

import jax
import numpy as np

from ..analyse import FLOW_TIME, HeadNumbers
from .contents import Half, Report
from .levels import adaptive_section
from .numbers import Row, collect_numbers
from .png import heat_map
from .svg import Axes, Series, bar_chart, line_chart

_FLOAT32_EPS = float(np.finfo(np.float32).eps)


def render(report: Report) -> str:
    """Write the page."""
    sections = [
        _head(report),
        _curves(report),
        _agreement(report),
        _times(report),
        _heads(report),
        _adaptive(report),
        _numbers(collect_numbers(report), list(report.halves)),
        _sample(report),
        _repeat(report),
    ]
    style = resources.files("qga.app.run.report").joinpath("page.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>qga run: {html.escape(report.text.name)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        + "\n".join(sections)
        + "\n</body>\n</html>\n"
    )


def _head(report: Report) -> str:
    steps = max(half.checkpoint.step for half in report.halves.values())
    where = " and ".join(f"{_title(name)} ({html.escape(half.device)})" for name, half in report.halves.items())
    lead = (
        f"A transformer of {report.model.layers} layers and {report.model.heads} heads with {report.model.attention} "
        f"attention learned to predict the next character of {html.escape(report.text.name)} "
        f"({len(report.text.numbers):,} characters) in {steps} steps on {where}."
    )
    notice = ""
    if report.missing:
        notice = (
            '<p class="notice">There was no Vulkan device, so only the CPU half ran and nothing is compared. '
            f"JAX said: {html.escape(report.missing)}. Run <code>qga devices</code> to see what is missing.</p>"
        )
    return f'<h1>One text, one model, {_count(len(report.halves))}</h1>\n<p class="lead">{lead}</p>{notice}'


def _curves(report: Report) -> str:
    series = [Series(_title(name), name, half.checkpoint.losses) for name, half in report.halves.items()]
    guess = np.log(report.model.vocabulary)
    return _section(
        "Learning",
        f"Surprise at the next character, in nats, averaged over each batch. Blind guessing costs {guess:.2f}. "
        "Curves that lie on each other mean that both backends learn the same thing.",
        line_chart(series, Axes("step", "loss (nats)", low=0.0)),
    )


def _agreement(report: Report) -> str:
    if len(report.halves) < 2:
        return ""
    first, second = (half.checkpoint.losses for half in report.halves.values())
    steps = min(len(first), len(second))
    differences = np.abs(first[:steps] - second[:steps]) / first[:steps]
    equal = int(np.sum(differences == 0))
    # Equal losses have no logarithm and no dot; the text counts them.
    shown = np.where(differences > 0, differences, np.nan)
    series = [
        Series("difference", "vulkan", shown, is_dots=True),
        Series("float32 rounding", "limit", np.full(steps, _FLOAT32_EPS)),
    ]
    return _section(
        "Agreement",
        "Relative difference of the two losses at each step. Both start from the same bits and see the same batches; "
        "they differ because sums are taken in another order, and training lets such differences grow. "
        f"The largest is {differences.max():.1e}; {equal} of {steps} losses are equal to the last bit.",
        line_chart(series, Axes("step", "|cpu - vulkan| / cpu", is_log=True)),
    )


def _times(report: Report) -> str:
    series = [Series(_title(name), name, 1e3 * half.checkpoint.seconds) for name, half in report.halves.items()]
    medians = ", ".join(f"{1e3 * half.median_seconds:.1f} ms on {_title(name)}" for name, half in report.halves.items())
    return _section(
        "Time of each step",
        f"Wall time from sending the batch to holding the loss, compilation not included. Median: {medians}. "
        "A Vulkan device that is itself a CPU program (lavapipe) shows that it works, not how fast a GPU is.",
        line_chart(series, Axes("step", "milliseconds", is_log=True, height=260)),
    )


def _heads(report: Report) -> str:
    name, half = next(reversed(report.halves.items()))
    intro = (
        f"Heads of the model trained on {_title(name)}, on one example. Rows are the characters that look, columns the "
        "ones looked at; dark is nothing, yellow everything (the colour follows the square root of the weight). "
        f"Heat flow applies a head's attention a random number of times, {FLOW_TIME:g} on average: it shows what "
        "reaches a place through other places. Large numbers of times are cut off; that changes no row by more than "
        f"{float(half.look.tail):.1e} of its weight."
    )
    panels = "\n".join(_head_panel(half, numbers) for numbers in half.heads)
    shown = html.escape(report.shown)
    return _section("Inside the heads", intro, f'<pre>{shown}</pre>\n<div class="row">{panels}</div>')


def _adaptive(report: Report) -> str:
    half = next(reversed(report.halves.values()))
    titles = [f"Layer {numbers.layer + 1}, head {numbers.head + 1}" for numbers in half.heads]
    return _section("What adaptive attention leaves out", *adaptive_section(report.adapted, titles))


def _head_panel(half: Half, numbers: HeadNumbers) -> str:
    before = half.look.maps[numbers.layer, numbers.head]
    after = half.look.flowed[numbers.layer, numbers.head]
    places = len(before)
    entropy = line_chart(
        [
            Series("attention", "cpu", numbers.row_entropy),
            Series("after flow", "vulkan", numbers.flowed_entropy),
            Series("most possible", "limit", np.log(np.arange(1, places + 1))),
        ],
        Axes("place in the example", "row entropy (nats)", width=520, height=220, low=0.0),
    )
    names = ["mean", *(str(places >> level) for level in range(len(numbers.spectrum) - 1))]
    spectrum = bar_chart(
        names,
        [Series("share", "cpu", numbers.spectrum)],
        Axes("scale in characters (coarse to fine)", "share of energy", width=520, height=200),
    )
    mean_entropy = float(numbers.row_entropy.mean())
    return (
        f'<div class="head"><h3>Layer {numbers.layer + 1}, head {numbers.head + 1}: '
        f"a row looks at {np.exp(mean_entropy):.1f} characters, rank {numbers.effective_rank:.1f}</h3>"
        f'<div class="maps">{_map("attention", before)}{_map(f"after flow, t = {FLOW_TIME:g}", after)}</div>'
        f"<figure>{entropy}</figure><figure>{spectrum}</figure></div>"
    )


def _map(caption: str, matrix: np.ndarray) -> str:
    alt = html.escape(f"{caption}: {len(matrix)} by {len(matrix)} weights", quote=True)
    image = f'<img src="{heat_map(np.sqrt(np.maximum(matrix, 0)))}" alt="{alt}">'
    return f"<figure>{image}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _numbers(rows: list[Row], backends: list[str]) -> str:
    header = "".join(f'<th class="number">{_title(name)}</th>' for name in backends)
    body = "\n".join(
        f"<tr><td>{html.escape(row.name)}</td>"
        + "".join(f'<td class="number">{html.escape(value)}</td>' for value in row.values)
        + f'<td class="meaning">{html.escape(row.meaning)}</td></tr>'
        for row in rows
    )
    table = f"<table><thead><tr><th>number</th>{header}<th>what it means</th></tr></thead><tbody>{body}</tbody></table>"
    return _section("Numbers", "", f'<div class="scroll">{table}</div>')


def _sample(report: Report) -> str:
    intro = "What the trained model writes, one character at a time. So small a model learns spelling, not sense."
    return _section("A sample", intro, f"<pre>{html.escape(report.sample)}</pre>")


def _repeat(report: Report) -> str:
    facts = (
        f"jax {jax.__version__}, seed {report.train.seed}, batches of {report.train.batch} examples of "
        f"{report.model.context} characters, adamw at {report.train.learning_rate:g}, text SHA-256 "
        f"{report.text.digest[:16]}"
    )
    return _section("Repeat it", html.escape(facts), f"<pre>{html.escape(report.command)}</pre>")


def _section(title: str, text: str, content: str) -> str:
    paragraph = f"<p>{text}</p>\n" if text else ""
    return f"<h2>{html.escape(title)}</h2>\n{paragraph}{content}"


def _title(name: str) -> str:
    return {"cpu": "CPU", "vulkan": "Vulkan"}.get(name, name)


def _count(halves: int) -> str:
    return "two backends" if halves == 2 else "one backend"
