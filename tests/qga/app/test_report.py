"""The report: figures that are well-formed, and a page that needs nothing else."""

from __future__ import annotations

import base64
import re
import struct
import zlib
from xml.etree import ElementTree

import numpy as np
import pytest

from qga.app.run.report.png import heat_map
from qga.app.run.report.svg import Axes, Series, bar_chart, line_chart


def parse(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def find(svg: str, kind: str, style: str) -> list[ElementTree.Element]:
    return [part for part in parse(svg).iter() if part.tag.endswith(kind) and style in part.get("class", "").split()]


def test_line_chart_draws_each_series() -> None:
    svg = line_chart(
        [Series("a", "cpu", np.array([1.0, 2.0])), Series("b", "vulkan", np.array([2.0, 3.0]))], Axes("x", "y")
    )
    assert len(find(svg, "path", "cpu")) == len(find(svg, "path", "vulkan")) == 2
    assert "M" in find(svg, "path", "cpu")[0].get("d", "")


def test_line_breaks_where_there_is_no_number() -> None:
    svg = line_chart([Series("a", "cpu", np.array([1.0, np.nan, 3.0, 4.0]))], Axes("x", "y"))
    (path,) = find(svg, "path", "cpu")
    assert path.get("d", "").count("M") == 2


def test_dots_are_drawn_only_for_numbers() -> None:
    svg = line_chart([Series("a", "cpu", np.array([1e-7, np.nan, 1e-6]), is_dots=True)], Axes("x", "y", is_log=True))
    assert len(find(svg, "circle", "cpu")) == 2


@pytest.mark.parametrize("values", [[0.0], [1.0, 1.0], [np.nan, np.nan], [1e-9, 1e9], [0.0, 5.25]])
@pytest.mark.parametrize("is_log", [False, True])
def test_points_stay_inside_the_drawing(values: list[float], is_log: bool) -> None:
    axes = Axes("x", "y", is_log=is_log)
    svg = line_chart([Series("a", "cpu", np.array(values))], axes)
    (path,) = find(svg, "path", "cpu")
    for x, y in re.findall(r"[ML]([-\d.]+) ([-\d.]+)", path.get("d", "")):
        assert 0 <= float(x) <= axes.width
        assert 0 <= float(y) <= axes.height


def test_bar_heights_are_proportional() -> None:
    svg = bar_chart(["one", "two"], [Series("a", "cpu", np.array([0.25, 0.5]))], Axes("x", "y"))
    low, high = (float(bar.get("height", "nan")) for bar in find(svg, "rect", "cpu"))
    assert abs(high - 2 * low) <= 0.2


def test_labels_are_escaped() -> None:
    svg = line_chart([Series("<a>", "cpu", np.ones(2)), Series("&", "vulkan", np.ones(2))], Axes("<x>", "|y|"))
    assert "<x>" in [part.text for part in parse(svg).iter()]


def test_heat_map_is_a_png_of_the_matrix() -> None:
    address = heat_map(np.array([[0.0, 1.0, 0.5], [2.0, -1.0, 0.5]]))
    content = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", content[16:24]) == (3, 2)
    size = struct.unpack(">I", content[33:37])[0]
    rows = np.frombuffer(zlib.decompress(content[41 : 41 + size]), np.uint8).reshape(2, 10)[:, 1:].reshape(2, 3, 3)
    assert rows[0, 0].tolist() == rows[1, 1].tolist() == [68, 1, 84]
    assert rows[0, 1].tolist() == rows[1, 0].tolist() == [253, 231, 37]
