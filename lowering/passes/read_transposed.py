"""Let tile kernels read and write arrays as they lie where they were given, or gave, transposes: window by window.

Before                                        After
  %1 = transpose(%0) {permutation=(1,0,2)}
  %2 = tile(%1)                                 %2 = tile(%0)
    dynamic_slice(%1, h, i, 0) (1,64,128)         reshape(dynamic_slice(%0, i, h, 0) (64,1,128))

A result that is only transposed is written where its transpose lies, likewise; where it holds what an operand held, the
operand is transposed before. Only axes of which a window has one element may change places: a window then holds the
same numbers in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from ..graph import Graph, Node, Value, map_regions
from .dead import drop_dead
from .fold_tiles import Allows


def read_transposed(graph: Graph, allows: Allows = lambda before, after: True) -> Graph:
    """Return the graph with transposes moved into the starts of windows where that is allowed, in regions as well."""
    within = partial(read_transposed, allows=allows)
    nodes = [map_regions(node, within) if node.op in ("while", "case") else node for node in graph.nodes]
    producers = {value: node for node in nodes for value in node.outputs}
    for place, node in enumerate(nodes):
        if node.op == "tile":
            for operand in range(node.attributes["updates"], len(node.inputs)):
                read = _read_one(node, operand, producers.get(node.inputs[operand]))
                node = read if read is not None and allows(node, read) else node
            nodes[place] = node
    graph = replace(graph, nodes=tuple(nodes))
    for node in [each for each in reversed(nodes) if each.op == "tile"]:
        for result in range(len(node.outputs)):
            users = [] if node.outputs[result] in graph.outputs else graph.users().get(node.outputs[result], [])
            written = _write_one(node, result, users[0], graph.free_id()) if len(users) == 1 else None
            if written is not None and allows(node, written):
                graph, node = _written(graph, node, written, result, users[0])
    return drop_dead(graph)


def _written(graph: Graph, node: Node, written: Node, result: int, reader: Node) -> tuple[Graph, Node]:
    """Return the graph with a kernel that writes the transpose of a result, and that kernel."""
    # The operand of a kernel that writes in place is transposed before.
    is_in_place = result < node.attributes["updates"]
    before = replace(reader, inputs=(node.inputs[result],), outputs=(written.inputs[result],)) if is_in_place else None
    nodes: list[Node] = []
    for each in graph.nodes:
        if each is node:
            nodes += [written] if before is None else [before, written]
        elif each is not reader:
            nodes.append(each)
    return replace(graph, nodes=tuple(nodes)), written


def _read_one(node: Node, operand: int, producer: Node | None) -> Node | None:
    """Return the kernel reading what an operand is the transpose of; None where it cannot."""
    if producer is None or producer.op != "transpose":
        return None
    cell: Graph = node.attributes["cell"]
    inner = cell.inputs[len(node.attributes["grid"]) + operand]
    permutation = tuple(producer.attributes["permutation"])
    readers = [each for each in cell.nodes if inner in each.inputs]
    if inner in cell.outputs or inner.shape != producer.output.shape:
        return None
    if not all(_moves_ones(each, inner, permutation) for each in readers):
        return None
    source = producer.inputs[0]
    free = cell.free_id()
    plain = Value(free, inner.dtype, source.shape)
    nodes: list[Node] = []
    for each in cell.nodes:
        if each in readers:
            free += 1
            nodes += _read_plainly(each, plain, permutation, free)
        else:
            nodes.append(each)
    inputs = tuple(plain if value == inner else value for value in cell.inputs)
    operands = (*node.inputs[:operand], source, *node.inputs[operand + 1 :])
    attributes = {**node.attributes, "cell": replace(cell, inputs=inputs, nodes=tuple(nodes))}
    return replace(node, inputs=operands, attributes=attributes)


def _moves_ones(reader: Node, inner: Value, permutation: Sequence[int]) -> bool:
    """Tell whether a node cuts a window of which only axes of one element change places."""
    if reader.op != "dynamic_slice" or reader.inputs[0] != inner or inner in reader.inputs[1:]:
        return False
    wide = [axis for axis, size in zip(permutation, reader.output.shape, strict=True) if size > 1]
    return wide == sorted(wide)


def _read_plainly(reader: Node, plain: Value, permutation: Sequence[int], number: int) -> list[Node]:
    starts, sizes = list(reader.inputs[1:]), list(reader.output.shape)
    for place, axis in enumerate(permutation):
        starts[axis], sizes[axis] = reader.inputs[1 + place], reader.output.shape[place]
    window = Value(number, plain.dtype, tuple(sizes))
    attributes = {**reader.attributes, "sizes": tuple(sizes)}
    cut = replace(reader, inputs=(plain, *starts), outputs=(window,), attributes=attributes)
    return [cut, Node("reshape", (window,), reader.outputs, {}, where=reader.where)]


def _write_one(node: Node, result: int, reader: Node, number: int) -> Node | None:
    """Return the kernel writing the transpose of a result; None where it cannot.

    One that writes in place takes an operand of the given number, the transpose of the one that it took.
    """
    permutation = tuple(reader.attributes.get("permutation", ()))
    writer = _writer_of(node, result, permutation) if reader.op == "transpose" else None
    if writer is None:
        return None
    cell, back = node.attributes["cell"], _inverse(permutation)
    content, update, *starts = writer.inputs
    free, shape = cell.free_id(), reader.output.shape
    contents, state = (Value(free + place, content.dtype, shape) for place in (0, 1))
    turned = Value(free + 2, update.dtype, tuple(update.shape[axis] for axis in permutation))
    nodes: list[Node] = []
    for window, each in enumerate(cell.nodes, free + 3):
        if each is writer:
            nodes.append(Node("reshape", (update,), (turned,), {}, where=writer.where))
            moved = (starts[axis] for axis in permutation)
            nodes.append(replace(writer, inputs=(contents, turned, *moved), outputs=(state,)))
        else:
            nodes += _read_plainly(each, contents, back, window) if content in each.inputs else [each]
    inputs = [contents if value == content else value for value in cell.inputs]
    operands = list(node.inputs)
    if result < node.attributes["updates"]:
        place = len(node.attributes["grid"]) + result
        inputs[place] = Value(free + 3 + len(cell.nodes), content.dtype, shape)
        operands[result] = Value(number, content.dtype, shape)
    outputs = (*cell.outputs[:result], state, *cell.outputs[result + 1 :])
    attributes = {**node.attributes, "cell": replace(cell, inputs=tuple(inputs), nodes=tuple(nodes), outputs=outputs)}
    results = (*node.outputs[:result], reader.output, *node.outputs[result + 1 :])
    return replace(node, inputs=tuple(operands), outputs=results, attributes=attributes)


def _writer_of(node: Node, result: int, permutation: Sequence[int]) -> Node | None:
    """Return the one node that writes a result, if windows of it can be turned and nobody looks at it afterwards."""
    cell: Graph = node.attributes["cell"]
    content, last = cell.inputs[len(cell.inputs) - len(cell.outputs) + result], cell.outputs[result]
    writer = cell.producers().get(last)
    if writer is None or writer.op != "dynamic_update_slice" or last.shape != node.outputs[result].shape:
        return None
    target, update = writer.inputs[:2]
    wide = [axis for axis in permutation if update.shape[axis] > 1]
    if target != content or update == content or wide != sorted(wide) or cell.outputs.count(last) > 1:
        return None
    unread = {last}
    if result < node.attributes["updates"]:
        # What the operand held is what the result holds before.
        unread.add(cell.inputs[len(node.attributes["grid"]) + result])
    others = [each for each in cell.nodes if content in each.inputs and each is not writer]
    if not all(_moves_ones(each, content, _inverse(permutation)) for each in others):
        return None
    return None if any(unread.intersection(each.inputs) for each in cell.nodes) else writer


def _inverse(permutation: Sequence[int]) -> tuple[int, ...]:
    return tuple(permutation.index(axis) for axis in range(len(permutation)))
