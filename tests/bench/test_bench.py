"""The pieces of the benchmark, without any timing: counts, checks, derived numbers, processes."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from lowering.runtime import Device
from shaders.capabilities import Capabilities
from shaders.library.matmul import MatmulProblem

from .cases import MATRIX, MEMORY, Case, all_cases
from .check import checked_run, difference, reference
from .derive import derive, promises
from .jobs import FIRST, Run, do, select, select_sweep
from .kernels import measure_case, upload
from .machine import record_name, source_digest
from .processes import Worker
from .roof import copy_program, known_matrix_rate
from .sweep import candidates, prepare, problem_of, program_with, tiles_of
from .table import table
from .timing import timing_of
from .transformer import QUICK, batch_of, loss_of, parameters_of, structures_of

QUICK_CASES = all_cases(is_quick=True)
TINY = Case("tiny", MEMORY, lambda x: x * 2, (("f32", (3, 5)),))
PRODUCT = Case(
    "product", MATRIX, lambda a, b: a @ b, (("f32", (24, 16)), ("f32", (16, 40))), 2 * 24 * 16 * 40, 4.0, (16,)
)


# --- cases ------------------------------------------------------------------------------------------------------------


def test_bytes_count_each_argument_and_result_once() -> None:
    assert TINY.moved_bytes() == 2 * 15 * 4


def test_product_counts_its_operations() -> None:
    case = all_cases(is_quick=False)["matmul_f16"]
    assert case.operations == 2 * 4096**3
    assert case.moved_bytes() == 3 * 2 * 4096**2


def test_memory_cases_have_the_promised_size() -> None:
    assert all_cases(is_quick=False)["softmax_4096"].moved_bytes() == 2 * 4 * 2**26


def test_inputs_follow_from_the_seed() -> None:
    first, again, other = (TINY.arrays(seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_quick_and_full_runs_have_the_same_cases() -> None:
    assert QUICK_CASES.keys() == all_cases(is_quick=False).keys()


# --- checks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["layer_norm_gradient_1024", "softmax_1024", "sum_all"])
def test_f32_rounding_is_accepted(name: str) -> None:
    case = QUICK_CASES[name]
    wanted = reference(case, case.arrays(0))
    assert all(array.dtype == np.float64 for array in wanted)
    assert difference(case, [array.astype(np.float32) for array in wanted], wanted) == ""


@pytest.mark.parametrize("wrong", [np.nan, 1.001])
def test_wrong_element_is_found(wrong: float) -> None:
    wanted = [np.ones((40, 70))]
    got = wanted[0].astype(np.float32)
    got[33, 69] = wrong
    assert "1 of 2800 differ" in difference(TINY, [got], wanted)


def test_shape_must_agree() -> None:
    assert "shape" in difference(TINY, [np.ones((2, 3), np.float32)], [np.ones((3, 2))])


def test_results_land_in_poisoned_memory(device: Device) -> None:
    loaded = device.load(copy_program(1 << 16, 1))
    source = np.arange(1 << 14, dtype=np.uint32)
    results, facts = checked_run(device, loaded, upload(device, [source]))
    assert np.array_equal(results[0], source)
    assert facts["outputs_poisoned"] == facts["outputs"] == 1


def test_unwritten_result_is_noticed(device: Device) -> None:
    program = copy_program(1 << 16, 1)
    half = dataclasses.replace(program.steps[0], groups=(2, 1, 1))
    loaded = device.load(dataclasses.replace(program, steps=(half,)))
    results, _ = checked_run(device, loaded, upload(device, [np.arange(1 << 14, dtype=np.uint32)]))
    assert results[0][0] == 0
    assert results[0][-1] == 0xFFFFFFFF


def test_case_is_measured(device: Device) -> None:
    answer = measure_case(device, PRODUCT, seed=0, seconds=0.01)
    assert answer["status"] == "ok"
    assert answer["device"]["median_us"] > 0
    assert answer["check"]["outputs_poisoned"] == 1


def test_wrong_case_is_not_timed(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.bench.kernels.reference", lambda case, arrays: [np.zeros((24, 40))])
    answer = measure_case(device, PRODUCT, seed=0, seconds=0.01)
    assert answer["status"] == "wrong"
    assert "wall" not in answer


@pytest.mark.parametrize("per_lane", [1, 2, 4])
def test_copy_kernel_copies(device: Device, per_lane: int) -> None:
    source = np.random.default_rng(0).integers(0, 1 << 32, 1 << 14, np.uint32)
    loaded = device.load(copy_program(source.nbytes, per_lane))
    target = np.empty_like(source)
    device.download(loaded.run(upload(device, [source]))[0], target)
    assert np.array_equal(target, source)


# --- sweep ------------------------------------------------------------------------------------------------------------


def square(dtype: str, size: int = 4096) -> MatmulProblem:
    return MatmulProblem(1, size, size, size, dtype, dtype, "f32", dtype)


@pytest.mark.parametrize("dtype", ["f16", "f32"])
def test_candidates_fit_the_device_and_differ(capabilities: Capabilities, dtype: str) -> None:
    rows = candidates(square(dtype), capabilities, is_quick=False)
    texts = [json.dumps(row) for row in rows]
    assert len(rows) >= 3
    assert len(set(texts)) == len(texts)


def test_products_of_narrow_types_try_matrix_units() -> None:
    facts = Path(__file__).parents[1] / "shaders" / "capabilities" / "h100.json"
    rows = candidates(square("f16"), Capabilities.from_text(facts.read_text()), is_quick=False)
    assert {row["kernel"] for row in rows} == {"matrix"}
    assert any("band" in row for row in rows)


def test_candidate_computes_the_product(device: Device) -> None:
    prepared = prepare(device, PRODUCT, seed=0)
    row = {"kernel": "registers", "part": [4, 2]}
    tiles = tiles_of(row, problem_of(prepared.fused), device.capabilities)
    assert tiles is not None
    loaded = device.load(program_with(prepared, tiles, device.capabilities))
    results, _ = checked_run(device, loaded, prepared.inputs)
    assert difference(PRODUCT, results, prepared.wanted) == ""


# --- jobs -------------------------------------------------------------------------------------------------------------


def test_every_job_is_chosen_when_none_is_named() -> None:
    assert select([], is_quick=True, has_sweep=False)[: len(FIRST)] == list(FIRST)


def test_names_and_groups_choose_jobs_with_their_roof() -> None:
    assert select(["softmax_1", "dispatch"], is_quick=True, has_sweep=False) == ["roof", "dispatch", "softmax_1024"]
    assert "decode_f16" in select(["matmul"], is_quick=True, has_sweep=False)


def test_sweep_alone_runs_no_job() -> None:
    assert select(["sweep"], is_quick=True, has_sweep=True) == []
    assert select_sweep(["matmul"], is_quick=True) == ["matmul_f16", "matmul_f32", "matmul_bf16"]


def test_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="no case or group 'softmin'"):
        select(["softmin"], is_quick=True, has_sweep=False)


class Answering:
    """A worker that answers from a table and counts its requests."""

    def __init__(self, answer: Callable[[str], dict[str, Any]]) -> None:
        self.answer = answer
        self.asked: list[str] = []

    def ask(self, task: str, limit_s: float, **request: Any) -> dict[str, Any]:
        self.asked.append(task)
        return self.answer(task)

    def stop(self) -> None:
        """Nothing runs."""


def run_with(ours: Answering, peer: Answering, end: float) -> Run:
    record = {"peer": {"platform": "cpu"}}
    return Run(ours, peer, {}, end, lambda _: None, Path(), record)  # pyright: ignore[reportArgumentType]


def test_peer_is_not_asked_about_a_wrong_case() -> None:
    ours, peer = Answering(lambda _: {"status": "wrong", "why": "zero"}), Answering(lambda _: {"status": "ok"})
    assert do(run_with(ours, peer, float("inf")), "chain")["status"] == "wrong"
    assert peer.asked == []


def test_nothing_starts_when_the_time_is_over() -> None:
    ours = Answering(lambda _: {"status": "ok"})
    assert do(run_with(ours, ours, 0.0), "chain")["status"] == "not run"
    assert ours.asked == []


@pytest.mark.parametrize(("was_compiled", "status"), [(False, "ok"), (True, "error")])
def test_compile_must_find_its_cache(was_compiled: bool, status: str) -> None:
    answers = iter([{"status": "ok", "was_compiled": True}, {"status": "ok", "was_compiled": was_compiled}])
    ours = Answering(lambda _: next(answers))
    assert do(run_with(ours, ours, float("inf")), "compile")["status"] == status


def test_process_that_dies_is_reported(tmp_path: Path) -> None:
    answer = Worker("nonsense", tmp_path, tmp_path).ask("greet", 60.0)
    assert answer["status"] == "crash"
    assert "KeyError" in answer["why"]


def test_process_that_is_silent_is_ended(tmp_path: Path) -> None:
    worker = Worker("peer", tmp_path, tmp_path)
    assert worker.ask("greet", 0.01)["status"] == "timeout"
    assert worker._process is None


# --- derived numbers --------------------------------------------------------------------------------------------------


def timed(us: float) -> dict[str, Any]:
    return dataclasses.asdict(timing_of([us, us]))


def record_of(device_name: str, **cases: dict[str, Any]) -> dict[str, Any]:
    head = {
        "device": {"name": device_name, "type": "discrete", "driver": "x 1"},
        "quick": False,
        "date": "2026-01-02T03",
    }
    peer = {"platform": "gpu", "name": "a card"}
    return {**head, "peer": peer, "sweeps": {}, "not_run": [], "cases": cases}


def answer_of(us: float, nbytes: int, peer_us: float) -> dict[str, Any]:
    peer = {"status": "ok", "platform": "gpu", "wall": timed(peer_us)}
    return {"status": "ok", "bytes": nbytes, "wall": timed(us), "device": timed(us), "peer": peer}


def test_fraction_of_the_roof_and_ratio() -> None:
    case = dataclasses.replace(TINY, name="chain")
    record = record_of("card", roof={"status": "ok", "gb_per_s": 100.0}, chain=answer_of(10.0, 800_000, 5.0))
    derive(record, {"chain": case})
    answer = record["cases"]["chain"]
    assert answer["gb_per_s"] == pytest.approx(80.0)
    assert answer["of_roof"] == pytest.approx(0.8)
    assert answer["ratio"] == pytest.approx(0.5)


def test_promise_is_judged() -> None:
    record = record_of("card", roof={"status": "ok", "gb_per_s": 100.0}, chain=answer_of(10.0, 800_000, 5.0))
    cases = {"chain": dataclasses.replace(TINY, name="chain")}
    derive(record, cases)
    found = {row["what"]: row["is_kept"] for row in promises(record, cases)}
    assert found == {"chain: rate over the peer's": False, "wrong results among 2 checked": True}


def test_rate_of_our_own_is_no_roof() -> None:
    answer = answer_of(10.0, 800, 5.0)
    answer["peer"]["platform"] = "cpu"
    record = record_of("unknown card", roof={"status": "ok", "gb_per_s": 100.0}, product=answer)
    derive(record, {"product": PRODUCT})
    assert record["cases"]["product"]["of_roof"] is None


def test_known_rate_is_found_by_the_name() -> None:
    assert known_matrix_rate("NVIDIA H100 80GB HBM3", "f16") == 754.0
    assert known_matrix_rate("Radeon", "f16") is None


def test_table_shows_failures_in_words() -> None:
    record = record_of("card", chain={"status": "crash", "why": "exit status -11"})
    cases = {"chain": dataclasses.replace(TINY, name="chain")}
    derive(record, cases)
    record["promises"] = promises(record, cases)
    assert any("CRASH: exit status -11" in line for line in table(record))


def test_record_is_named_by_device_and_day() -> None:
    assert record_name(record_of("NVIDIA H100 80GB HBM3")) == "nvidia-h100-80gb-hbm3-2026-01-02.json"


def test_record_of_some_cases_leaves_the_whole_one() -> None:
    record = record_of("NVIDIA H100 80GB HBM3")
    assert record_name(record, ["train_bf16", "matmul"]) == "matmul-train_bf16-nvidia-h100-80gb-hbm3-2026-01-02.json"


def test_source_has_a_digest() -> None:
    assert len(source_digest()) == 64


# --- the transformer --------------------------------------------------------------------------------------------------


def test_untrained_transformer_guesses_evenly() -> None:
    loss = loss_of(parameters_of(QUICK, 0), batch_of(QUICK, 0), QUICK)
    assert float(loss) == pytest.approx(np.log(QUICK.vocabulary), rel=0.02)


def test_transformer_counts_each_weight_six_times_a_token() -> None:
    # Forward once and backward twice, a multiplication and an addition each; the table of places is only added.
    shapes, _, _ = structures_of(QUICK)
    weights = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes) if len(leaf.shape) == 2)
    tokens, places = QUICK.batch * QUICK.places, QUICK.places * QUICK.width
    attention = QUICK.layers * 2 * places
    assert QUICK.operations == 6 * tokens * (weights - places + attention)
