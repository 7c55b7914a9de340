"""A spread of the harnesses over every primitive, run on the platform `vulkan` as `make conformance` runs them all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conformance.__main__ import main

CASES = 150
PARTS = 6


@pytest.mark.slow
@pytest.mark.parametrize("x64", ["off", "on"])
@pytest.mark.parametrize("part", range(1, PARTS + 1))
def test_sample_has_no_defect(
    part: int, x64: str, vulkan: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(
        ["--sample", str(CASES), "--part", f"{part}/{PARTS}", "--x64", x64, "--jobs", "1", "--show", "50",
         "--platform", vulkan.platform, "--out", str(tmp_path / "record.jsonl")]
    )  # fmt: skip
    assert status == 0, capsys.readouterr().out
