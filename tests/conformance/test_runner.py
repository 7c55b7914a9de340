"""The runner itself, with the CPU as the platform under test."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from lowering import lower
from lowering.errors import UnsupportedError
from tests.conformance import outcomes, record
from tests.conformance.__main__ import main, select, spread
from tests.conformance.harnesses import Case
from tests.conformance.outcomes import Result
from tests.conformance.pool import Worker

CASES = [Case(f"{primitive}_{number}", primitive, "float32") for primitive in "abc" for number in range(10)]


def test_spread_takes_every_primitive_before_a_second_case() -> None:
    assert {case.primitive for case in spread(CASES, 3, seed=0)} == {"a", "b", "c"}


def test_spread_is_the_same_for_the_same_seed() -> None:
    assert spread(CASES, 12, seed=5) == spread(CASES[::-1], 12, seed=5)
    assert spread(CASES, 12, seed=5) != spread(CASES, 12, seed=6)


def test_select_parts_cover_the_selection_once() -> None:
    parts = [select(CASES, "", 20, 0, f"{part}/3") for part in (1, 2, 3)]
    assert sorted(case.name for part in parts for case in part) == sorted(case.name for case in spread(CASES, 20, 0))


def refusal(got: str) -> str:
    return f"import_module: everything in the program must have a Vulkan lowering.\n  got:  {got}\n  want: other things"


@pytest.mark.parametrize(
    "got",
    [
        "operation sort (1 use at model.py:3 in f)",
        "operation custom_call @ApproxTopK (1 use); operation fft (2 uses at a.py:1, b.py:2)",
        "dtype f8E4M3FN (1 use)",
    ],
)
def test_outcome_of_a_refusal_outside_the_promise_is_fine(got: str) -> None:
    assert outcomes.outcome_of_error(refusal(got)) == outcomes.UNSUPPORTED


@pytest.mark.parametrize(
    "got",
    [
        "operation add (1 use)",
        "operation sort (1 use); operation add (1 use)",
        "operation custom_call @Sharding (1 use)",
        "dtype f32 (1 use)",
        "nothing",
    ],
)
def test_outcome_of_a_refused_promise_is_missing(got: str) -> None:
    assert outcomes.outcome_of_error(refusal(got)) == outcomes.MISSING


def test_outcome_of_a_refusal_by_jax_itself_is_an_error() -> None:
    text = "NotImplementedError: MLIR translation rule for primitive 'eigh' not found for platform vulkan"
    assert outcomes.outcome_of_error(text) == outcomes.ERROR


def test_outcome_of_another_error_is_an_error() -> None:
    assert outcomes.outcome_of_error("RuntimeError: operation sort (1 use) went wrong") == outcomes.ERROR


def test_refusal_of_the_importer_is_recognised() -> None:
    with pytest.raises(UnsupportedError) as caught:
        print(lower(jnp.sort)(jax.ShapeDtypeStruct((8,), jnp.float32)).graph)
    assert outcomes.refusals(str(caught.value)) == {"sort"}


def test_record_leaves_out_a_line_cut_short(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    result = Result("add_1", "add", "float32", False, outcomes.PASS)
    record.append(file, result.as_record())
    with file.open("a") as stream:
        stream.write('{"name": "add_2", "outc')
    assert record.read(file) == [result]


def test_record_goes_on_after_a_line_cut_short(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    file.write_text('{"name": "add_2", "outc')
    result = Result("add_1", "add", "float32", False, outcomes.PASS)
    record.append(file, result.as_record())
    assert record.read(file) == [result]


def test_table_counts_by_primitive_and_in_total() -> None:
    results = [Result("x", "add", "float32", False, name) for name in (outcomes.PASS, outcomes.PASS, outcomes.WRONG)]
    lines = [line.split() for line in record.table(results).splitlines()]
    assert lines == [["primitive", "pass", "wrong"], ["add", "2", "1"], ["total", "2", "1"]]


def test_main_passes_a_primitive_on_the_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.jsonl"
    options = ["--platform", "cpu", "--x64", "off", "--jobs", "1", "--filter", "logistic", "--out", str(file)]
    assert main(options) == 0
    names = {result.name for result in record.read(file)}
    assert len(names) == 4
    file.write_text("\n".join(line for line in file.read_text().splitlines()[:-1]))
    assert main([*options, "--resume"]) == 0
    assert {result.name for result in record.read(file)} == names
    assert "1 cases (3 in the record already)" in capsys.readouterr().out


def test_markdown_counts_by_primitive_and_mode() -> None:
    outcome = {"a": outcomes.PASS, "b": outcomes.UNSUPPORTED, "c": outcomes.PASS}
    results = [Result(f"{p}_{x64}", p, "float32", x64, outcome[p]) for p in "abc" for x64 in (False, True)]
    text = record.markdown([*results[1:], Result("a_2", "a", "float32", True, outcomes.WRONG)])
    assert text.splitlines() == [
        "| primitive | pass, x64 off | unsupported, x64 off | pass, x64 on | unsupported, x64 on | wrong, x64 on |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| `a` |  |  | 1 |  | 1 |",
        "| `b` |  | 1 |  | 1 |  |",
        "| `c` | 1 |  | 1 |  |  |",
        "| **all** | 1 | 1 | 2 | 1 | 1 |",
    ]


def test_second_judged_are_passes_with_a_word() -> None:
    plain, judged = (Result(name, "log1p", "float64", True, outcomes.PASS, name) for name in ("", "said"))
    wrong = Result("w", "log1p", "float64", True, outcomes.WRONG, "off")
    assert record.second_judged([plain, wrong, judged]) == [judged]


class FakeWorker(Worker):
    """A child that answers, dies or hangs, by the name of the case."""

    SCRIPT = (
        "import sys, os, time, json\n"
        "print(json.dumps({'ready': 'fake', 'jax': '0'}), flush=True)\n"
        "for line in sys.stdin:\n"
        "    if 'dies' in line: os.abort()\n"
        "    if 'hangs' in line: time.sleep(600)\n"
        "    print(json.dumps({'outcome': 'pass', 'detail': '', 'seconds': 0.0}), flush=True)\n"
    )

    def command(self) -> list[str]:
        return [sys.executable, "-c", self.SCRIPT]


def run_fake(*names: str) -> list[str]:
    with FakeWorker("cpu", x64=False) as worker:
        return [worker.run(Case(name, "add", "float32"), limit_seconds=1.0).outcome for name in names]


def test_worker_that_dies_is_counted_and_replaced() -> None:
    assert run_fake("fine", "dies", "fine") == [outcomes.PASS, outcomes.CRASH, outcomes.PASS]


def test_worker_that_hangs_is_counted_and_replaced() -> None:
    assert run_fake("hangs", "fine") == [outcomes.TIMEOUT, outcomes.PASS]


def test_worker_of_an_unknown_platform_says_what_jax_said() -> None:
    with Worker("nowhere", x64=False) as worker, pytest.raises(RuntimeError, match="nowhere"):
        worker.start()


def test_record_is_one_json_object_a_line(tmp_path: Path) -> None:
    record.append(tmp_path / "run.jsonl", {"platform": "cpu"})
    assert json.loads((tmp_path / "run.jsonl").read_text()) == {"platform": "cpu"}
