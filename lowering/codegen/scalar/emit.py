"""Find the meaning of an operation for the dtype of its operands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from shaders import functions
from shaders.functions.narrow import reduce_precision
from shaders.library import complex as arithmetic
from shaders.library.complex import Complex
from shaders.spirv import Builder, Value

from ... import dtypes
from ...errors import GraphError, message
from . import complexes, floats, integers
from .comparison import compare
from .conversion import bitcast_convert, convert
from .registers import Operand, Scalar, settle

_STRUCTURAL: Final = frozenset(
    {"bitcast_convert", "clamp", "compare", "complex", "convert", "is_finite", "reduce_precision", "select"}
)

SUPPORTED: Final = (
    _STRUCTURAL
    | floats.EXACT_UNARY.keys()
    | floats.ROUNDED_UNARY.keys()
    | floats.EXACT_BINARY.keys()
    | floats.ROUNDED_BINARY.keys()
    | integers.UNARY.keys()
    | integers.BINARY.keys()
)
"""Names of the operations that `emit` knows."""


def emit(
    b: Builder,
    op: str,
    inputs: Sequence[Scalar],
    input_dtypes: Sequence[str],
    output_dtype: str,
    attributes: Mapping[str, Any],
) -> Scalar:
    """Compute one element of an elementwise operation.

    `inputs` holds one value for each operand; `attributes` is the node's, which `compare` and `reduce_precision` need.
    Operands obey the invariant of `registers`, and so does the result.

    Raises:
        GraphError: the operation has no meaning for these dtypes.
    """
    operands = [Operand(value, dtype) for value, dtype in zip(inputs, input_dtypes, strict=True)]
    if op in _STRUCTURAL:
        return _structural(b, op, operands, output_dtype, attributes)
    dtype = input_dtypes[0]
    result: Scalar | None = None
    if dtype in dtypes.COMPLEX:
        result = complexes.apply(b, op, operands)
    elif dtype in dtypes.FLOATS:
        result = _float(b, op, operands)
    elif dtype in dtypes.INTEGERS:
        result = _integer(b, op, operands)
    elif dtype == "bool":
        result = _bool(op, operands)
    if result is None:
        raise _no_meaning(op, input_dtypes, output_dtype)
    return result


def combine(b: Builder, kind: str, dtype: str, left: Scalar, right: Scalar) -> Scalar:
    """Apply the combination of a reduction: add, mul, max, min, and, or, xor."""
    name = {"mul": "multiply", "max": "maximum", "min": "minimum"}.get(kind, kind)
    return emit(b, name, [left, right], [dtype, dtype], dtype, {})


def _structural(
    b: Builder, op: str, operands: Sequence[Operand], output_dtype: str, attributes: Mapping[str, Any]
) -> Scalar:
    first = operands[0]
    match op:
        case "bitcast_convert":
            return bitcast_convert(b, first, output_dtype)
        case "clamp":
            return _clamp(b, operands)
        case "compare":
            total_order = bool(attributes.get("total_order", False))
            return compare(b, first, operands[1], attributes["direction"], total_order=total_order)
        case "complex":
            return Complex(first.real, operands[1].real)
        case "convert":
            return convert(b, first, output_dtype)
        case "is_finite":
            return functions.is_finite(b, first.real)
        case "reduce_precision":
            reduced = reduce_precision(b, first.real, attributes["exponent_bits"], attributes["mantissa_bits"])
            return settle(b, reduced, output_dtype)
        case _:
            return arithmetic.select(b, first.real, operands[1].value, operands[2].value)


def _clamp(b: Builder, operands: Sequence[Operand]) -> Scalar:
    low, x, high = operands
    if x.dtype in dtypes.COMPLEX:
        return complexes.clamp(b, low.complex, x.complex, high.complex)
    if x.dtype in dtypes.FLOATS:
        return floats.clamp(b, low.real, x.real, high.real)
    if x.dtype == "bool":
        return (x.real | low.real) & high.real
    return integers.clamp(b, low.real, x.real, high.real)


def _float(b: Builder, op: str, operands: Sequence[Operand]) -> Value | None:
    values = [operand.real for operand in operands]
    dtype = operands[0].dtype
    if op in floats.EXACT_UNARY:
        return floats.EXACT_UNARY[op](b, *values)
    if op in floats.EXACT_BINARY:
        return floats.EXACT_BINARY[op](b, *values)
    if b.takes_exp2 and dtype in ("f16", "bf16") and op in floats.OF_HALVES:
        return settle(b, floats.OF_HALVES[op](b, *values), dtype)
    if op in floats.ROUNDED_UNARY:
        return settle(b, floats.ROUNDED_UNARY[op](b, *values), dtype)
    if op in floats.ROUNDED_BINARY:
        return settle(b, floats.ROUNDED_BINARY[op](b, *values), dtype)
    return None


def _integer(b: Builder, op: str, operands: Sequence[Operand]) -> Value | None:
    dtype = operands[0].dtype
    if op in integers.UNARY:
        return settle(b, integers.UNARY[op](b, operands[0].real, dtype), dtype)
    if op in integers.BINARY:
        return settle(b, integers.BINARY[op](b, operands[0].real, operands[1].real, dtype), dtype)
    return None


def _bool(op: str, operands: Sequence[Operand]) -> Value | None:
    if op == "not":
        return ~operands[0].real
    if op in integers.BOOL_BINARY:
        return integers.BOOL_BINARY[op](operands[0].real, operands[1].real)
    return None


def _no_meaning(op: str, input_dtypes: Sequence[str], output_dtype: str) -> GraphError:
    return GraphError(
        message(
            f"emit: {op} must have operands that it is defined for.",
            got=f"{op}({', '.join(input_dtypes)}) -> {output_dtype}",
            want="an elementwise operation of the table with dtypes that its row allows",
            fix="report this defect with the program's StableHLO text.",
            stage="codegen",
        )
    )
