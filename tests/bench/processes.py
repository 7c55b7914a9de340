"""The other end of `worker`: owns one process at a time, gives each request a time limit, and replaces what dies."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
# What a crash leaves in the log, as far as a record keeps it.
TAIL_CHARACTERS = 800
# Settings of the person who runs this that would change what is measured.
DROPPED = (
    "JAX_PLATFORMS",
    "JAX_ENABLE_X64",
    "JAX_DEFAULT_MATMUL_PRECISION",
    "QGA_VERIFY",
    "QGA_VALIDATION",
    "QGA_LABELS",
    "QGA_VENDOR_EXTENSIONS",
)


class Worker:
    """One side of the comparison, `vulkan` or `peer`.

    Args:
        side: what `worker` calls it.
        folder: where its log goes.
        cache: folder of the compiler's cache, empty at the start of a run.
    """

    def __init__(self, side: str, folder: Path, cache: Path) -> None:
        self.side = side
        self.log = folder / f"{side}.txt"
        self._cache = cache
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, task: str, limit_s: float, **request: Any) -> dict[str, Any]:
        """Return the answer to a request, or one that says how the process failed."""
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        began = time.perf_counter()
        try:
            process.stdin.write(json.dumps({"task": task, **request}).encode() + b"\n")
            process.stdin.flush()
            line = _line(process.stdout, began + limit_s)
        except BrokenPipeError:
            line = b""
        if line is None:
            process.kill()
            _ = self.stop()
            return {"status": "timeout", "why": f"no answer within {limit_s:.0f} s"}
        if not line.endswith(b"\n"):
            return {"status": "crash", "why": f"exit status {self.stop()}; {self._tail()}"}
        # A record must not name folders of the machine.
        answer = json.loads(line.replace(str(ROOT).encode(), b"."))
        if "lost" in str(answer.get("why", "")).lower():
            _ = self.stop()  # a lost device stays lost in its process
        return {**answer, "took_s": round(time.perf_counter() - began, 2)}

    def stop(self) -> int | None:
        """End the process and return its exit status; the next request starts another."""
        process, self._process = self._process, None
        if process is None:
            return None
        # Closing its input ends it; leaving the block closes the other pipe and waits.
        with process:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            try:
                _ = process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
        return process.returncode

    def _start(self) -> subprocess.Popen[bytes]:
        environment = {name: value for name, value in os.environ.items() if name not in DROPPED}
        # The peer shares the device with us: it may take memory when it needs it, not most of it at once.
        environment |= {"QGA_CACHE_DIR": str(self._cache), "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.bench.worker", self.side],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd=ROOT, env=environment,
            )  # fmt: skip
        return self._process

    def _tail(self) -> str:
        text = self.log.read_text(errors="replace").replace(str(ROOT), ".")[-TAIL_CHARACTERS:]
        return " | ".join(text.split("\n")[-6:]).strip()


def _line(stream: IO[bytes], end: float) -> bytes | None:
    """Read a line; None when the time is over, less than a line when the process ended."""
    read = b""
    while not read.endswith(b"\n"):
        ready, _, _ = select.select([stream], [], [], max(end - time.perf_counter(), 0))
        if not ready:
            return None
        part = os.read(stream.fileno(), 1 << 16)
        if not part:
            return read
        read += part
    return read
