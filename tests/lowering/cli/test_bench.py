from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from lowering.cli.cases import CASES
from qga.app.main import main


@pytest.mark.parametrize("name", CASES)
def test_case_runs_and_is_finite(name: str) -> None:
    case = CASES[name]
    result = jax.jit(case.function)(*case.inputs(1))
    assert np.isfinite(np.asarray(result)).all()


@pytest.mark.parametrize("name", CASES)
def test_case_grows_with_the_scale_where_it_says_so(name: str) -> None:
    case = CASES[name]
    assert (case.shapes_at(2) == case.shapes_at(1)) == (not any(case.scaled))


def test_case_counts_bytes_and_operations() -> None:
    assert CASES["softmax"].moved_bytes(1) == 2 * 4 * 1024 * 1024
    assert CASES["matmul"].operations(2) == 2 * 1024**3


def test_bench_prints_a_row_and_writes_the_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bench.json"
    options = ["bench", "dispatch", "--platform", "cpu", "--seconds", "0.01", "--out", str(file)]
    assert main(options) == 0
    assert "dispatch" in capsys.readouterr().out
    record = json.loads(file.read_text())
    assert record["jax"] == jax.__version__
    (row,) = record["rows"]
    assert row["case"] == "dispatch"
    assert row["ratio"] > 0
    assert row["device"]["runs"] >= 3


def test_bench_refuses_an_unknown_case(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "nonsense"]) == 2
    assert "there are: dispatch" in capsys.readouterr().out


def test_bench_on_a_platform_that_does_not_start_says_where_to_look(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "dispatch", "--platform", "nowhere"]) == 2
    assert "run `qga devices`" in capsys.readouterr().err
