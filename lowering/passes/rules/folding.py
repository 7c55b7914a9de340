"""Constants: one canonical form, arithmetic on constants done at once, arrays without elements made constant."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ... import dtypes, ops
from ...bodies import identity
from ...graph import Graph, Node, Value
from ...reference import evaluate
from ..rewriting import EVERY, Rewriter, Rule

# Folding trades time of a kernel for bytes of a program; beyond this it would bloat the program.
MAX_FOLDED_ELEMENTS = 1024
# Constants up to this size are looked through for one number that fills them.
_SCANNED_NBYTES = 1 << 20
_NEVER_FOLDED = frozenset({"constant", "iota", "while", "case", "custom_call"})
_MOVES = frozenset({"broadcast_in_dim", "reshape", "transpose", "slice", "reverse"})


def canonical_constant(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """Constant [7, 7, 7] -> constant 7 that fills."""
    array = node.attributes["value"]
    if array.ndim == 0 or array.nbytes > _SCANNED_NBYTES:
        return None
    if array.size == 0:
        return (zeros(rewriter, node.output, node.where),)
    words = np.ascontiguousarray(array).reshape(-1).view(np.dtype((np.void, array.dtype.itemsize)))
    if words[0] != words[-1] or not (words == words[0]).all():
        return None
    return (rewriter.constant(array.reshape(-1)[0].reshape(()), node.output.shape, node.where),)


def without_elements(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """Any array without elements -> constant; a product over no elements -> zeros."""
    if node.op in _NEVER_FOLDED or any(value.size for value in node.outputs):
        return None
    return tuple(zeros(rewriter, value, node.where) for value in node.outputs)


def zeros(rewriter: Rewriter, like: Value, where: str = "") -> Value:
    """Return zeros of the type of a value."""
    return rewriter.constant(np.zeros((), dtypes.NUMPY[like.dtype]), like.shape, where)


def changes_nothing(rewriter: Rewriter, value: Value, kind: str) -> bool:
    """Tell whether a first value is known to be what changes nothing under a kind of reduction."""
    number = rewriter.splat(value)
    neutral = np.asarray(identity(kind, value.dtype)).astype(dtypes.NUMPY[value.dtype])
    return number is not None and np.array_equal(number, neutral)


def fold(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """add(constant 1, constant 2) -> constant 3, where the results are small or one number fills them."""
    if node.op in _NEVER_FOLDED or not node.inputs:
        return None
    arrays = [rewriter.constant_value(value) for value in node.inputs]
    known = [array for array in arrays if array is not None]
    if len(known) != len(arrays):
        return None
    if all(array.ndim == 0 for array in known):
        if ops.is_elementwise(node):
            return (_fold_scalars(rewriter, node, known),)
        if node.op in _MOVES:
            return (rewriter.constant(known[0], node.output.shape, node.where),)
    if max(value.size for value in (*node.outputs, *node.inputs)) > MAX_FOLDED_ELEMENTS:
        return None
    filled = [np.broadcast_to(array, value.shape) for array, value in zip(known, node.inputs, strict=True)]
    results = evaluate(node, filled)
    return tuple(rewriter.constant(np.array(array), array.shape, node.where) for array in results)


def _fold_scalars(rewriter: Rewriter, node: Node, arrays: list[np.ndarray]) -> Value:
    """Compute one element of a result whose elements are all equal."""
    scalar = replace(
        node,
        inputs=tuple(Value(value.id, value.dtype, ()) for value in node.inputs),
        outputs=(Value(node.output.id, node.output.dtype, ()),),
    )
    return rewriter.constant(np.asarray(evaluate(scalar, arrays)[0]), node.output.shape, node.where)


def constants_of(rewriter: Rewriter, values: tuple[Value, ...]) -> dict[int, np.ndarray]:
    """Return the constants among values that are cheap to make again in a region, by position."""
    found: dict[int, np.ndarray] = {}
    for position, value in enumerate(values):
        array = rewriter.constant_value(value)
        if array is not None and array.size <= MAX_FOLDED_ELEMENTS:
            found[position] = array
    return found


def is_known_body(body: Graph) -> bool:
    """Tell whether a body of scalars can run on whole arrays: elementwise operations and constants only."""
    return all(node.op == "constant" or ops.is_elementwise(node) for node in body.nodes)


RULES: dict[str, tuple[Rule, ...]] = {
    EVERY: (without_elements, fold),
    "constant": (canonical_constant,),
}
