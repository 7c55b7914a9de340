"""How fusions are laid over lanes: chosen from shapes and capabilities alone, compared as text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lowering.compiler import choose, optimise
from lowering.graph import Graph, Node, regions
from lowering.schedule import Schedule, extents, minor_is_reduced
from shaders.capabilities import Capabilities

from .plan.support import machine
from .programs import graph_of


def fusions(graph: Graph) -> list[Node]:
    found = [node for node in graph.nodes if node.op == "fusion"]
    return found + [inner for node in graph.nodes if node.op != "fusion" for r in regions(node) for inner in fusions(r)]


def schedules(function: Callable[..., Any], *shapes: tuple[int, ...], on: str) -> list[str]:
    arguments = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
    found = fusions(optimise(graph_of(function, *arguments), machine(on)))
    return [choose(fusion, machine(on)).text() for fusion in found]


CASES: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "small map": (lambda x: x + 1, ((50,),)),
    "large map": (lambda x: x + 1, ((1 << 20,),)),
    "transpose": (lambda x: x.T + 1, ((256, 128),)),
    "short rows": (lambda x: x.sum(1), ((4096, 5),)),
    "rows": (lambda x: jax.nn.softmax(x), ((512, 100),)),
    "long rows": (lambda x: jax.nn.softmax(x), ((512, 4096),)),
    "columns": (lambda x: x.sum(0), ((20, 4096),)),
    "whole array": (lambda x: x.sum(), ((1 << 20,),)),
    "running": (lambda x: jnp.cumsum(x, 1), ((8, 4096),)),
    "product": (lambda x: x @ x.T, ((128, 64),)),
    "update": (lambda x: x.at[3].set(0.0), ((64, 8),)),
    "scatter": (lambda x: x.at[jnp.array([1, 5, 1])].add(1.0), ((64, 8),)),
}


def test_schedules(golden: Callable[[str], None]) -> None:
    lines = [
        f"{name:12} {on:11} {text}"
        for name, (function, shapes) in CASES.items()
        for on in ("lavapipe22", "h100")
        for text in schedules(function, *shapes, on=on)
    ]
    golden("\n".join(lines))


def test_every_case_has_a_schedule_within_the_device(capabilities: Capabilities) -> None:
    for function, shapes in CASES.values():
        arguments = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
        for fusion in fusions(optimise(graph_of(function, *arguments), capabilities)):
            schedule = choose(fusion, capabilities)
            assert 0 < schedule.workgroup <= capabilities.max_invocations
            assert schedule.workgroup % max(schedule.lanes, 1) == 0
            if schedule.subgroup:
                assert capabilities.min_subgroup_size <= schedule.subgroup <= capabilities.max_subgroup_size
                assert schedule.workgroup % schedule.subgroup == 0


@pytest.mark.parametrize(("rows", "lanes"), [(1 << 15, 16), (1 << 10, 32)])
def test_many_short_rows_are_read_in_whole_words_and_few_by_more_lanes(rows: int, lanes: int) -> None:
    (text,) = schedules(lambda x: x * jnp.sum(x * x, axis=1, keepdims=True), (rows, 64), on="h100")
    assert f" lanes={lanes} " in text
    assert f" run={64 // lanes} " in text


def test_text_shows_what_is_not_default() -> None:
    assert Schedule("map", 64).text() == "map workgroup=64"
    assert Schedule("rows", 64, lanes=8, in_registers=True).text() == "rows workgroup=64 lanes=8 in_registers=True"


@pytest.mark.parametrize(
    ("domain", "reduced", "answer"),
    [((4, 5), (1,), True), ((4, 5), (0,), False), ((4, 1), (1,), False), ((4, 1), (0,), True), ((1, 1), (0,), True)],
)
def test_minor_is_reduced_looks_through_axes_of_one(
    domain: tuple[int, ...], reduced: tuple[int, ...], answer: bool
) -> None:
    assert minor_is_reduced(domain, reduced) is answer


def test_extents_multiply() -> None:
    assert extents((2, 3, 5), (0, 2)) == (3, 10)
