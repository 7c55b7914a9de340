"""The table of public kernels says what every row computes, and how each of them ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pallas.__main__ import run_one, select
from tests.pallas.public import BY_NAME
from tests.pallas.table import BACKWARD, FAILS, REFUSED, RUNS, WHAT, WRONG, Outcome, counts, markdown, outcome_of_error

REFUSAL = """UNIMPLEMENTED: The blocks must fit.
  got:  47,488 bytes
  want: at most 32,768 bytes
  fix:  make them smaller.
"""


def test_every_row_says_what_it_computes() -> None:
    assert {name.removesuffix(BACKWARD) for name in BY_NAME} == WHAT.keys()


def test_a_refusal_is_told_from_a_failure() -> None:
    assert outcome_of_error("tpu.matmul", REFUSAL).outcome == REFUSED
    assert outcome_of_error("tpu.matmul", "INTERNAL: lost the device").outcome == FAILS


def test_table_has_a_row_for_each_outcome() -> None:
    outcomes = [
        Outcome("tpu.matmul", RUNS, "", 1.25, 0.0125, 0.015),
        Outcome("tpu.example_kernel", RUNS, "", 1.0, 0.5),
        Outcome("tpu.megablox.gmm.backward", REFUSED, REFUSAL),
        Outcome("gpu.softmax", WRONG, "element (0,): got 1|2"),
    ]
    lines = markdown(outcomes).splitlines()
    assert lines[2:6] == [
        "| `tpu.matmul` | matrix product, depth along the grid | runs | 1.2 | 0.013 | 0.01 |",
        "| `tpu.example_kernel` | twice an array | runs | 1.0 | 0.500 | exact |",
        "| `tpu.megablox.gmm.backward` | gradient of product of groups of rows, each with its own matrix "
        "| refused: The blocks must fit. Got 47,488 bytes |  |  |  |",
        "| `gpu.softmax` | softmax of rows | wrong: element (0,): got 1\\|2 |  |  |  |",
    ]
    assert counts(outcomes) == "4 kernels: 2 runs, 1 refused, 1 wrong"


def test_names_choose_whole_rows_or_parts() -> None:
    assert select([]) == list(BY_NAME)
    assert select(["tpu.matmul"]) == ["tpu.matmul"]
    assert select(["layer_norm"]) == ["gpu.layer_norm", "gpu.layer_norm.backward"]


def test_a_row_that_ends_its_process_is_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JAX_PLATFORMS", "none")
    place, outcome = run_one("gpu.softmax", 100.0, str(tmp_path))
    assert (place, outcome.outcome) == ("", FAILS)
    assert "status 1" in outcome.detail
