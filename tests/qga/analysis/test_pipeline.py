"""Heads come in order, a few of them wait for the host at once, and an error of the host reaches the caller."""

from __future__ import annotations

import threading
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from qga.analysis import pipeline
from qga.analysis.pipeline import measure_heads
from qga.exact.observe import Observed


def layer(name: str, heads: int, rows: int = 9) -> Observed:
    x = jax.random.normal(jax.random.key(heads), (heads, rows, 3))
    return Observed(name, x, x, x, "dot", None, is_causal=False)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the passes do nothing and say what happened in which order; the host writes down which head it is."""
    told: list[str] = []
    monkeypatch.setattr(pipeline, "run_passes", lambda *_: told.append("passes"))
    monkeypatch.setattr(pipeline, "write_head", lambda _, __, *, layer, head: f"{layer}{head}")
    return told


def test_heads_of_all_layers_come_in_order(passes: list[str]) -> None:
    assert measure_heads([layer("a", 4), layer("b", 2)], block=8) == ["a0", "a1", "a2", "a3", "b0", "b1"]


def test_progress_is_told_in_order_by_the_caller(passes: list[str]) -> None:
    told: list[tuple[Any, ...]] = []
    measure_heads([layer("a", 3), layer("b", 1)], block=8, notify=lambda *at: told.append((*at, threading.get_ident())))
    mine = threading.get_ident()
    assert told == [("a", 1, 3, mine), ("a", 2, 3, mine), ("a", 3, 3, mine), ("b", 1, 1, mine)]


def test_few_heads_wait_at_once(passes: list[str]) -> None:
    measure_heads([layer("a", 5)], block=8, notify=lambda *_: passes.append("done"))
    waiting, most = 0, 0
    for step in passes:
        waiting += 1 if step == "passes" else -1
        most = max(most, waiting)
    # One more than may wait is there while the first of them is waited for.
    assert most == 3


def test_an_error_of_the_host_reaches_the_caller(passes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, layer: str, head: int) -> str:
        if head == 1:
            raise FloatingPointError(f"head {head} of {layer}")
        return layer

    monkeypatch.setattr(pipeline, "write_head", fail)
    told: list[int] = []
    with pytest.raises(FloatingPointError, match="head 1 of a"):
        measure_heads([layer("a", 4)], block=8, notify=lambda _, done, __: told.append(done))
    assert told == [1]


def test_the_host_solves_while_the_device_is_busy(passes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The host of head 0 ends only after the passes of head 1 began: heads in turn would wait for ever."""
    began = threading.Event()

    def solve(*_: object, layer: str, head: int) -> str:
        assert head or began.wait(timeout=60)
        return f"{layer}{head}"

    def run(*_: object) -> None:
        passes.append("passes")
        if len(passes) == 2:
            began.set()

    monkeypatch.setattr(pipeline, "run_passes", run)
    monkeypatch.setattr(pipeline, "write_head", solve)
    assert measure_heads([layer("a", 2)], block=8) == ["a0", "a1"]


def test_memory_of_a_head_is_on_the_host_when_the_next_begins() -> None:
    heads = measure_heads([layer("a", 1)], block=8)
    assert all(not isinstance(each, jax.Array) for each in jax.tree.leaves(vars(heads[0])))
    assert jnp.isfinite(heads[0].row_entropy).all()
