"""Numbers for rows that may stay sums of parts, each lane adding to its own, until somebody needs the numbers.

mass = mass * decay + sum(weights), in each round   ->   parts alone are scaled and added; their sum is taken at the end
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ...graph import Value
from ..tile.blocks import Block, Step
from .follow import DOWN, Follows
from .matrices import Tile

if TYPE_CHECKING:
    from .emit import Emitter


def find_partial(cell: Block, follows: Follows) -> frozenset[Value]:
    """Return the numbers for rows that are sums of sums of rows: all that are found right if they all are."""
    steps = [step for step, _ in cell.walk()]
    producers = {value: step for step in steps for value in step.outputs}
    carried = dict(_carried(steps))
    found = {value for value in (*producers, *carried) if _is_column(value, follows)}
    while True:
        kept = {value for value in found if _is_sum(value, producers, carried, found)}
        # Of what is left, a product of two sums is none.
        kept = kept if kept != found else {value for value in found if not _is_square(value, producers, found)}
        if kept == found:
            return frozenset(found)
        found = kept


def _carried(steps: list[Step]) -> Iterator[tuple[Value, Value]]:
    """Yield what loops carry, with what a round makes of it."""
    for step in steps:
        if step.op == "while":
            yield from zip(step.blocks[1].inputs, step.blocks[1].outputs, strict=True)


def _is_column(value: Value, follows: Follows) -> bool:
    return value.dtype == "f32" and [place for place in follows.get(value, ()) if place is not None] == [DOWN]


def _is_sum(value: Value, producers: Mapping[Value, Step], carried: Mapping[Value, Value], found: set[Value]) -> bool:
    if value in carried:
        return carried[value] in found
    step = producers[value]
    if step.op == "reduce":
        start = producers.get(step.inputs[1])
        is_zero = start is not None and start.op == "constant" and not start.node.attributes["value"].any()
        return step.node.attributes["kind"] == "add" and is_zero
    if step.op == "add":
        return all(operand in found for operand in step.inputs)
    # Elsewhere than in a loop it would win nothing, and a part of 0 times inf is no part of inf.
    scales = (operand in found and _is_of_last_round(operand, producers, carried) for operand in step.inputs)
    return step.op == "multiply" and any(scales)


def _is_of_last_round(value: Value, producers: Mapping[Value, Step], carried: Mapping[Value, Value]) -> bool:
    """Tell whether a sum adds to, or scales, what a loop carries."""
    if value in carried:
        return True
    step = producers.get(value)
    if step is None or step.op not in ("add", "multiply"):
        return False
    return any(_is_of_last_round(each, producers, carried) for each in step.inputs)


def _is_square(value: Value, producers: Mapping[Value, Step], found: set[Value]) -> bool:
    step = producers.get(value)
    return step is not None and step.op == "multiply" and all(operand in found for operand in step.inputs)


def compute_partial(emitter: Emitter, value: Value) -> Tile:
    """Return the parts of a number for each row."""
    if value in emitter.held:
        return emitter.matrices.partial(emitter.held[value])
    step, thin = emitter.producers[value], emitter.bands.thin
    if step.op == "add":
        left, right = (compute_partial(emitter, operand) for operand in step.inputs)
        return emitter.matrices.arithmetic("add", left, right)
    summed, factor = sorted(step.inputs, key=lambda operand: operand not in emitter.partials)
    return emitter.matrices.arithmetic("multiply", compute_partial(emitter, summed), emitter.matrix(factor, thin))
