"""Nodes wait for what they need, and for readers of what they overwrite."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from lowering.graph import Graph, Node, Value
from lowering.plan.order import Dependencies


def chain(*reads: tuple[int, ...], ops: dict[int, str] | None = None) -> Graph:
    """Return a graph of nodes 0, 1, ... where node i reads the results of nodes `reads[i]`."""
    values = [Value(i, "f32", ()) for i in range(len(reads))]
    nodes = tuple(
        Node((ops or {}).get(i, "fusion"), tuple(values[j] for j in inputs), (values[i],))
        for i, inputs in enumerate(reads)
    )
    return Graph("g", (), nodes, ())


def numbers(order: Dependencies) -> list[list[int]]:
    return [[order.place[id(node)] for node in level] for level in order.levels()]


def test_levels_follow_the_values() -> None:
    assert numbers(Dependencies(chain((), (0,), (0,), (1, 2)))) == [[0], [1, 2], [3]]


def test_what_waits_for_nothing_comes_as_late_as_its_reader_allows() -> None:
    assert numbers(Dependencies(chain((), (0,), (1,), (), (2, 3)))) == [[0], [1], [2, 3], [4]]


def test_what_waits_only_for_such_comes_late_as_well() -> None:
    assert numbers(Dependencies(chain((), (0,), (1,), (2,), (), (4,), (3, 5)))) == [[0], [1], [2, 4], [3, 5], [6]]
    # Node 5 waits for node 0 too, which has no time: it runs as soon as it can.
    assert numbers(Dependencies(chain((), (0,), (1,), (2,), (), (0, 4), (3, 5)))) == [[0, 4], [1, 5], [2], [3], [6]]


def test_a_view_takes_no_level() -> None:
    assert numbers(Dependencies(chain((), (0,), (1,), (0,), ops={1: "reshape"}))) == [[0], [1, 2, 3]]
    assert numbers(Dependencies(chain((), (0,), (1,), (0,)))) == [[0], [1, 3], [2]]


def test_a_loop_has_a_level_of_its_own() -> None:
    order = Dependencies(chain((), (0,), (0,), (0,), ops={2: "while", 3: "case"}))
    assert numbers(order) == [[0], [1], [2], [3]]


def test_try_order_makes_nodes_wait() -> None:
    order = Dependencies(chain((), (0,), (0,)))
    assert order.try_order([2], 1)
    assert numbers(order) == [[0], [2], [1]]


def test_try_order_refuses_a_cycle_and_changes_nothing() -> None:
    order = Dependencies(chain((), (0,), (1,)))
    assert not order.try_order([2], 1)
    assert numbers(order) == [[0], [1], [2]]


def test_try_order_ignores_the_node_itself() -> None:
    assert Dependencies(chain((), (0,))).try_order([1], 1)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sets(st.integers(0, 20), max_size=3), min_size=1, max_size=15), st.data())
def test_levels_hold_every_node_once_after_all_it_waits_for(reads: list[set[int]], data: st.DataObject) -> None:
    order = Dependencies(chain(*(tuple(sorted(j for j in inputs if j < i)) for i, inputs in enumerate(reads))))
    for _ in range(3):
        first, last = (data.draw(st.integers(0, len(reads) - 1)) for _ in range(2))
        cyclic = first != last and order.reaches(last, first)
        assert order.try_order([first], last) is not cyclic
    level_of = {node: depth for depth, level in enumerate(numbers(order)) for node in level}
    assert sorted(level_of) == list(range(len(reads)))
    for node, others in enumerate(order.before):
        assert all(level_of[other] < level_of[node] for other in others)
