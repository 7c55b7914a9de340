"""Attributes of each StableHLO operation, under the names of docs/architecture.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jax.extend.mlir import ir
from jax.extend.mlir.dialects import stablehlo

Attributes = dict[str, Any]


def read(name: str, operation: ir.Operation) -> Attributes:
    """Return the attributes of an operation whose name has no reader of its own: none."""
    reader = READERS.get(name)
    return reader(operation) if reader else {}


# The stubs of the MLIR bindings type every attribute as its base class, hence Any.


def _integers(attribute: Any) -> tuple[int, ...]:
    return tuple(map(int, attribute))


def _integer(attribute: Any) -> int:
    return int(attribute.value)


def _one(attribute_name: str, name: str) -> Callable[[ir.Operation], Attributes]:
    return lambda operation: {name: _integers(operation.attributes[attribute_name])}


def _scalar(attribute_name: str, name: str) -> Callable[[ir.Operation], Attributes]:
    return lambda operation: {name: _integer(operation.attributes[attribute_name])}


def _slice(operation: ir.Operation) -> Attributes:
    found = operation.attributes
    return {
        "start": _integers(found["start_indices"]),
        "limit": _integers(found["limit_indices"]),
        "stride": _integers(found["strides"]),
    }


def _pad(operation: ir.Operation) -> Attributes:
    found = operation.attributes
    return {
        "low": _integers(found["edge_padding_low"]),
        "high": _integers(found["edge_padding_high"]),
        "interior": _integers(found["interior_padding"]),
    }


def _compare(operation: ir.Operation) -> Attributes:
    found = operation.attributes
    direction = stablehlo.ComparisonDirectionAttr(found["comparison_direction"]).value
    total_order = "compare_type" in found and stablehlo.ComparisonTypeAttr(found["compare_type"]).value == "TOTALORDER"
    return {"direction": direction, "total_order": total_order}


def _dot_general(operation: ir.Operation) -> Attributes:
    found: Any = operation.attributes
    numbers = stablehlo.DotDimensionNumbers(found["dot_dimension_numbers"])
    precision: tuple[str, ...] = ()
    if "precision_config" in found:
        precision = tuple(stablehlo.PrecisionAttr(item).value for item in found["precision_config"])
    return {
        "lhs_batch": tuple(numbers.lhs_batching_dimensions),
        "rhs_batch": tuple(numbers.rhs_batching_dimensions),
        "lhs_contract": tuple(numbers.lhs_contracting_dimensions),
        "rhs_contract": tuple(numbers.rhs_contracting_dimensions),
        "precision": precision,
    }


def _reduce_window(operation: ir.Operation) -> Attributes:
    found = operation.attributes
    window = _integers(found["window_dimensions"])
    ones = (1,) * len(window)

    def optional(name: str) -> tuple[int, ...]:
        return _integers(found[name]) if name in found else ones

    padding = np.array(found["padding"]).reshape(-1, 2) if "padding" in found else np.zeros((len(window), 2), np.int64)
    return {
        "window": window,
        "strides": optional("window_strides"),
        "base_dilation": optional("base_dilations"),
        "window_dilation": optional("window_dilations"),
        "low": tuple(map(int, padding[:, 0])),
        "high": tuple(map(int, padding[:, 1])),
    }


def _gather(operation: ir.Operation) -> Attributes:
    found = operation.attributes
    numbers = stablehlo.GatherDimensionNumbers(found["dimension_numbers"])
    return {
        "offset_dims": tuple(numbers.offset_dims),
        "collapsed_slice_dims": tuple(numbers.collapsed_slice_dims),
        "operand_batching_dims": tuple(numbers.operand_batching_dims),
        "start_batching_dims": tuple(numbers.start_indices_batching_dims),
        "start_index_map": tuple(numbers.start_index_map),
        "index_vector_dim": int(numbers.index_vector_dim),
        "slice_sizes": _integers(found["slice_sizes"]),
    }


def _scatter(operation: ir.Operation) -> Attributes:
    found: Any = operation.attributes
    numbers = stablehlo.ScatterDimensionNumbers(found["scatter_dimension_numbers"])
    return {
        "update_window_dims": tuple(numbers.update_window_dims),
        "inserted_window_dims": tuple(numbers.inserted_window_dims),
        "input_batching_dims": tuple(numbers.input_batching_dims),
        "scatter_batching_dims": tuple(numbers.scatter_indices_batching_dims),
        "scatter_dims_to_operand_dims": tuple(numbers.scattered_dims_to_operand_dims),
        "index_vector_dim": int(numbers.index_vector_dim),
        "unique": bool(found["unique_indices"].value) if "unique_indices" in found else False,
    }


def _reduce_precision(operation: ir.Operation) -> Attributes:
    found = operation.attributes
    return {
        "exponent_bits": _integer(found["exponent_bits"]),
        "mantissa_bits": _integer(found["mantissa_bits"]),
    }


def _rng_bit_generator(operation: ir.Operation) -> Attributes:
    return {"algorithm": stablehlo.RngAlgorithmAttr(operation.attributes["rng_algorithm"]).value}


def _custom_call(operation: ir.Operation) -> Attributes:
    found = operation.attributes
    text = ""
    if "backend_config" in found:
        config = found["backend_config"]
        text = config.value if isinstance(config, ir.StringAttr) else str(config)
    return {"target": ir.StringAttr(found["call_target_name"]).value, "config": text}


READERS: dict[str, Callable[[ir.Operation], Attributes]] = {
    "iota": _scalar("iota_dimension", "dimension"),
    "broadcast_in_dim": _one("broadcast_dimensions", "dimensions"),
    "transpose": _one("permutation", "permutation"),
    "slice": _slice,
    "reverse": _one("dimensions", "dimensions"),
    "pad": _pad,
    "concatenate": _scalar("dimension", "dimension"),
    "compare": _compare,
    "dot_general": _dot_general,
    "reduce": _one("dimensions", "dimensions"),
    "reduce_window": _reduce_window,
    "gather": _gather,
    "scatter": _scatter,
    "dynamic_slice": _one("slice_sizes", "sizes"),
    "reduce_precision": _reduce_precision,
    "rng_bit_generator": _rng_bit_generator,
    "custom_call": _custom_call,
}
