"""Runs cases in child processes, each with a time limit; a child that dies or hangs is replaced, its case counted."""

from __future__ import annotations

import json
import os
import queue
import select
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from .harnesses import Case
from .outcomes import CRASH, TIMEOUT, Result

ROOT = Path(__file__).parents[2]
START_SECONDS = 120.0
# A fresh process after this many cases keeps what leaks in the libraries from adding up.
CASES_A_CHILD = 400
# What a crash leaves on standard error, as far as a record keeps it.
TAIL_CHARACTERS = 1500


@dataclass(slots=True)
class Child:
    """One process that answers cases, with the files it is spoken to through."""

    process: subprocess.Popen[str]
    requests: IO[str]
    answers: IO[str]
    said: IO[str]
    answered: int = 0

    def answer(self, limit_seconds: float) -> dict[str, Any] | None:
        """Wait for the next line; None when the time is over. Raises `EOFError` when the process is gone."""
        ready, _, _ = select.select([self.answers], [], [], limit_seconds)
        if not ready:
            return None
        line = self.answers.readline()
        if not line.endswith("\n"):
            raise EOFError
        return json.loads(line)

    def tail(self) -> str:
        """Return the end of what the process wrote to standard error."""
        self.said.seek(0)
        return self.said.read()[-TAIL_CHARACTERS:].strip()

    def stop(self) -> None:
        """End the process, by force if closing its input does not do it."""
        try:
            self.requests.close()
            self.process.wait(timeout=5)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self.process.kill()
            self.process.wait()
        self.answers.close()
        self.said.close()


class Worker:
    """Owns at most one child at a time and replaces it when needed; `with` ends it."""

    def __init__(self, platform: str, *, x64: bool) -> None:
        self.platform = platform
        self.x64 = x64
        self.greeting: dict[str, Any] = {}
        self._child: Child | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._drop()

    def run(self, case: Case, limit_seconds: float) -> Result:
        """Run one case within the limit, starting a child if there is none."""
        child = self._child
        if child is None or child.answered >= CASES_A_CHILD:
            child = self.start()
        try:
            child.requests.write(case.name + "\n")
            child.requests.flush()
            answer = child.answer(limit_seconds)
        except (BrokenPipeError, EOFError):
            return self._lost(child, case, CRASH)
        if answer is None:
            return self._lost(child, case, TIMEOUT)
        child.answered += 1
        return Result(case.name, case.primitive, case.dtype, self.x64, **answer)

    def start(self) -> Child:
        """Start a child and wait until its platform is up; raise `RuntimeError` with what it said when it is not."""
        self._drop()
        said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - the child's, closed with it
        process = subprocess.Popen(
            self.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True,
            env=self._environment(), cwd=ROOT,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        child = Child(process, process.stdin, process.stdout, said)
        try:
            greeting = child.answer(START_SECONDS)
        except EOFError:
            greeting = None
        if greeting is None:
            tail = child.tail()
            child.stop()
            raise RuntimeError(f"the platform {self.platform} did not start:\n{tail}")
        self.greeting, self._child = greeting, child
        return child

    def command(self) -> list[str]:
        """Return the command line of the child."""
        return [sys.executable, "-m", "tests.conformance.worker", self.platform]

    def _environment(self) -> dict[str, str]:
        return os.environ | {
            "JAX_ENABLE_X64": "1" if self.x64 else "0",
            "JAX_PLATFORMS": "cpu" if self.platform == "cpu" else f"{self.platform},cpu",
            # The parent runs one child a core: more threads in each only take turns.
            "XLA_FLAGS": os.environ.get("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false"),
        }

    def _lost(self, child: Child, case: Case, outcome: str) -> Result:
        if outcome == TIMEOUT:
            child.process.kill()
        status = child.process.wait()
        detail = f"exit status {status}; {child.tail()}"
        self._drop()
        return Result(case.name, case.primitive, case.dtype, self.x64, outcome, detail)

    def _drop(self) -> None:
        if self._child is not None:
            self._child.stop()
            self._child = None


def run_all(
    cases: Iterable[Case], make_worker: Callable[[], Worker], jobs: int, limit_seconds: float,
    report: Callable[[Result], None],
) -> None:  # fmt: skip
    """Run the cases in `jobs` children at once; `report` gets each result as it comes, one at a time."""
    waiting: queue.SimpleQueue[Case] = queue.SimpleQueue()
    for case in cases:
        waiting.put(case)
    lock, failures = threading.Lock(), []

    def work() -> None:
        with make_worker() as worker:
            while not failures:
                try:
                    case = waiting.get_nowait()
                except queue.Empty:
                    return
                result = worker.run(case, limit_seconds)
                with lock:
                    report(result)

    def guarded() -> None:
        try:
            work()
        except Exception as error:  # raised again in the caller's thread below
            failures.append(error)

    threads = [threading.Thread(target=guarded, daemon=True) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
