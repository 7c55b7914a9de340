"""Chains of conversions."""

from __future__ import annotations

from ... import dtypes
from ...graph import Node, Value
from ..rewriting import Rewriter, Rule

# (largest exponent of two, bits of precision) of each float dtype
_FLOAT_RANGE = {"f16": (15, 11), "bf16": (127, 8), "f32": (127, 24), "f64": (1023, 53)}


def is_lossless(source: str, target: str) -> bool:
    """Tell whether every number of one dtype exists in the other."""
    if source in (target, "bool"):
        return True
    if target in dtypes.COMPLEX:
        return is_lossless(dtypes.real_part(source), dtypes.real_part(target))
    if source in dtypes.COMPLEX or target == "bool":
        return False
    if source in dtypes.FLOATS:
        if target not in dtypes.FLOATS:
            return False
        (exponent, precision), (wider, finer) = _FLOAT_RANGE[source], _FLOAT_RANGE[target]
        return exponent <= wider and precision <= finer
    bits = 8 * dtypes.itemsize(source) - (source in dtypes.SIGNED)
    if target in dtypes.FLOATS:
        exponent, precision = _FLOAT_RANGE[target]
        return bits <= precision and bits <= exponent
    if target in dtypes.UNSIGNED and source in dtypes.SIGNED:
        return False
    return bits <= 8 * dtypes.itemsize(target) - (target in dtypes.SIGNED)


def merge_converts(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """convert(convert(x)) -> convert(x), where the first loses nothing.

    An integer that goes through a float to an integer saturates instead of wrapping around, so it must fit the last.
    """
    inner = rewriter.producer(node.inputs[0], "convert")
    if inner is None:
        return None
    value = inner.inputs[0]
    source, middle, target = value.dtype, node.inputs[0].dtype, node.output.dtype
    if not is_lossless(source, middle):
        return None
    changes_rule = source in dtypes.INTEGERS and middle not in dtypes.INTEGERS and target in dtypes.INTEGERS
    if changes_rule and not is_lossless(source, target):
        return None
    return (rewriter.emit("convert", (value,), target, node.output.shape, where=node.where),)


RULES: dict[str, tuple[Rule, ...]] = {"convert": (merge_converts,)}
