from __future__ import annotations

from pathlib import Path

import pytest

from qga.app.main import main


@pytest.mark.parametrize(
    ("stage", "word"), [("stablehlo", "stablehlo.tanh"), ("graph", "tanh"), ("schedule", "tanh"), ("spirv", "OpStore")]
)
def test_inspect_prints_every_stage(program: Path, stage: str, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", f"{program}:double", "--shapes", "f32[8,3]", "--stage", stage]) == 0
    assert word in capsys.readouterr().out


def test_inspect_prints_the_cost(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", f"{program}:double", "--shapes", "f32[8,3]", "--cost"]) == 0
    assert "bytes" in capsys.readouterr().out


def test_inspect_prints_errors_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "nowhere.py:f", "--shapes", "f32[1]"]) == 2
    assert "fix:" in capsys.readouterr().err
