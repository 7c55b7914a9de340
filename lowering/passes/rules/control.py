"""Loops and branches: regions rewritten, what never changes taken out of the loop, constants taken in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ...graph import Graph, Node, Value
from ...loops import trip_count
from ..dead import drop_dead
from ..rewriting import NO_CONSTANTS, Rewriter, Rule, Rules
from .folding import constants_of

# Rewriting a body can reveal new invariants; each round takes out at least one.
_MAX_ROUNDS = 4


def rewrite(graph: Graph, rules: Rules, constants: Mapping[int, np.ndarray] = NO_CONSTANTS) -> Graph:
    """Return the graph rewritten by the rules, without dead nodes. Inputs with known constants are no longer read."""
    rewriter = Rewriter(graph, rules)
    outputs = rewriter.walk(graph, constants)
    return drop_dead(replace(graph, nodes=tuple(rewriter.nodes), outputs=outputs))


def rewrite_while(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """Take invariant carries out of a loop, rewrite its regions, find its trip count.

    Before                                         After
      %4, %5 = while(%0, %1) {captures=0}            %4 = while(%0, %1) {captures=1}
          body(%0, %1): %2 = add(%0, %1)                 body(%0, %1): %2 = add(%0, %1)
          return %2, %1                                  return %2
    """
    inputs, found = node.inputs, node.attributes
    cond, body, count = found["cond"], found["body"], len(node.outputs)
    standing: dict[int, Value] = {}
    names = list(range(count))
    for _ in range(_MAX_ROUNDS):
        fixed = [i for i in range(len(names)) if body.outputs[i] == body.inputs[i]]
        standing.update({names[i]: inputs[i] for i in fixed})
        carried = [i for i in range(len(names)) if i not in fixed]
        order = [*carried, *(i for i in range(len(inputs)) if i not in carried)]
        inputs = _pick(inputs, order)
        cond = replace(cond, inputs=_pick(cond.inputs, order))
        body = replace(body, inputs=_pick(body.inputs, order), outputs=_pick(body.outputs, carried))
        names = [names[i] for i in carried]
        constants = _after(constants_of(rewriter, inputs), len(names))
        cond, body = rewrite(cond, rewriter.rules, constants), rewrite(body, rewriter.rules, constants)
        inputs, cond, body = _without_unused(inputs, len(names), cond, body)
        if all(body.outputs[i] != body.inputs[i] for i in range(len(names))):
            break
    rounds = trip_count(cond, body, constants_of(rewriter, inputs))
    rounds = found["trip_count"] if rounds is None else rounds
    if not names or rounds == 0:
        return tuple(standing.get(i, node.inputs[i]) for i in range(count))
    attributes = {"cond": cond, "body": body, "captures": len(inputs) - len(names), "trip_count": rounds}
    loop = Node("while", inputs, tuple(node.outputs[i] for i in names), attributes, node.where)
    results = dict(zip(names, _append(rewriter, loop), strict=True))
    return tuple(standing[i] if i in standing else results[i] for i in range(count))


def rewrite_case(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """Rewrite the branches; a constant index takes its branch in place.

    Before                                         After
      %3 = case(constant 1, %0)                      %3 = sine(%0)
          branch0(%0): return %0
          branch1(%0): %1 = sine(%0)
    """
    index, *captured = node.inputs
    branches = node.attributes["branches"]
    known = rewriter.splat(index)
    if known is not None or len(branches) == 1:
        chosen = 0 if known is None else int(known)
        return inline(rewriter, branches[chosen if 0 <= chosen < len(branches) else -1], captured)
    constants = constants_of(rewriter, tuple(captured))
    branches = [rewrite(branch, rewriter.rules, constants) for branch in branches]
    used = sorted(set().union(*map(_used_positions, branches)))
    attributes = {"branches": tuple(replace(branch, inputs=_pick(branch.inputs, used)) for branch in branches)}
    return _append(rewriter, Node("case", (index, *_pick(captured, used)), node.outputs, attributes, node.where))


def inline(rewriter: Rewriter, graph: Graph, arguments: Sequence[Value]) -> tuple[Value, ...]:
    """Append a copy of a graph's nodes and return what its outputs became."""
    renamed = dict(zip(graph.inputs, arguments, strict=True))
    for node in graph.nodes:
        inputs = tuple(renamed[value] for value in node.inputs)
        outputs = tuple(rewriter.new_value(value.dtype, value.shape) for value in node.outputs)
        found = rewriter.add(Node(node.op, inputs, outputs, node.attributes, node.where))
        renamed.update(zip(node.outputs, found, strict=True))
    return tuple(renamed[value] for value in graph.outputs)


def _append(rewriter: Rewriter, node: Node) -> tuple[Value, ...]:
    rewriter.append(node)
    return node.outputs


def _without_unused(
    inputs: tuple[Value, ...], carried: int, cond: Graph, body: Graph
) -> tuple[tuple[Value, ...], Graph, Graph]:
    """Drop captured values that neither region reads."""
    used = _used_positions(cond) | _used_positions(body)
    kept = [i for i in range(len(inputs)) if i < carried or i in used]
    cond, body = (replace(each, inputs=_pick(each.inputs, kept)) for each in (cond, body))
    return _pick(inputs, kept), cond, body


def _used_positions(graph: Graph) -> set[int]:
    used = {value for node in graph.nodes for value in node.inputs} | set(graph.outputs)
    return {position for position, value in enumerate(graph.inputs) if value in used}


def _after(constants: Mapping[int, np.ndarray], first: int) -> dict[int, np.ndarray]:
    """Return the constants at positions from `first` on: those of captured values."""
    return {position: array for position, array in constants.items() if position >= first}


def _pick(values: Sequence[Value], positions: Iterable[int]) -> tuple[Value, ...]:
    return tuple(values[i] for i in positions)


RULES: dict[str, tuple[Rule, ...]] = {"case": (rewrite_case,), "while": (rewrite_while,)}
