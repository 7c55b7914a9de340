"""The table of operations: name, family, number of inputs, and the rule that its types obey.

The NumPy meaning of a row is `lowering.reference.MEANINGS[name]`; its family is the file where that meaning stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import GraphError, message
from ..graph import Graph, Node, regions
from . import rules
from .rules import Rule

Family = Literal["elementwise", "shape", "reduce", "dot", "gather", "control"]


@dataclass(frozen=True, slots=True)
class Operation:
    """One row. `arity` is the number of inputs, or None where it varies; `rule` returns what is wrong with a node."""

    name: str
    family: Family
    arity: int | None
    rule: Rule


# family, number of inputs (None: any), rule, names
_ROWS: tuple[tuple[Family, int | None, Rule, str], ...] = (
    ("elementwise", 1, rules.same_type(rules.NUMERIC), "negate sign"),
    ("elementwise", 1, rules.same_type(rules.INEXACT), "exponential exponential_minus_one log log_plus_one logistic"),
    ("elementwise", 1, rules.same_type(rules.INEXACT), "sine cosine tan tanh sqrt rsqrt cbrt"),
    ("elementwise", 1, rules.same_type(rules.FLOAT), "ceil floor round_nearest_even round_nearest_afz"),
    ("elementwise", 1, rules.same_type(rules.FLOAT), "reduce_precision"),
    ("elementwise", 1, rules.same_type(rules.BITS), "not"),
    ("elementwise", 1, rules.same_type(rules.INTEGER), "popcnt count_leading_zeros"),
    ("elementwise", 1, rules.real_part, "abs real imag"),
    ("elementwise", 1, rules.is_finite, "is_finite"),
    ("elementwise", 1, rules.same_shape, "convert"),
    ("elementwise", 2, rules.same_type(rules.ANY), "add multiply maximum minimum"),
    ("elementwise", 2, rules.same_type(rules.NUMERIC), "subtract divide remainder power"),
    ("elementwise", 2, rules.same_type(rules.INEXACT), "atan2"),
    ("elementwise", 2, rules.same_type(rules.BITS), "and or xor"),
    ("elementwise", 2, rules.same_type(rules.INTEGER), "shift_left shift_right_logical shift_right_arithmetic"),
    ("elementwise", 2, rules.compare, "compare"),
    ("elementwise", 2, rules.complex_from_parts, "complex"),
    ("elementwise", 3, rules.select, "select"),
    ("elementwise", 3, rules.clamp, "clamp"),
    ("shape", 0, rules.constant, "constant"),
    ("shape", 0, rules.iota, "iota"),
    ("shape", 1, rules.reshape, "reshape"),
    ("shape", 1, rules.bitcast_convert, "bitcast_convert"),
    ("shape", 1, rules.broadcast_in_dim, "broadcast_in_dim"),
    ("shape", 1, rules.transpose, "transpose"),
    ("shape", 1, rules.slice_, "slice"),
    ("shape", 1, rules.same_type(rules.ANY), "reverse"),
    ("shape", 2, rules.pad, "pad"),
    ("shape", None, rules.concatenate, "concatenate"),
    ("dot", 2, rules.dot_general, "dot_general"),
    ("reduce", None, rules.reduce, "reduce"),
    ("reduce", None, rules.reduce_window, "reduce_window"),
    ("gather", 2, rules.gather, "gather"),
    ("gather", None, rules.scatter, "scatter"),
    ("gather", None, rules.dynamic_slice, "dynamic_slice"),
    ("gather", None, rules.dynamic_update_slice, "dynamic_update_slice"),
    ("control", None, rules.while_, "while"),
    ("control", None, rules.case, "case"),
    ("control", None, rules.tile, "tile"),
)

TABLE: dict[str, Operation] = {
    name: Operation(name, family, arity, rule) for family, arity, rule, names in _ROWS for name in names.split()
}


def is_elementwise(node: Node) -> bool:
    """Tell whether each element of the result needs the same element of each input only (scalars may be broadcast)."""
    row = TABLE.get(node.op)
    return row is not None and row.family == "elementwise"


def check(node: Node) -> str | None:
    """Return what breaks the node's row, or None."""
    row = TABLE.get(node.op)
    if row is None:
        return "no such operation"
    if row.arity is not None and len(node.inputs) != row.arity:
        return f"{len(node.inputs)} inputs, not {row.arity}"
    return row.rule(node)


def verify_types(graph: Graph) -> Graph:
    """Return the graph if every node, in regions too, obeys its row; raise `GraphError` for the first that does not."""
    for node in graph.nodes:
        problem = check(node)
        if problem is not None:
            raise GraphError(_text(node, problem))
        for region in regions(node):
            verify_types(region)
    return graph


def _text(node: Node, problem: str) -> str:
    inputs = ", ".join(value.text for value in node.inputs)
    outputs = ", ".join(value.text for value in node.outputs)
    return message(
        f"verify_types: every {node.op} must obey its row of the operation table.",
        got=f"{node.op}({inputs}) -> {outputs}: {problem}",
        want="types that the operation gives",
        fix="report this defect with the program's StableHLO text.",
        at=node.where,
    )
