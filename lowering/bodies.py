"""What a reduction's or scatter's body computes, recognised from its graph."""

from __future__ import annotations

import numpy as np

from . import dtypes
from .graph import Graph, Node, Value

# operation of a two-operand body -> kind
_BINARY = {"add": "add", "multiply": "mul", "maximum": "max", "minimum": "min", "and": "and", "or": "or", "xor": "xor"}
_COMMUTATIVE = frozenset({"add", "multiply", "maximum", "minimum", "and", "or", "xor"})
_EXTREMES = {"argmax": "GT", "argmin": "LT"}

Term = tuple[object, ...]


def reduction_kind(body: Graph) -> str | None:
    """Return the kind of a reduction's body, or None for one that is not in the table.

    A body of two numbers is one operation of both. A body of four (value, index, value, index) is the comparator
    that JAX emits for argmax and argmin.
    """
    if len(body.outputs) == 1:
        return _binary_kind(body)
    if len(body.outputs) == 2 and len(body.inputs) == 4:
        return _extreme_kind(body)
    return None


def scatter_kind(body: Graph) -> str | None:
    """Return the kind of a scatter's body: as for a reduction, or "set" where the update replaces the element."""
    if len(body.outputs) == 1 and len(body.inputs) == 2 and body.outputs[0] == body.inputs[1]:
        return "set"
    return _binary_kind(body) if len(body.outputs) == 1 else None


def identity(kind: str, dtype: str) -> object:
    """Return the number that changes nothing under a kind of reduction; argmax and argmin have none."""
    if kind in ("add", "or", "xor"):
        return 0
    if kind == "mul":
        return 1
    if kind == "and":
        return True if dtype == "bool" else (-1 if dtype in dtypes.SIGNED else int(np.iinfo(dtypes.NUMPY[dtype]).max))
    return _extreme(dtype, is_lowest=kind == "max")


def accumulator(kind: str, dtype: str) -> str:
    """Return the dtype that a running reduction is kept in."""
    return "f32" if dtype in ("f16", "bf16") and kind in ("add", "mul") else dtype


def binary_body(kind: str, dtype: str) -> Graph:
    """Return the body of two numbers that `reduction_kind` recognises as this kind."""
    left, right, result = (Value(i, dtype, ()) for i in range(3))
    (op,) = (op for op, name in _BINARY.items() if name == kind)
    return Graph("body", (left, right), (Node(op, (left, right), (result,)),), (result,))


def _extreme(dtype: str, *, is_lowest: bool) -> object:
    if dtype == "bool":
        return not is_lowest
    if dtype in dtypes.FLOATS:
        return -np.inf if is_lowest else np.inf
    limits = np.iinfo(dtypes.NUMPY[dtype])
    return int(limits.min if is_lowest else limits.max)


def _binary_kind(body: Graph) -> str | None:
    if len(body.inputs) != 2:
        return None
    term = _terms(body)[body.outputs[0]]
    if len(term) == 3 and term[0] in _BINARY and set(term[1:]) == {("input", 0), ("input", 1)}:
        return _BINARY[str(term[0])]
    return None


def _extreme_kind(body: Graph) -> str | None:
    terms = _terms(body)
    found = (terms[body.outputs[0]], terms[body.outputs[1]])
    for kind, direction in _EXTREMES.items():
        # JAX asks integers too whether they are NaN; a comparator of floats that does not ask is another one.
        if found == _extreme_terms(direction, with_nan=True):
            return kind
        if body.inputs[0].dtype not in dtypes.FLOATS and found == _extreme_terms(direction, with_nan=False):
            return kind
    return None


def _extreme_terms(direction: str, *, with_nan: bool) -> tuple[Term, Term]:
    """Compose the comparator: the better value wins, NaN beats all, among equals the smaller index wins."""
    value, index, other, other_index = (("input", position) for position in range(4))
    wins: Term = _compare(direction, value, other)
    if with_nan:
        wins = _sorted("or", wins, _compare("NE", value, value))
    tie = _sorted("and", _compare("EQ", value, other), _compare("LT", index, other_index))
    return ("select", wins, value, other), ("select", _sorted("or", wins, tie), index, other_index)


def _compare(direction: str, left: Term, right: Term) -> Term:
    name = "compare " + direction
    return _sorted(name, left, right) if direction in ("EQ", "NE") else (name, left, right)


def _sorted(op: str, *operands: Term) -> Term:
    return (op, *sorted(operands, key=repr))


def _terms(body: Graph) -> dict[Value, Term]:
    """Write every value of the body as a nested term over its inputs; operands of commutative operations are sorted."""
    terms: dict[Value, Term] = {value: ("input", position) for position, value in enumerate(body.inputs)}
    for node in body.nodes:
        operands = [terms[value] for value in node.inputs]
        for position, value in enumerate(node.outputs):
            if node.op == "compare" and not node.attributes["total_order"]:
                terms[value] = _compare(node.attributes["direction"], operands[0], operands[1])
            elif node.op in _COMMUTATIVE:
                terms[value] = _sorted(node.op, *operands)
            elif node.attributes:
                terms[value] = ("opaque", value.id)
            else:
                terms[value] = (node.op, position, *operands) if len(node.outputs) > 1 else (node.op, *operands)
    return terms
