"""Elementwise operations. They broadcast, so that a scalar body can run on whole arrays at once.

f16 and bf16 compute in f32 and round once. Transcendental functions compute in f64 (c128) and round once, so that they
are correct to half a unit in the last place of every narrower dtype.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .. import dtypes
from ..graph import Node
from . import conversion, integers
from .meaning import Arrays, Meaning, RunGraph, output_dtype, wide_dtype, widest_dtype

Function = Callable[..., np.ndarray]


def _plain(function: Function) -> Meaning:
    """Compute in f32 for f16 and bf16, else in the dtype of the inputs."""

    def meaning(node: Node, inputs: Arrays, run: RunGraph) -> tuple[np.ndarray, ...]:
        del run
        wide = [array.astype(wide_dtype(array.dtype), copy=False) for array in inputs]
        return (np.asarray(function(*wide)).astype(output_dtype(node), copy=False),)

    return meaning


def _precise(function: Function) -> Meaning:
    """Compute in f64 or c128 and round once."""

    def meaning(node: Node, inputs: Arrays, run: RunGraph) -> tuple[np.ndarray, ...]:
        del run
        wide = [array.astype(widest_dtype(array.dtype), copy=False) for array in inputs]
        return (np.asarray(function(*wide)).astype(output_dtype(node), copy=False),)

    return meaning


def _integer_or_plain(for_integers: Function, for_others: Function) -> Meaning:
    plain = _plain(for_others)

    def meaning(node: Node, inputs: Arrays, run: RunGraph) -> tuple[np.ndarray, ...]:
        if dtypes.NAMES[inputs[0].dtype] in dtypes.INTEGERS:
            return (np.asarray(for_integers(*inputs)),)
        return plain(node, inputs, run)

    return meaning


def _sign(x: np.ndarray) -> np.ndarray:
    """Return x / |x|, and x itself where it is 0 or NaN."""
    if np.iscomplexobj(x):
        magnitude = np.abs(x)
        return np.where(magnitude == 0, x * 0, x / np.where(magnitude == 0, 1, magnitude))
    return np.where(x == 0, x, np.sign(x))


def _round_away(x: np.ndarray) -> np.ndarray:
    """Round to the nearest whole number, halves away from zero."""
    whole = np.trunc(x)
    return np.where(np.abs(x - whole) >= 0.5, whole + np.copysign(1.0, x).astype(x.dtype), np.copysign(whole, x))


def _cube_root(x: np.ndarray) -> np.ndarray:
    return np.power(x, 1 / 3) if np.iscomplexobj(x) else np.cbrt(x)


def _logistic(x: np.ndarray) -> np.ndarray:
    if np.iscomplexobj(x):
        return 1 / (1 + np.exp(-x))
    # exp(-|x|) never overflows.
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small))


def _atan2(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    if np.iscomplexobj(y):
        return -1j * np.log((x + 1j * y) / np.sqrt(x * x + y * y))
    return np.arctan2(y, x)


def _power(node: Node, inputs: Arrays, run: RunGraph) -> tuple[np.ndarray, ...]:
    if dtypes.NAMES[inputs[0].dtype] in dtypes.INTEGERS:
        return (integers.power(*inputs),)
    return _precise(np.power)(node, inputs, run)


def _real(node: Node, inputs: Arrays, run: RunGraph) -> tuple[np.ndarray, ...]:
    del node, run
    return (np.real(inputs[0]),)


def _imag(node: Node, inputs: Arrays, run: RunGraph) -> tuple[np.ndarray, ...]:
    del node, run
    return (np.imag(inputs[0]) if np.iscomplexobj(inputs[0]) else np.zeros_like(inputs[0]),)


def _complex(node: Node, inputs: Arrays, run: RunGraph) -> tuple[np.ndarray, ...]:
    del run
    real, imag = np.broadcast_arrays(*inputs)
    result = np.empty(real.shape, output_dtype(node))
    result.real, result.imag = real, imag
    return (result,)


def _select(node: Node, inputs: Arrays, run: RunGraph) -> tuple[np.ndarray, ...]:
    del node, run
    return (np.where(*inputs),)


def _clamp(low: np.ndarray, x: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.minimum(np.maximum(low, x), high)


def _compare(node: Node, inputs: Arrays, run: RunGraph) -> tuple[np.ndarray, ...]:
    del run
    left, right = inputs
    if node.attributes["total_order"]:
        left, right = conversion.total_order(left), conversion.total_order(right)
    functions = {
        "EQ": np.equal,
        "NE": np.not_equal,
        "LT": np.less,
        "LE": np.less_equal,
        "GT": np.greater,
        "GE": np.greater_equal,
    }
    return (np.asarray(functions[node.attributes["direction"]](left, right), np.bool_),)


def _convert(node: Node, inputs: Arrays, run: RunGraph) -> tuple[np.ndarray, ...]:
    del run
    return (conversion.convert(inputs[0], output_dtype(node)),)


def _reduce_precision(node: Node, inputs: Arrays, run: RunGraph) -> tuple[np.ndarray, ...]:
    del run
    found = node.attributes
    return (conversion.reduce_precision(inputs[0], found["exponent_bits"], found["mantissa_bits"]),)


MEANINGS: dict[str, Meaning] = {
    "abs": _plain(np.abs),
    "add": _plain(np.add),
    "and": _plain(np.bitwise_and),
    "atan2": _precise(_atan2),
    "cbrt": _precise(_cube_root),
    "ceil": _plain(np.ceil),
    "clamp": _plain(_clamp),
    "compare": _compare,
    "complex": _complex,
    "convert": _convert,
    "cosine": _precise(np.cos),
    "count_leading_zeros": _plain(integers.count_leading_zeros),
    "divide": _integer_or_plain(integers.divide, np.divide),
    "exponential": _precise(np.exp),
    "exponential_minus_one": _precise(np.expm1),
    "floor": _plain(np.floor),
    "imag": _imag,
    "is_finite": _plain(np.isfinite),
    "log": _precise(np.log),
    "log_plus_one": _precise(np.log1p),
    "logistic": _precise(_logistic),
    "maximum": _plain(np.maximum),
    "minimum": _plain(np.minimum),
    "multiply": _plain(np.multiply),
    "negate": _plain(np.negative),
    "not": _plain(np.invert),
    "or": _plain(np.bitwise_or),
    "popcnt": _plain(integers.count_ones),
    "power": _power,
    "real": _real,
    "reduce_precision": _reduce_precision,
    "remainder": _integer_or_plain(integers.remainder, np.fmod),
    "round_nearest_afz": _plain(_round_away),
    "round_nearest_even": _plain(np.rint),
    "rsqrt": _precise(lambda x: 1 / np.sqrt(x)),
    "select": _select,
    "shift_left": _plain(integers.shift_left),
    "shift_right_arithmetic": _plain(integers.shift_right_arithmetic),
    "shift_right_logical": _plain(integers.shift_right_logical),
    "sign": _plain(_sign),
    "sine": _precise(np.sin),
    "sqrt": _precise(np.sqrt),
    "subtract": _plain(np.subtract),
    "tan": _precise(np.tan),
    "tanh": _precise(np.tanh),
    "xor": _plain(np.bitwise_xor),
}
