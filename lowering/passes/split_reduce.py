"""Cut long reductions with few results in parts that run side by side, then reduce the parts.

Before                                                    After
  %2 = reduce(%0: f32[67108864], %1) {dimensions=(0)}       %3 = constant 0
                                                            %4 = partial_reduce(%0, %3) {parts=512} : f32[512]
                                                            %2 = reduce(%4, %1) {dimensions=(0)}
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from shaders.capabilities import Capabilities

from .. import dtypes
from ..bodies import accumulator, binary_body, identity
from ..graph import Graph, Node, Value, map_regions
from ..schedule import extents, minor_is_reduced
from .merge import ENOUGH_ROWS

# Elements that one part should have at least: shorter parts cost more in launches than they win.
SHORTEST_PART = {True: 16384, False: 2048}
# Workgroups (or, for columns, lanes) that keep a device busy.
BUSY = {True: 8, False: 1024}
BUSY_COLUMNS = {True: 64, False: 262144}
# A part is no longer than this, so that running sums keep their accuracy and no lane works for long.
LONGEST_PART = 1 << 20
# A CPU driver's lane takes 32 elements of a row a round, or 4 of a column: a kernel may walk either several times
# within `Capabilities.loop_rounds`.
LONGEST_CPU_PART = {True: 1 << 18, False: 1 << 15}


def split_reduce(graph: Graph, capabilities: Capabilities) -> Graph:
    """Return the graph with long reductions in two stages; regions of loops and branches as well."""
    fresh = graph.free_id()
    number = itertools.count(fresh)
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.op in ("while", "case"):
            nodes.append(map_regions(node, lambda region: split_reduce(region, capabilities)))
            continue
        parts = part_count(node, capabilities)
        nodes.extend([node] if parts == 1 else _split(node, parts, number))
    return replace(graph, nodes=tuple(nodes))


def _split(node: Node, parts: int, number: Iterator[int]) -> list[Node]:
    """Return the two stages of a reduction, and what surrounds them.

    The parts of 16-bit sums are kept in 32 bits. Each part starts from the kind's identity, so that initial values
    count once; argmax and argmin have none, but taking their initial value more than once changes nothing.
    """
    kind, where = node.attributes["kind"], node.where
    if kind in ("argmax", "argmin"):
        return _stages(node, parts, number, starts=node.inputs[len(node.outputs) :])
    (array, initial), result = node.inputs, node.output
    running = accumulator(kind, result.dtype)
    made: list[Node] = []
    if running != result.dtype:
        array, initial = (_convert(value, running, number, made, where) for value in (array, initial))
    start = Value(next(number), running, ())
    one = np.asarray(identity(kind, running)).astype(dtypes.NUMPY[running])
    made.append(Node("constant", (), (start,), {"value": one}, where))
    total = result if running == result.dtype else Value(next(number), running, result.shape)
    attributes = {**node.attributes, "body": binary_body(kind, running)}
    made += _stages(Node("reduce", (array, initial), (total,), attributes, where), parts, number, starts=(start,))
    if total is not result:
        made.append(Node("convert", (total,), (result,), {}, where))
    return made


def _stages(node: Node, parts: int, number: Iterator[int], *, starts: tuple[Value, ...]) -> list[Node]:
    """Return the reduction of parts, which begin with `starts`, and the reduction of their results."""
    count = len(node.outputs)
    kept = node.outputs[0].shape
    partial = tuple(Value(next(number), value.dtype, (*kept, parts)) for value in node.outputs)
    first = {**node.attributes, "parts": parts}
    last = {**node.attributes, "dimensions": (len(kept),)}
    return [
        Node("partial_reduce", (*node.inputs[:count], *starts), partial, first, node.where),
        Node("reduce", (*partial, *node.inputs[count:]), node.outputs, last, node.where),
    ]


def _convert(value: Value, dtype: str, number: Iterator[int], made: list[Node], where: str) -> Value:
    """Append a conversion to `made` and return its result."""
    result = Value(next(number), dtype, value.shape)
    made.append(Node("convert", (value,), (result,), {}, where))
    return result


def part_count(node: Node, capabilities: Capabilities) -> int:
    """Return how many parts to cut each row of a reduction into; one to leave it whole."""
    if node.op != "reduce" or node.attributes["kind"] is None or node.inputs[0].size == 0:
        return 1
    domain, reduced = node.inputs[0].shape, node.attributes["dimensions"]
    kept, count = extents(domain, tuple(reduced))
    cpu = capabilities.is_cpu
    if minor_is_reduced(domain, tuple(reduced)):
        # Enough rows to merge with what follows are worth more whole: see `merge.ENOUGH_ROWS`.
        wanted, shortest = BUSY[cpu] // max(kept, 1) if kept < ENOUGH_ROWS else 1, SHORTEST_PART[cpu]
    else:
        wanted, shortest = BUSY_COLUMNS[cpu] // max(kept, 1), SHORTEST_PART[cpu] // 16
    longest = LONGEST_CPU_PART[minor_is_reduced(domain, tuple(reduced))] if cpu else LONGEST_PART
    parts = max(min(wanted, count // shortest), -(-count // longest))
    return max(parts, 1)
