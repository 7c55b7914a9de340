"""Take cheap arithmetic around tile kernels into their cells: what is read once, and what is done to a result.

Before                                     After
  %2 = convert(%0) : bf16                    %4 = tile(%0, %1) {cell: convert, the kernel, add}
  %3 = tile(%2)
  %4 = add(%3, %1)

An operand's arithmetic moves where the kernel reads about as many elements as there are, and where each workgroup reads
so few that a subgroup computes them at once: another that is read again and again is better computed once. A result's
moves to where the cell writes its block, if that is one place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf, prod

from .. import ops
from ..graph import Graph, Node, Value, map_regions
from .dead import drop_dead
from .normalise import RULES
from .roots import COSTS
from .rules import windows
from .rules.control import rewrite
from .rules.merging import merge_rules
from .rules.windows import moves_unit_axes

# Arithmetic for each element that may move into a read, and behind a result.
CHEAP, EPILOGUE = 8, 24
# Elements read for each that there is, up to which an operand counts as read once.
ONCE = 1.5
# Elements that a workgroup reads, up to which it may compute them whoever else does: a launch takes longer.
FEW = 32
_MOST_LEAVES = 4
_MOST_STEPS = 8
_INSIDE = merge_rules(RULES, windows.RULES)


Allows = Callable[[Node, Node], bool]
"""(a kernel, the same with more in its cell) -> whether the second one may stand for the first."""


def fold_tiles(graph: Graph, allows: Allows = lambda before, after: True) -> Graph:
    """Return the graph with arithmetic moved into tile kernels where that is allowed, in regions as well."""
    fold = partial(fold_tiles, allows=allows)
    nodes = tuple(map_regions(n, fold) if n.op in ("while", "case") else n for n in graph.nodes)
    graph = replace(graph, nodes=nodes)
    for _ in range(_MOST_STEPS * sum(node.op == "tile" for node in nodes)):
        folded = _fold_one(graph, allows)
        if folded is None:
            break
        graph = folded
    return drop_dead(graph)


def _fold_one(graph: Graph, allows: Allows) -> Graph | None:
    """Return the graph after one move, None where there is nothing to move."""
    around = _Around(graph.producers(), graph.users(), frozenset(graph.outputs))
    for place, node in enumerate(graph.nodes):
        if node.op != "tile":
            continue
        folded = _with_producer(node, around, allows)
        if folded is not None:
            return replace(graph, nodes=(*graph.nodes[:place], folded, *graph.nodes[place + 1 :]))
        ended = _with_consumer(node, around)
        if ended is not None and allows(node, ended[1]):
            user, folded = ended
            rest = [folded if each is user else each for each in graph.nodes if each is not node]
            return replace(graph, nodes=tuple(rest))
    return None


@dataclass(frozen=True)
class _Around:
    """The graph that a tile kernel stands in."""

    producers: Mapping[Value, Node]
    users: Mapping[Value, Sequence[Node]]
    outputs: frozenset[Value]

    def is_free(self, value: Value, node: Node) -> bool:
        """Tell whether a value may be made inside of a kernel: nobody else reads it, or one number fills it.

        The latter not where an author says how bands lie: there are registers to spare for no number then. Causal
        attention with ALiBi takes an H100 528 microseconds with a scale that is read, and 549 with one that is known.
        """
        producer = self.producers.get(value)
        is_filled = producer is not None and producer.op == "constant" and _can_move(producer)
        is_filled = is_filled and "band" not in dict(node.attributes.get("options", ()))
        return is_filled or (value not in self.outputs and set(self.users[value]) == {node})

    def chain(self, value: Value, most: int) -> tuple[list[Node], list[Value]] | None:
        """Return the cheap nodes that make a value, in order, and the arrays that they start from."""
        nodes: list[Node] = []
        leaves: dict[Value, None] = {}
        if not self._walk(value, nodes, leaves) or len(leaves) > _MOST_LEAVES:
            return None
        cost = sum(COSTS.get(node.op, 1) for node in nodes)
        return (nodes, list(leaves)) if cost <= most else None

    def _walk(self, value: Value, nodes: list[Node], leaves: dict[Value, None]) -> bool:
        node = self.producers.get(value)
        if node is None or not _can_move(node):
            leaves[value] = None
            return len(leaves) <= _MOST_LEAVES
        if node in nodes:
            return True
        if not all(self._walk(operand, nodes, leaves) for operand in node.inputs):
            return False
        nodes.append(node)
        return len(nodes) <= 4 * _MOST_STEPS


def _can_move(node: Node) -> bool:
    if node.op == "constant":
        return node.attributes["value"].ndim == 0
    is_moved = node.op == "reshape" and moves_unit_axes(node)
    return is_moved or ops.is_elementwise(node) or node.op in ("broadcast_in_dim", "iota")


@dataclass
class _Editor:
    """Changes a cell: hands out numbers, and copies nodes from around it."""

    cell: Graph
    next_id: int = 0
    nodes: list[Node] = field(default_factory=list)

    def __post_init__(self) -> None:
        values = (*self.cell.inputs, *(value for node in self.cell.nodes for value in node.outputs))
        self.next_id = 1 + max((value.id for value in values), default=0)

    def fresh(self, dtype: str, shape: tuple[int, ...]) -> Value:
        """Return a new value."""
        self.next_id += 1
        return Value(self.next_id - 1, dtype, shape)

    def copy(self, nodes: Sequence[Node], names: dict[Value, Value]) -> None:
        """Append copies of nodes; `names` maps outer values to the cell's and grows."""
        for node in nodes:
            names[node.output] = self.fresh(node.output.dtype, node.output.shape)
            inputs = tuple(names[value] for value in node.inputs)
            self.nodes.append(replace(node, inputs=inputs, outputs=(names[node.output],)))


def _inputs_of(node: Node) -> tuple[int, tuple[Value, ...], tuple[Value, ...], tuple[Value, ...]]:
    """Return the number of grid axes, and a cell's positions, operands and first contents."""
    cell, axes, count = node.attributes["cell"], len(node.attributes["grid"]), len(node.inputs)
    return axes, cell.inputs[:axes], cell.inputs[axes : axes + count], cell.inputs[axes + count :]


def _with_producer(node: Node, around: _Around, allows: Allows) -> Node | None:
    """Return the kernel with the arithmetic before one of its operands inside."""
    cell = node.attributes["cell"]
    _, positions, operands, contents = _inputs_of(node)
    for place in range(node.attributes["updates"], len(node.inputs)):
        value, inner = node.inputs[place], operands[place]
        if inner.shape != value.shape or not around.is_free(value, node):
            continue
        if node.inputs.count(value) > 1 or around.producers.get(value) is None:
            continue
        found, times = around.chain(value, CHEAP), prod(node.attributes["grid"])
        if found is None or not found[0] or _volume(cell, inner, times) > max(ONCE * value.size, FEW * times):
            continue
        chain, leaves = found
        editor, kept = _Editor(cell), [each for each in node.inputs if each != value]
        names = _names(node, leaves, editor)
        if names is None:
            continue
        added = [leaf for leaf in leaves if leaf not in kept]
        editor.copy(chain, names)
        inputs = (
            *positions,
            *(each for each in operands if each != inner),
            *(names[leaf] for leaf in added),
            *contents,
        )
        body = _renamed(cell, inner, names[value])
        changed = replace(cell, inputs=inputs, nodes=(*editor.nodes, *body.nodes), outputs=body.outputs)
        # What is read one by one is computed one by one.
        changed = rewrite(changed, _INSIDE)
        folded = replace(node, inputs=(*kept, *added), attributes={**node.attributes, "cell": changed})
        if allows(node, folded):
            return folded
    return None


def _names(node: Node, leaves: Sequence[Value], editor: _Editor) -> dict[Value, Value] | None:
    """Return what arrays are called inside: operands that are there already are used again."""
    _, _, operands, _ = _inputs_of(node)
    names: dict[Value, Value] = {}
    for leaf in leaves:
        if leaf not in node.inputs:
            names[leaf] = editor.fresh(leaf.dtype, leaf.shape)
            continue
        place = node.inputs.index(leaf)
        if place < node.attributes["updates"] or operands[place].shape != leaf.shape:
            return None
        names[leaf] = operands[place]
    return names


def _renamed(graph: Graph, old: Value, new: Value) -> Graph:
    """Return a graph that reads another value; regions name their own and stay as they are."""

    def name(value: Value) -> Value:
        return new if value == old else value

    nodes = tuple(replace(node, inputs=tuple(map(name, node.inputs))) for node in graph.nodes)
    return replace(graph, nodes=nodes, outputs=tuple(map(name, graph.outputs)))


def _volume(graph: Graph, value: Value, times: float) -> float:
    """Return how many elements of an array are read, for a graph that runs so many times."""
    total = times * value.size * graph.outputs.count(value)
    for node in graph.nodes:
        if value not in node.inputs:
            continue
        if node.op == "while":
            total += _loop_volume(node, value, times)
        elif node.op == "case":
            place = node.inputs.index(value) - 1
            total += max(_volume(branch, branch.inputs[place], times) for branch in node.attributes["branches"])
        elif node.op in ("dynamic_slice", "slice", "gather"):
            total += times * node.output.size
        else:
            total += times * value.size
    return total


def _loop_volume(node: Node, value: Value, times: float) -> float:
    count, trips = len(node.outputs), node.attributes["trip_count"]
    if trips is None or value in node.inputs[:count]:
        return inf
    body = node.attributes["body"]
    return sum(
        _volume(body, body.inputs[place], times * trips)
        for place, operand in enumerate(node.inputs)
        if operand == value
    )


def _with_consumer(node: Node, around: _Around) -> tuple[Node, Node] | None:
    """Return a node that only works on the kernel's result, and the kernel that does it as well."""
    if len(node.outputs) != 1 or node.attributes["updates"] or node.output in around.outputs:
        return None
    users = around.users.get(node.output, [])
    user = users[0] if len(set(users)) == 1 and ops.is_elementwise(users[0]) else None
    cell = node.attributes["cell"]
    if user is None or cell.outputs[0].shape != node.output.shape or user.output.shape != node.output.shape:
        return None
    others = [value for value in dict.fromkeys(user.inputs) if value != node.output]
    chains = [around.chain(value, CHEAP) for value in others]
    cost = COSTS.get(user.op, 1) + sum(COSTS.get(n.op, 1) for found in chains if found for n in found[0])
    if None in chains or cost > EPILOGUE:
        return None
    leaves = list(dict.fromkeys(leaf for found in chains if found for leaf in found[1]))
    if node.output in leaves or len(leaves) > _MOST_LEAVES:
        return None
    editor = _Editor(cell)
    names = _names(node, leaves, editor)
    if names is None:
        return None
    for found in chains:
        editor.copy([each for each in (found[0] if found else []) if each.output not in names], names)
    return _ended(node, user, leaves, (editor, names))


def _ended(
    node: Node, user: Node, leaves: Sequence[Value], work: tuple[_Editor, dict[Value, Value]]
) -> tuple[Node, Node] | None:
    """Apply the user where the cell writes its result: to the block, or to the whole where it is one block."""
    editor, names = work
    cell = node.attributes["cell"]
    _, positions, operands, (content,) = _inputs_of(node)
    last = cell.producers().get(cell.outputs[0])
    readers = cell.users()
    first = editor.fresh(user.output.dtype, content.shape)
    if last is None or last.op == "tile":
        return None
    if last.op == "dynamic_update_slice" and last.inputs[0] == content:
        if readers.get(content) != [last] or readers.get(last.output):
            return None
        block, starts = last.inputs[1], last.inputs[2:]
        body = [each for each in cell.nodes if each is not last]
    elif readers.get(content):
        return None
    else:
        block, starts, body = cell.outputs[0], (), list(cell.nodes)
    added = [leaf for leaf in leaves if leaf not in node.inputs]
    inputs = (*positions, *operands, *(names[leaf] for leaf in added), first)
    names[node.output] = block
    _cut(editor, names, [value for value in user.inputs if value != node.output and value.shape], block, starts)
    result = editor.fresh(user.output.dtype, block.shape)
    editor.nodes.append(replace(user, inputs=tuple(names[value] for value in user.inputs), outputs=(result,)))
    if starts:
        whole = editor.fresh(user.output.dtype, content.shape)
        editor.nodes.append(replace(last, inputs=(first, result, *starts), outputs=(whole,)))
        result = whole
    changed = replace(cell, inputs=inputs, nodes=(*body, *editor.nodes), outputs=(result,))
    attributes = {**node.attributes, "cell": changed}
    return user, replace(node, inputs=(*node.inputs, *added), outputs=user.outputs, attributes=attributes)


def _cut(
    editor: _Editor, names: dict[Value, Value], values: Sequence[Value], block: Value, starts: Sequence[Value]
) -> None:
    """Let arrays stand for their part beside a block."""
    for value in dict.fromkeys(values):
        if starts:
            part = editor.fresh(value.dtype, block.shape)
            cut = Node("dynamic_slice", (names[value], *starts), (part,), {"sizes": block.shape})
            editor.nodes.append(cut)
            names[value] = part
