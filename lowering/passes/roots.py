"""Choose which values live in memory: the roots that kernels are built around; everything else is computed in place."""

from __future__ import annotations

from collections.abc import Mapping

from .. import dtypes
from ..graph import Graph, Node, Value
from .axes import reads

# One kernel of its own: these read or write memory in ways that an expression cannot.
ANCHORS = frozenset(
    {"reduce", "partial_reduce", "reduce_window", "dot_general", "scatter", "while", "case", "copy", "tile"}
)

# Cost of computing one element, in units of one cheap instruction; operations not listed cost one.
COSTS: Mapping[str, int] = {
    "constant": 0, "iota": 0, "broadcast_in_dim": 0, "reshape": 0, "convert": 1,
    "divide": 3, "remainder": 6, "sqrt": 3, "rsqrt": 3, "exponential": 10, "exponential_minus_one": 14, "log": 12,
    "log_plus_one": 14, "logistic": 12, "tanh": 14, "sine": 20, "cosine": 20, "tan": 30, "atan2": 20, "power": 30,
    "cbrt": 16, "gather": 4, "dynamic_slice": 3, "concatenate": 4, "pad": 3, "dynamic_update_slice": 4, "slice": 1,
}  # fmt: skip

# A value used more than once is recomputed rather than stored up to this cost, unless that reads arrays of this many
# times its bytes.
RECOMPUTE = 4
RECOMPUTE_BYTES = 2
# An expression is cut here, so that kernels stay within what drivers compile well.
LARGEST = 400
# Recomputing along a broadcast this wide is worth a trip through memory above the cost of BROADCAST_COST.
BROADCAST_RATIO = 8
BROADCAST_COST = 10

DOT_MOVES = frozenset({"reshape", "transpose", "broadcast_in_dim", "slice", "reverse"})


def choose_roots(graph: Graph) -> set[Value]:
    """Return the values that need memory: results of anchors, outputs, and what is too dear to compute again."""
    producers = graph.producers()
    users = graph.users()
    demanded = _demanded(graph, users, producers)
    roots: set[Value] = set()
    costs: dict[Value, int] = {}
    sources: dict[Value, frozenset[Value]] = {}
    for node in graph.nodes:
        if node.op in ANCHORS or _writes_in_place(node, roots, producers) or _changes_width(node):
            roots.update(node.outputs)
            # A view is no computation: what must be computed before is what it looks at.
            roots.update(_memory(value, producers) for value in _read_before_overwriting(node, roots, producers))
            continue
        if goes_round(node) or _turns_product(node, users, producers):
            roots.add(node.output)
        value = node.outputs[0]
        cost = COSTS.get(node.op, 1) + sum(0 if v in roots else costs.get(v, 0) for v in set(node.inputs))
        costs[value] = cost
        sources[value] = frozenset().union(*(sources.get(v, {v}) if v not in roots else {v} for v in node.inputs))
        if value in roots:
            costs[value] = 0
        elif value in demanded or is_large_constant(node):
            roots.add(value)
        elif _too_dear(value, users.get(value, []), cost) or _reads_much(value, users.get(value, []), sources[value]):
            # A view is as cheap as its operand: that is what memory must hold.
            roots.add(node.inputs[0] if is_view(node) else value)
            costs[value] = 0
    return roots


def _reads_much(value: Value, users: list[Node], sources: frozenset[Value]) -> bool:
    """Tell whether those that would compute a value again read much more than the value."""
    read = sum(min(source.nbytes, value.nbytes) for source in sources)
    return len(users) > 1 and read >= RECOMPUTE_BYTES * value.nbytes


def goes_round(node: Node) -> bool:
    """Tell whether one element takes a loop of its own: inside another, rounds multiply past what drivers allow.

    See `Capabilities.loop_rounds`.
    """
    dtype = node.outputs[0].dtype
    return (node.op == "remainder" and dtype in dtypes.FLOATS) or (
        node.op == "power" and dtype in dtypes.SIGNED | dtypes.UNSIGNED
    )


def _turns_product(node: Node, users: Mapping[Value, list[Node]], producers: Mapping[Value, Node]) -> bool:
    """Tell whether the kernel of a product can write its result in this order as well: columns stay side by side."""
    product = producers.get(node.inputs[0]) if node.op == "transpose" else None
    if product is None or product.op != "dot_general" or len(users[product.output]) > 1:
        return False
    permutation = node.attributes["permutation"]
    wide = [axis for axis in permutation if product.output.shape[axis] != 1]
    return bool(wide) and wide[-1] == max(wide)


def _writes_in_place(node: Node, roots: set[Value], producers: dict[Value, Node]) -> bool:
    """Tell whether an update can write into its operand's memory instead of computing every element anew."""
    operand = node.inputs[0] if node.inputs else None
    return node.op == "dynamic_update_slice" and (operand in roots or operand not in producers)


def _read_before_overwriting(node: Node, roots: set[Value], producers: dict[Value, Node]) -> list[Value]:
    """Return the operands of an in-place node that must be computed before it starts: they read what it overwrites."""
    if node.op not in ("scatter", "dynamic_update_slice"):
        return []
    count = len(node.outputs)
    overwritten = {_memory(value, producers) for value in node.inputs[:count]}

    def inlined(value: Value) -> Node | None:
        return None if value in roots else producers.get(value)

    return [
        value
        for value in node.inputs[count:]
        if inlined(value) is not None
        and any(_memory(leaf, producers) in overwritten for leaf, _ in reads([(value, None)], inlined))
    ]


def _memory(value: Value, producers: dict[Value, Node]) -> Value:
    """Follow views back to the value that owns the memory."""
    node = producers.get(value)
    while node is not None and is_view(node):
        value = node.inputs[0]
        node = producers.get(value)
    return value


def _changes_width(node: Node) -> bool:
    return node.op == "bitcast_convert" and node.output.shape != node.inputs[0].shape


def is_view(node: Node) -> bool:
    """Tell whether a root is only another look at its operand's memory."""
    return node.op in ("reshape", "bitcast_convert")


def _demanded(graph: Graph, users: dict[Value, list[Node]], producers: dict[Value, Node]) -> set[Value]:
    """Return the values that some reader takes from memory, through views as well."""
    demanded = set(graph.outputs)
    for node in reversed(graph.nodes):
        if node.op == "dot_general":
            sources = (_dot_source(value, producers) for value in node.inputs)
            demanded.update(v for v in sources if v in producers and producers[v].op != "constant")
        for value in node.outputs:
            if any(_reads_memory(user, value, producers) for user in users.get(value, [])):
                demanded.add(value)
            if value in demanded and is_view(node) and producers.get(node.inputs[0]) is not None:
                demanded.add(node.inputs[0])
    return demanded


def is_large_constant(node: Node) -> bool:
    """Tell whether a constant needs memory: more than one element that are not all the same."""
    return node.op == "constant" and node.attributes["value"].size > 1


def _too_dear(value: Value, users: list[Node], cost: int) -> bool:
    """Tell whether computing the value again for each use costs more than a trip through memory."""
    if cost == 0:
        return False
    if cost > LARGEST or (len(users) > 1 and cost > RECOMPUTE):
        return True
    return any(_widens(user, value, cost) for user in users)


def _widens(user: Node, value: Value, cost: int) -> bool:
    """Tell whether the user would compute the value far more often than it has elements."""
    if cost <= BROADCAST_COST or user.op not in ("broadcast_in_dim", "gather", "reduce_window"):
        return False
    return user.inputs[0] is value and user.output.size >= BROADCAST_RATIO * max(value.size, 1)


def _reads_memory(user: Node, value: Value, producers: dict[Value, Node]) -> bool:
    """Tell whether the user can take this operand from memory only."""
    if user.op in ("while", "case", "copy", "tile"):
        return True
    if user.op == "scatter":
        count = len(user.outputs)
        return value in user.inputs[:count]
    if user.op == "bitcast_convert":
        return user.output.shape != value.shape
    return False


def _dot_source(value: Value, producers: dict[Value, Node]) -> Value:
    """Return what a matrix product loads from memory for an operand: the start of a chain of moves.

    Every element is loaded many times, so arithmetic comes before the product, and so does a narrowing.
    """
    node = producers.get(value)
    while node is not None and (node.op in DOT_MOVES or _widens_elements(node)):
        value = node.inputs[0]
        node = producers.get(value)
    return value


def _widens_elements(node: Node) -> bool:
    return node.op == "convert" and dtypes.itemsize(node.output.dtype) >= dtypes.itemsize(node.inputs[0].dtype)
