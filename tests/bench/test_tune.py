"""The benchmark of tuning: what is chosen, counted and printed, and one small product measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from lowering.runtime import Device

from .tune import PRODUCTS, Product, main, measure, moved_bytes, select, table


def test_select_takes_beginnings_of_names() -> None:
    assert set(select("square, decode 1", is_quick=False)) == {
        "square f16", "square bf16", "square f32", "square i8", "decode 1", "decode 16", "decode 1 turned",
        "decode 16 turned",
    }  # fmt: skip
    assert select("", is_quick=False) == PRODUCTS


def test_select_refuses_other_names() -> None:
    with pytest.raises(ValueError, match="no product circle"):
        _ = select("circle", is_quick=False)


def test_quick_products_are_small() -> None:
    quick = select("", is_quick=True)
    assert quick["square f16"].size == "256x256x256"
    assert quick["decode 1"].size == "1x256x1024"


def test_moved_bytes_counts_every_operand_once() -> None:
    assert moved_bytes(Product("2x3x5x7", "f16")) == 2 * (15 + 35 + 21) * 2
    assert moved_bytes(Product("3x5x7", "i8", result="i32")) == 15 + 35 + 4 * 21


def test_a_small_product_is_tuned_and_timed_twice(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QGA_CACHE_DIR", str(tmp_path))
    row = measure(device, "square f32", Product("24x24x24", "f32"), 0.2)
    assert row["default"]["samples"] == row["tuned"]["samples"]
    assert row["kernels"][0]["refused"] == ()
    head, line = table([row])
    assert head.split()[0] == "product"
    assert "100%" in line


def test_an_unknown_name_stops_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "circle"]) == 2
    assert "there are: square f16" in capsys.readouterr().err
