"""Never store a table that a thin product makes: whoever reads it makes its own tiles of it again.

A table is what has an element for each row and each column of a product whose depth is small, as the scores of
attention have: the product itself and everything computed from its elements, one by one. It takes far more memory than
its factors. Its readers are sums along rows or columns, and products that contract either.

Before                                               After
  %2 = dot_general(%0, %1) : [heads, n, n]             %6 = tile(%0, %1)         a tile of scores, its maxima
  %3 = reduce(%2) {maximum} : [heads, n]               %7 = tile(%0, %1, %6)     the same tile, exponentials, sums
  %4 = exponential(subtract(%2, broadcast(%3)))        %8 = tile(%0, %1, %6, %9) the same tile, exponentials, product
  %5 = dot_general(%4, %9)

Nothing else must read any part of the table. Elements of 16 bits are not rounded on their way through a tile; what a
product multiplies is. `docs/decisions/0044-tables.md` has the measurements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from ... import dtypes, ops
from ...bodies import identity as start_of
from ...graph import Graph, Node, Value, map_regions
from ..axes import identity
from ..dead import drop_dead
from .code import NARROW
from .kernels import make_kernel
from .numbers import Numbers
from .parts import TILE, Product, Reader, Sides, Table

DEEPEST = 64
"""Depth up to which a product is thin, and channels of the products that read a table: twice as many cost more.

Either is more than one: what has one channel is a sum, which matrix units do not make.
"""

LEAST = 1 << 22
"""Elements from which a table is worth making twice."""

MOST_STEPS = 96
"""Operations for an element that each reader may repeat: as many take about as long as to store it and read it."""

_REDUCTIONS = ("add", "max", "min")

Finish = Callable[[Node], Node | None]
"""A tile kernel -> the same, ready to be compiled; None where the device has no good way to run it."""


def fold_tables(graph: Graph, finish: Finish) -> Graph:
    """Return the graph without those tables that all their readers can make for themselves, in regions as well."""
    if any(node.op in ("while", "case") for node in graph.nodes):
        within = partial(fold_tables, finish=finish)
        nodes = tuple(map_regions(n, within) if n.op in ("while", "case") else n for n in graph.nodes)
        graph = replace(graph, nodes=nodes)
    for group in _groups(graph):
        graph = _fold(graph, group, finish)
    return graph


@dataclass(eq=False)
class _Group:
    """Tables that some element-by-element computation joins, and who reads them."""

    shape: tuple[int, ...]
    values: set[Value] = field(default_factory=set)
    products: dict[Value, Product] = field(default_factory=dict)
    readers: list[Reader] = field(default_factory=list)
    is_kept: bool = False


def _groups(graph: Graph) -> list[_Group]:
    """Return the groups of tables that nobody but readers reads, and that are worth it."""
    owner: dict[Value, _Group] = {}
    groups: list[_Group] = []
    producers = graph.producers()
    for node in graph.nodes:
        read = list(dict.fromkeys(value for value in node.inputs if value in owner))
        if not read:
            product = _thin_product(node)
            if product is not None:
                made = _Group(node.output.shape, {node.output}, {node.output: product})
                groups.append(made)
                owner[node.output] = made
            continue
        joined = _joined([owner[value] for value in read], groups, owner)
        reader = _reader(node, read, joined)
        if reader is not None:
            joined.readers.append(reader)
        elif _keeps_shape(node, joined.shape) and not _asks_for_equals(node, joined, producers):
            joined.values.add(node.output)
            owner[node.output] = joined
        else:
            joined.is_kept = True
    for value in graph.outputs:
        if value in owner:
            owner[value].is_kept = True
    return [group for group in groups if not group.is_kept and any(each.other for each in group.readers)]


def _joined(found: Sequence[_Group], groups: list[_Group], owner: dict[Value, _Group]) -> _Group:
    """Make one group of several."""
    first, *rest = dict.fromkeys(found)
    for other in rest:
        groups.remove(other)
        first.is_kept |= other.is_kept or other.shape != first.shape
        first.values |= other.values
        first.products |= other.products
        first.readers += other.readers
        owner.update(dict.fromkeys(other.values, first))
    return first


def _thin_product(node: Node) -> Product | None:
    """Return the product that a node is, if it is thin and makes a large table."""
    if node.op != "dot_general" or node.output.size < LEAST:
        return None
    sides = _sides(node)
    if any(len(free) != 1 or len(contract) != 1 for _, free, contract in sides):
        return None
    left, right = node.inputs
    rank = len(sides[0][0])
    extents = node.output.shape[rank:]
    if left.dtype != right.dtype or left.dtype not in NARROW or any(extent % TILE for extent in extents):
        return None
    if not 1 < left.shape[sides[0][2][0]] <= DEEPEST:
        return None
    rows, columns = ((*batch, free[0], contract[0]) for batch, free, contract in sides)
    return Product(left, rows, right, columns)


def _sides(node: Node) -> list[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]:
    """Return the batch, free and contracted dimensions of both factors."""
    result = []
    for side, value in zip(("lhs", "rhs"), node.inputs, strict=True):
        batch, contract = node.attributes[f"{side}_batch"], node.attributes[f"{side}_contract"]
        free = tuple(axis for axis in range(len(value.shape)) if axis not in (*batch, *contract))
        result.append((tuple(batch), free, tuple(contract)))
    return result


def _keeps_shape(node: Node, shape: tuple[int, ...]) -> bool:
    return (
        ops.is_elementwise(node)
        and len(node.outputs) == 1
        and node.output.shape == shape
        and all(value.dtype not in (*dtypes.COMPLEX, "f64") for value in (*node.inputs, *node.outputs))
    )


def _asks_for_equals(node: Node, group: _Group, producers: Mapping[Value, Node]) -> bool:
    """Tell whether a comparison may look for elements of a table among numbers that were computed from it.

    The gradient of a largest element asks which elements are equal to it: none is, if that was rounded or is computed
    by other instructions than the elements that are made again.
    """
    if node.op != "compare":
        return False
    numbers = [_number(value, producers) for value in node.inputs if value not in group.values]
    is_exact = node.attributes["direction"] in ("EQ", "NE") and node.inputs[0].dtype in dtypes.FLOATS
    return any(number is None or (is_exact and np.isfinite(number)) for number in numbers)


def _number(value: Value, producers: Mapping[Value, Node]) -> float | None:
    """Return the number that all elements of an array are, if it is known."""
    node = producers.get(value)
    while node is not None and node.op in ("broadcast_in_dim", "reshape"):
        node = producers.get(node.inputs[0])
    if node is None or node.op != "constant" or node.attributes["value"].size != 1:
        return None
    return float(node.attributes["value"].reshape(-1)[0])


def _reader(node: Node, read: Sequence[Value], group: _Group) -> Reader | None:
    """Return how a node reads a table: along which of its last two axes it sums, and by what it multiplies."""
    rank = len(group.shape)
    if len(read) != 1 or node.inputs.count(read[0]) != 1 or read[0].shape != group.shape:
        return None
    (table,) = read
    if node.op == "reduce" and len(node.outputs) == 1 and node.inputs[0] == table:
        (along, *more) = node.attributes["dimensions"]
        if more or along < rank - 2 or node.attributes["kind"] not in _REDUCTIONS or table.dtype not in dtypes.FLOATS:
            return None
        return Reader(node, table, along)
    if node.op != "dot_general":
        return None
    place = node.inputs.index(table)
    other, sides = node.inputs[1 - place], _sides(node)
    batch, _, contract = sides[place]
    others = sides[1 - place]
    if len(contract) != 1 or contract[0] < rank - 2 or sorted(batch) != list(range(rank - 2)) or len(others[1]) != 1:
        return None
    channels = other.shape[others[1][0]]
    if not 1 < channels <= DEEPEST or other.dtype != table.dtype or other.dtype not in NARROW:
        return None
    return Reader(
        node, table, contract[0], other, Sides(batch, others[0], others[2][0], others[1][0]), is_left=place == 0
    )


def _fold(whole: Graph, group: _Group, finish: Finish) -> Graph:
    """Return the graph with a kernel for each reader of a group; the graph itself where one of them cannot be run."""
    numbers = Numbers(count=whole.free_id())
    table = Table(group.shape, whole.producers(), frozenset(group.values), group.products)
    if any(table.steps_below(reader.table) > MOST_STEPS for reader in group.readers):
        return whole
    table = replace(table, producers={**table.producers, **_without_divisions(whole, table, numbers)})
    instead: dict[Node, list[Node]] = {}
    for readers in _together(whole, table, group.readers):
        made = make_kernel(table, readers, numbers)
        kernel = None if made is None else finish(made[0])
        if made is None or kernel is None:
            return whole
        instead.update({reader.node: [] for reader in readers[:-1]})
        instead[readers[-1].node] = [kernel, *made[1]]
    nodes = [*(each for node in whole.nodes for each in instead.get(node, [node])), *numbers.nodes]
    return drop_dead(replace(whole, nodes=tuple(_in_order(whole, nodes))))


def _without_divisions(graph: Graph, table: Table, numbers: Numbers) -> dict[Value, Node]:
    """Return producers that multiply by the reciprocal of what whole rows are divided by."""
    changed: dict[Value, Node] = {}
    for node in graph.nodes:
        if node.op != "divide" or node.output not in table.values or node.inputs[1] in table.values:
            continue
        row, axes = table.spread_from(node.inputs[1])
        if row.dtype == "f32" and row.shape and row.size < node.output.size:
            kept = [axis for axis in axes if axis is not None]
            source, factor = numbers.reciprocal(row), numbers.fresh("f32", node.output.shape)
            changed[factor] = Node("broadcast_in_dim", (source,), (factor,), {"dimensions": tuple(kept)}, node.where)
            changed[node.output] = replace(node, op="multiply", inputs=(node.inputs[0], factor))
    return changed


def _together(graph: Graph, table: Table, readers: Sequence[Reader]) -> Iterator[list[Reader]]:
    """Yield the readers that one kernel serves.

    These are the sum of exponentials of what is below the largest elements, with those, and two products that sum along
    the same axis, if neither needs the other, kernels so far included, and one makes all that the other needs.
    """
    needs, waiting = _needs(graph, readers), list(readers)
    while waiting:
        first, *waiting = waiting
        below = next((each for each in waiting if _is_below(table, each, first)), None)
        second = below or next((each for each in waiting if _goes_with(table, needs, first, each)), None)
        if second is None:
            yield [first]
            continue
        waiting.remove(second)
        _join_needs(needs, first.node, second.node)
        yield [first, second if below is None else replace(second, peak=first)]


def _join_needs(needs: dict[Node, set[Node]], first: Node, second: Node) -> None:
    """Let whatever needs one of two readers need both, and what either needs: one kernel makes them."""
    both = {first, second}
    joined = needs[first] | needs[second] | both
    for node, found in needs.items():
        if node in both or not both.isdisjoint(found):
            found |= joined - {node}


def _goes_with(table: Table, needs: Mapping[Node, set[Node]], first: Reader, second: Reader) -> bool:
    if first.other is None or second.other is None or first.along != second.along:
        return False
    if first.node in needs[second.node] or second.node in needs[first.node]:
        return False
    left, right = (table.products_below([reader.table]) for reader in (first, second))
    # Two kernels for what follows rows: each has one sum of its own to hold.
    return first.along == len(table.shape) - 2 and (left <= right or right <= left)


def _is_below(table: Table, reader: Reader, peak: Reader) -> bool:
    """Tell whether a reader sums the exponentials of what is below the largest element of each row."""
    producers = table.producers
    kinds = [each.node.attributes.get("kind") for each in (peak, reader)]
    if peak.other or reader.other or kinds != ["max", "add"] or peak.along != reader.along:
        return False
    power = producers[reader.table]
    less = producers.get(power.inputs[0]) if power.op == "exponential" else None
    if less is None or less.op != "subtract" or less.inputs[0] != peak.table:
        return False
    rows = tuple(None if axis is None else axis + (axis >= peak.along) for axis in identity(peak.node.output.shape))
    is_nearest = table.spread_from(less.inputs[1]) == (peak.node.output, rows)
    return is_nearest and all(_starts_with_nothing(producers, each) for each in (peak, reader))


def _starts_with_nothing(producers: Mapping[Value, Node], reader: Reader) -> bool:
    """Tell whether a reduction starts from what changes nothing."""
    start, kind = producers.get(reader.node.inputs[1]), reader.node.attributes["kind"]
    return (
        start is not None and start.op == "constant" and start.attributes["value"] == start_of(kind, reader.table.dtype)
    )


def _needs(graph: Graph, readers: Sequence[Reader]) -> dict[Node, set[Node]]:
    """Return of each reader which others it depends on."""
    asked = {reader.node for reader in readers}
    of: dict[Value, set[Node]] = {}
    found: dict[Node, set[Node]] = {}
    for node in graph.nodes:
        mine = set().union(*(of.get(value, set()) for value in node.inputs))
        if node in asked:
            found[node] = mine
            mine = mine | {node}
        of.update(dict.fromkeys(node.outputs, mine))
    return found


def _in_order(graph: Graph, nodes: Sequence[Node]) -> Iterator[Node]:
    """Yield nodes so that each follows what it reads, in their order otherwise."""
    known = set(graph.inputs)
    waiting = list(nodes)
    while waiting:
        rest: list[Node] = []
        for node in waiting:
            if known.issuperset(node.inputs):
                known.update(node.outputs)
                yield node
            else:
                rest.append(node)
        if len(rest) == len(waiting):
            raise AssertionError("folded tables made a cycle")
        waiting = rest
