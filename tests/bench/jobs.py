"""What a run does, in order of importance, until its time is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .cases import MATRIX, all_cases
from .processes import Worker
from .training import compare_losses
from .transformer import sizes_of

# The promises of the project first; what is left of the time goes to the rest of the table.
FIRST = (
    "roof", "chain", "softmax_4096", "layer_norm_4096", "layer_norm_gradient_4096", "matmul_f16", "matmul_f32",
    "dispatch", "compile", "train", "train_bf16",
)  # fmt: skip
GROUPS = ("memory", "matmul", "dispatch", "compile", "train", "roof", "sweep")
CASE_LIMIT_S, LONG_LIMIT_S, ROW_LIMIT_S = 120.0, 400.0, 40.0
# Nothing is started with less time than this left.
LEAST_S = 5.0


@dataclass
class Run:
    """The state of a run: who answers, until when, and what was answered.

    `record` grows as answers come; `save` is called after each, so that a run that is cut off leaves what it has.
    """

    ours: Worker
    peer: Worker
    options: dict[str, Any]
    end: float
    save: Callable[[dict[str, Any]], None]
    folder: Path
    record: dict[str, Any] = field(default_factory=dict)

    def left_s(self, most: float) -> float:
        """Return the seconds that a request may take."""
        return max(min(most, self.end - time.perf_counter()), 0.0)

    def ask(self, worker: Worker, task: str, most: float, **request: Any) -> dict[str, Any]:
        """Ask a worker within what is left of the time."""
        left = self.left_s(most)
        if left < LEAST_S:
            return {"status": "not run", "why": "the time was over"}
        return worker.ask(task, left, **self.options, **request)


def select(names: list[str], *, is_quick: bool, has_sweep: bool) -> list[str]:
    """Return the jobs to do, in order: those that a name or a group names, all where nothing is named.

    Raises:
        ValueError: a name is neither a job nor the beginning of one nor a group.
    """
    cases = all_cases(is_quick=is_quick)
    every = [*FIRST, *(name for name in cases if name not in FIRST)]
    if not names:
        return every
    chosen: set[str] = {"roof"} if names != ["sweep"] else set()
    for name in names:
        found = {job for job in every if job.startswith(name) or (job in cases and cases[job].group == name)}
        if not found and not (name == "sweep" and has_sweep):
            raise ValueError(f"no case or group {name!r}; there are: {', '.join(every)}; groups: {', '.join(GROUPS)}")
        chosen |= found
    return [job for job in every if job in chosen]


def select_sweep(names: list[str], *, is_quick: bool) -> list[str]:
    """Return the matrix products that a sweep's names stand for; `matmul` stands for the square ones."""
    cases = all_cases(is_quick=is_quick)
    products = [name for name, case in cases.items() if case.group == MATRIX]
    unknown = [name for name in names if not any(product.startswith(name) for product in products)]
    if unknown:
        raise ValueError(f"no matrix product {unknown[0]!r}; there are: {', '.join(products)}")
    return [product for product in products if any(product.startswith(name) for name in names)]


def do(run: Run, job: str) -> dict[str, Any]:
    """Do one job and return its part of the record."""
    if job == "roof":
        return run.ask(run.ours, "roof", CASE_LIMIT_S)
    if job == "compile":
        return _compile(run)
    is_training = job.startswith("train")
    limit = LONG_LIMIT_S if is_training else CASE_LIMIT_S
    task = "train" if is_training else job if job == "dispatch" else "case"
    has_peer = run.record.get("peer", {}).get("platform") not in (None, "cpu")
    answer = run.ask(run.ours, task, limit, name=job, **({"has_peer": has_peer} if is_training else {}))
    if answer["status"] == "ok" and "peer" in run.record:
        answer["peer"] = run.ask(run.peer, task, limit, name=job)
        if is_training and "relative_error" not in answer and answer["peer"]["status"] == "ok":
            sizes = sizes_of(job, is_quick=run.options["quick"])
            answer |= compare_losses(answer["losses"], answer["peer"]["losses"], sizes)
    return answer


def _compile(run: Run) -> dict[str, Any]:
    """Compile in a fresh process, and again in another that finds the first one's cache."""
    answers = {}
    for name in ("cold", "cached"):
        run.ours.stop()
        request = {"folder": str(run.folder), "stages": name == "cached"}
        answers[name] = run.ask(run.ours, "compile", LONG_LIMIT_S, **request)
        if answers[name]["status"] != "ok":
            return {**answers, "status": answers[name]["status"], "why": answers[name]["why"]}
    if not answers["cold"]["was_compiled"] or answers["cached"]["was_compiled"]:
        # The compiler's own source is part of the key: somebody may have edited it between the two.
        return {**answers, "status": "error", "why": "the second process did not find what the first one stored"}
    return {**answers, "status": "ok"}


def sweep(run: Run, name: str) -> Iterator[dict[str, Any]]:
    """Try the schedules of one matrix product; yield each answer."""
    listed = run.ask(run.ours, "sweep", CASE_LIMIT_S, name=name)
    if "rows" not in listed:
        yield {"row": None, **listed}
        return
    for row in listed["rows"]:
        answer = run.ask(run.ours, "sweep", ROW_LIMIT_S, name=name, row=row)
        yield {"row": row, **answer}
        if answer["status"] == "not run":
            return
