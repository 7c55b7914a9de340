"""A report prints, draws and writes a page that stands alone."""

from __future__ import annotations

import builtins
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from matplotlib.figure import Figure

import qga
from qga import OptionError
from qga.analysis import Report


@pytest.fixture(scope="module")
def report() -> Report:
    rows = jax.random.normal(jax.random.key(0), (3, 32, 4))
    return qga.analyze(rows, rows[::-1], rows, layer="<first>")


def test_table_has_a_line_for_each_head(report: Report) -> None:
    lines = str(report).splitlines()
    assert len(lines) == 4
    assert "keys seen" in lines[0]
    assert lines[2].split()[0] == "<first>.1"


def test_overview_has_a_picture_for_each_quantity(report: Report) -> None:
    figure = report.plot()
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert len(titles) == 6
    assert all(axis.get_xlabel() == "head" for axis in figure.axes if axis.get_title())
    bars = [axis.get_ylabel() for axis in figure.axes if not axis.get_title()]
    assert len(bars) == 6
    assert all(bars)
    assert "3 heads over 32 rows" in figure.get_suptitle()


def test_overview_draws_the_sign_of_curvature(report: Report) -> None:
    drawn = {axis.get_title(): axis.get_images()[0] for axis in report.plot().axes if axis.get_title()}
    low, high = drawn["how the metric is curved"].get_clim()
    assert low == -high
    low, high = drawn["keys a query looks at"].get_clim()
    assert 0 < low < high


def names_fit(figure: Figure) -> bool:
    """Tell whether the name of each colour bar is no longer than the bar, so that none meets the next."""
    figure.canvas.draw()
    bars = [axis for axis in figure.axes if not axis.get_title()]
    return all(bar.yaxis.label.get_window_extent().height <= bar.get_window_extent().height for bar in bars)


def test_names_of_colour_bars_fit(report: Report) -> None:
    figure = report.plot()
    assert names_fit(figure)
    figure.set_figheight(figure.get_figheight() / 2)
    assert not names_fit(figure)


def test_patterns_have_a_picture_for_each_head(report: Report) -> None:
    figure = report.plot_patterns("<first>")
    assert [axis.get_title() for axis in figure.axes[:3]] == ["head 0", "head 1", "head 2"]
    with pytest.raises(OptionError, match="got:  'second'\n  want: '<first>'"):
        report.plot_patterns("second")


@pytest.mark.parametrize("heads", [1, 3, 5])
def test_patterns_have_no_empty_picture(heads: int) -> None:
    rows = jax.random.normal(jax.random.key(1), (heads, 16, 4))
    figure = qga.analyze(rows, rows, rows, layer="0").plot_patterns("0")
    *pictures, bar = figure.axes
    assert len(pictures) == heads
    assert all(axis.get_images() and axis.get_xlabel() == "key, row" for axis in pictures)
    assert "share of attention" in bar.get_ylabel()


def test_heads_of_a_layer_share_one_scale(report: Report) -> None:
    limits = {axis.get_images()[0].get_clim() for axis in report.plot_patterns("<first>").axes[:3]}
    assert limits == {(0, max(float(head.tile_operator.max()) for head in report.heads))}


class Reader(HTMLParser):
    """Collects what a page holds."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src") and value and value[0] != "#"]


def test_page_stands_alone_and_escapes_names(report: Report, tmp_path: Path) -> None:
    page = report.to_html(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page
    reader = Reader()
    reader.feed(page)
    assert reader.tags.count("svg") == 2
    assert reader.tags.count("tr") == 4
    assert [link for link in reader.links if not link.startswith("data:image/png")] == []
    assert "<first>" not in page
    assert "Layer &lt;first&gt;" in page


def test_without_matplotlib_the_error_says_what_to_install(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(OptionError, match=r"fix:  pip install 'qga\[plot\]'"):
        report.plot()
    assert "keys seen" in str(report)


def test_layers_stay_in_order() -> None:
    rows = jnp.ones((1, 4, 2))
    reports = [qga.analyze(rows, rows, rows, layer=name) for name in ("b", "a")]
    joined = Report(tuple(head for each in reports for head in each.heads), 4)
    assert joined.layers == ("b", "a")
    assert [head.layer for head in joined.of_layer("a")] == ["a"]
