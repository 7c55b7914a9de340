"""Algebra that holds for every input, NaN, infinities and signed zeros included.

x + 0 is not among it (-0 + 0 is 0) but x + -0 is; x * 0 is not for floats (NaN); complex products are left alone
because infinities make them NaN.
"""

from __future__ import annotations

import numpy as np

from ... import dtypes
from ...graph import Node, Value
from ..rewriting import Rewriter, Rule

_COMMUTATIVE = frozenset({"add", "multiply", "maximum", "minimum", "and", "or", "xor"})
_IDEMPOTENT = frozenset({"maximum", "minimum", "and", "or"})
_REAL = dtypes.FLOATS | dtypes.INTEGERS
_BITS = dtypes.INTEGERS | {"bool"}
# Integer division by these bounds never yields a subnormal reciprocal in any float dtype.
_MAX_RECIPROCAL_EXPONENT = 13


def _is(array: np.ndarray | None, number: float | bool) -> bool:
    """Tell whether a constant is exactly a number, the sign of zero included."""
    return array is not None and array.tobytes() == np.array(number).astype(array.dtype).tobytes()


def _is_all_ones(array: np.ndarray | None) -> bool:
    return array is not None and array.tobytes() == (b"\x01" if array.dtype == np.bool_ else b"\xff" * array.itemsize)


def neutral_operand(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """X * 1 -> x, x + -0.0 -> x, integer x + 0 -> x, x | 0 -> x, x & ~0 -> x, max(x, -inf) -> x, and mirrored."""
    for own, other in ((0, 1), (1, 0)):
        array = rewriter.splat(node.inputs[other])
        if array is not None and is_neutral(node.op, array):
            return (node.inputs[own],)
        if node.op not in _COMMUTATIVE:
            break
    return None


def is_neutral(op: str, array: np.ndarray) -> bool:
    """Tell whether op(x, array) is x for every x."""
    dtype = dtypes.NAMES[array.dtype]
    if op == "add":
        return dtype in _REAL and _is(array, -0.0 if dtype in dtypes.FLOATS else 0)
    if op in ("multiply", "divide"):
        return dtype in _REAL and _is(array, 1)
    if op == "power":
        return dtype in _REAL and _is(array, 1)
    if op in ("maximum", "minimum"):
        return dtype in _REAL | {"bool"} and _is(array, _extreme(array.dtype, smallest=op == "maximum"))
    if op == "and":
        return _is_all_ones(array)
    return op in ("subtract", "or", "xor", "shift_left", "shift_right_logical", "shift_right_arithmetic") and (
        dtype in _REAL | {"bool"} and _is(array, 0)
    )


def _extreme(dtype: np.dtype, *, smallest: bool) -> float:
    name = dtypes.NAMES[dtype]
    if name in dtypes.FLOATS:
        return -np.inf if smallest else np.inf
    if name == "bool":
        return not smallest
    limits = np.iinfo(dtype)
    return int(limits.min if smallest else limits.max)


def absorbing_operand(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """Integer x * 0 -> 0, x & 0 -> 0, x | ~0 -> ~0."""
    if node.output.dtype not in _BITS:
        return None
    for value in node.inputs:
        array = rewriter.splat(value)
        if (node.op in ("multiply", "and") and _is(array, 0)) or (node.op == "or" and _is_all_ones(array)):
            return (value,)
    return None


def equal_operands(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """max(x, x) -> x, x & x -> x, integer x - x -> 0, x ^ x -> 0."""
    left, right = node.inputs
    if left != right:
        return None
    if node.op in _IDEMPOTENT:
        return (left,)
    if node.op in ("subtract", "xor") and left.dtype in _BITS:
        return (rewriter.constant(np.zeros((), dtypes.NUMPY[left.dtype]), left.shape, node.where),)
    return None


def twice_undone(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """-(-x) -> x, not(not(x)) -> x."""
    inner = rewriter.producer(node.inputs[0], node.op)
    return None if inner is None else inner.inputs


def sign_dropped(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """abs(-x) -> abs(x), abs(abs(x)) -> abs(x)."""
    inner = rewriter.producer(node.inputs[0], "negate", "abs")
    if inner is None:
        return None
    return (_unary(rewriter, "abs", inner.inputs[0], node),) if inner.op == "negate" else (node.inputs[0],)


def add_of_negation(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """X + -y -> x - y, and x - -y -> x + y."""
    left, right = node.inputs
    other = "subtract" if node.op == "add" else "add"
    inner = rewriter.producer(right, "negate")
    if inner is not None:
        return (_binary(rewriter, other, left, inner.inputs[0], node),)
    inner = rewriter.producer(left, "negate") if node.op == "add" else None
    return None if inner is None else (_binary(rewriter, other, right, inner.inputs[0], node),)


def times_minus_one(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """X * -1 -> -x."""
    if node.output.dtype not in dtypes.FLOATS | dtypes.SIGNED:
        return None
    for own, other in ((0, 1), (1, 0)):
        if _is(rewriter.splat(node.inputs[other]), -1):
            return (_unary(rewriter, "negate", node.inputs[own], node),)
    return None


def divide_by_power_of_two(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """X / 8 -> x * 0.125: the quotient and the product round the same number."""
    divisor = rewriter.splat(node.inputs[1])
    if divisor is None or node.output.dtype not in dtypes.FLOATS:
        return None
    mantissa, exponent = np.frexp(float(divisor))
    if abs(mantissa) != 0.5 or abs(exponent) > _MAX_RECIPROCAL_EXPONENT:
        return None
    factor = rewriter.constant(np.array(1 / float(divisor)).astype(divisor.dtype), node.output.shape, node.where)
    return (_binary(rewriter, "multiply", node.inputs[0], factor, node),)


def small_power(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """X ** 2 -> x * x, x ** 3 -> x * x * x, x ** 0 -> 1 (for NaN too), as XLA has it."""
    base, exponent = node.inputs[0], rewriter.splat(node.inputs[1])
    if exponent is None or node.output.dtype not in _REAL:
        return None
    if exponent == 0:
        return (rewriter.constant(np.ones((), exponent.dtype), base.shape, node.where),)
    # The second rounding of a cube would show in f16 and bf16, whose power rounds once.
    if exponent != 2 and (exponent != 3 or node.output.dtype in ("f16", "bf16")):
        return None
    square = _binary(rewriter, "multiply", base, base, node)
    return (square if exponent == 2 else _binary(rewriter, "multiply", square, base, node),)


def merge_integer_constants(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """(x + 1) + 2 -> x + 3 on integers, which wrap around; likewise for products and bit operations."""
    if node.output.dtype not in _BITS:
        return None
    for own, other in ((0, 1), (1, 0)):
        outer = rewriter.splat(node.inputs[other])
        inner = rewriter.producer(node.inputs[own], node.op)
        if outer is None or inner is None:
            continue
        for value, constant in (inner.inputs, inner.inputs[::-1]):
            if rewriter.splat(constant) is not None:
                total = _binary(rewriter, node.op, constant, node.inputs[other], node)
                return (_binary(rewriter, node.op, value, total, node),)
    return None


def equal_choices(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """select(p, x, x) -> x, select(not p, x, y) -> select(p, y, x)."""
    predicate, when_true, when_false = node.inputs
    if when_true == when_false:
        return (when_true,)
    inner = rewriter.producer(predicate, "not")
    if inner is None:
        return None
    inputs = (inner.inputs[0], when_false, when_true)
    return (rewriter.emit("select", inputs, node.output.dtype, node.output.shape, where=node.where),)


def known_comparison(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """Integer x == x -> true, x < x -> false, unsigned x < 0 -> false, convert(p) != 0 -> p."""
    left, right = node.inputs
    direction = node.attributes["direction"]
    answer: bool | None = None
    if left.dtype in _BITS and left == right:
        answer = direction in ("EQ", "LE", "GE")
    elif left.dtype in dtypes.UNSIGNED and _is(rewriter.splat(right), 0) and direction in ("LT", "GE"):
        answer = direction == "GE"
    if answer is not None:
        return (rewriter.constant(np.array(answer), node.output.shape, node.where),)
    inner = rewriter.producer(left, "convert")
    if inner is not None and inner.inputs[0].dtype == "bool" and left.dtype in _REAL:
        array = rewriter.splat(right)
        if array is not None and array == 0 and direction in ("NE", "GT") and not node.attributes["total_order"]:
            return inner.inputs
    return None


def _unary(rewriter: Rewriter, op: str, value: Value, like: Node) -> Value:
    return rewriter.emit(op, (value,), like.output.dtype, like.output.shape, where=like.where)


def _binary(rewriter: Rewriter, op: str, left: Value, right: Value, like: Node) -> Value:
    return rewriter.emit(op, (left, right), like.output.dtype, like.output.shape, where=like.where)


def _table(*rows: tuple[Rule, str]) -> dict[str, tuple[Rule, ...]]:
    table: dict[str, tuple[Rule, ...]] = {}
    for rule, names in rows:
        for name in names.split():
            table[name] = (*table.get(name, ()), rule)
    return table


RULES = _table(
    (neutral_operand, "add subtract multiply divide power maximum minimum and or xor"),
    (neutral_operand, "shift_left shift_right_logical shift_right_arithmetic"),
    (absorbing_operand, "multiply and or"),
    (equal_operands, "maximum minimum and or xor subtract"),
    (twice_undone, "negate not"),
    (sign_dropped, "abs"),
    (add_of_negation, "add subtract"),
    (times_minus_one, "multiply"),
    (divide_by_power_of_two, "divide"),
    (small_power, "power"),
    (merge_integer_constants, "add multiply and or xor"),
    (equal_choices, "select"),
    (known_comparison, "compare"),
)
