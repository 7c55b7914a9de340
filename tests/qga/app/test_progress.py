"""Progress: a bar on a terminal, a few lines elsewhere."""

from __future__ import annotations

import io

from qga.app.run.progress import Progress


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def watch(stream: io.StringIO, steps: int) -> str:
    times = iter(range(1000))
    progress = Progress("cpu", 0, steps, stream, clock=lambda: next(times))
    for step in range(1, steps + 1):
        progress.show(step, 1 / step)
    return stream.getvalue()


def test_plain_stream_gets_ten_lines() -> None:
    lines = watch(io.StringIO(), 50).splitlines()
    assert len(lines) == 10
    assert lines[-1] == "cpu    50/50 steps     1.0 steps/s  loss 0.0200"


def test_terminal_gets_one_line_that_moves() -> None:
    shown = watch(Terminal(), 5)
    assert shown.count("\n") == 1
    assert shown.count("\r") == 5
    assert "2/5 steps" in shown


def test_stop_ends_a_bar() -> None:
    stream = Terminal()
    Progress("cpu", 0, 9, stream).stop()
    assert stream.getvalue() == "\n"


def test_resumed_progress_counts_from_where_it_was() -> None:
    stream = io.StringIO()
    times = iter([0.0, 2.0, 2.0])
    Progress("cpu", 10, 12, stream, clock=lambda: next(times)).show(12, 1.0)
    assert "12/12 steps     1.0 steps/s" in stream.getvalue()
