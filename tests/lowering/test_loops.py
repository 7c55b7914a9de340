from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from lowering.graph import Graph

from .programs import graph_of


def count_of(graph: Graph) -> int | None:
    (loop,) = [node for node in graph.nodes if node.op == "while"]
    return loop.attributes["trip_count"]


@pytest.mark.parametrize(
    ("start", "step", "test", "rounds"),
    [
        (0, 1, lambda i: i < 10, 10),
        (3, 4, lambda i: i < 10, 2),
        (3, 4, lambda i: i <= 11, 3),
        (9, -2, lambda i: i > 0, 5),
        (9, -3, lambda i: i >= 0, 4),
        (5, 1, lambda i: i < 5, 0),
    ],
)
def test_trip_count_of_a_counter(start: int, step: int, test: object, rounds: int) -> None:
    graph = graph_of(lambda x: lax.while_loop(lambda c: test(c[0]), lambda c: (c[0] + step, c[1] * 2), (start, x)), 1.0)
    assert count_of(graph) == rounds


@pytest.mark.parametrize(
    ("start", "step", "test"),
    [
        (0, -1, lambda i: i < 10),
        (0, 0, lambda i: i < 10),
        (0, 1, lambda i: i != 10),
        (2**31 - 3, 5, lambda i: i <= 2**31 - 2),
    ],
)
def test_trip_count_is_unknown_where_the_counter_may_not_arrive(start: int, step: int, test: object) -> None:
    init = jnp.int32(start)
    graph = graph_of(lambda x: lax.while_loop(lambda c: test(c[0]), lambda c: (c[0] + step, c[1] * 2), (init, x)), 1.0)
    assert count_of(graph) is None


def test_trip_count_sees_a_bound_that_the_loop_carries_unchanged() -> None:
    def run(x: float) -> object:
        return lax.while_loop(lambda c: c[0] < c[1], lambda c: (c[0] + 1, c[1], c[2] * 2), (0, 6, x))

    assert count_of(graph_of(run, 1.0)) == 6


def test_trip_count_of_a_bound_that_is_an_argument_is_unknown() -> None:
    graph = graph_of(lambda x, n: lax.fori_loop(0, n, lambda i, c: c * 2, x), 1.0, np.int32(5))
    assert count_of(graph) is None


def test_trip_count_of_a_scan_is_its_length() -> None:
    assert count_of(graph_of(lambda x: lax.scan(lambda c, y: (c + y, c), 0.0, x), np.ones(7, np.float32))) == 7
