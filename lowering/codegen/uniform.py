"""What is the same along a whole row and known before it is walked: computed once, however often it is used."""

from __future__ import annotations

from collections.abc import Sequence

from shaders.spirv import Value as Register

from ..graph import Graph, Node, Value
from ..neighbours import REDUCTIONS, starts_of
from ..passes.axes import Axes, operand_axes
from .expression import Expression

# Nothing is won by keeping these: they are computed from what is kept.
_FREE = frozenset({"constant", "iota", "broadcast_in_dim", "reshape"})


def hoist(expression: Expression, fusion: Node, kept: Sequence[Register]) -> None:
    """Fix the values that depend on the row alone; `kept` is its position along the axes that are not reduced."""
    zero = expression.number(0)
    for value, axes in uniform_values(fusion).items():
        place = dict(zip(_kept_axes(fusion), kept, strict=True))
        dims = tuple(zero if axis is None else place[axis] for axis in axes)
        expression.fixed[value] = expression.at(value, expression.index(value.shape, dims=dims))


def uniform_values(fusion: Node) -> dict[Value, Axes]:
    """Return the values that follow axes that are not reduced and come from no reduction, in the order of the body."""
    body: Graph = fusion.attributes["body"]
    kept = set(_kept_axes(fusion))
    maps = _maps(fusion)
    late: set[Value] = set()
    result: dict[Value, Axes] = {}
    for value, node in [*((v, None) for v in body.inputs), *((v, n) for n in body.nodes for v in n.outputs)]:
        if node is not None and (node.op in REDUCTIONS or late.intersection(node.inputs)):
            late.add(value)
            continue
        found = maps.get(value, set())
        axes = next(iter(found)) if len(found) == 1 else None
        if axes is None or (node is not None and (node.op in _FREE or len(node.outputs) != 1)):
            continue
        wide = [axis for axis in axes if axis is not None]
        if wide and kept.issuperset(wide):
            result[value] = axes
    return result


def _kept_axes(fusion: Node) -> list[int]:
    reduced = fusion.attributes["reduced"]
    return [axis for axis in range(len(fusion.attributes["domain"])) if axis not in reduced]


def _maps(fusion: Node) -> dict[Value, set[Axes | None]]:
    """Return how every value of the body is read from the positions of the walk; results of reductions end a path."""
    producers = fusion.attributes["body"].producers()
    found: dict[Value, set[Axes | None]] = {}
    pending = list(starts_of(fusion))
    while pending:
        value, axes = pending.pop()
        if axes in found.setdefault(value, set()):
            continue
        found[value].add(axes)
        node = producers.get(value)
        if node is None or node.op in REDUCTIONS:
            continue
        for position, operand in enumerate(node.inputs):
            pending.append((operand, None if axes is None else operand_axes(node, position, axes)))
    return found
