"""`pallas_call` on the platform `vulkan`: a custom call that holds the kernel's cell as a StableHLO module."""

from __future__ import annotations

import json
from typing import Any

import jax
from jax.extend.mlir import ir, serialize_portable_artifact
from jax.extend.mlir.dialects import stablehlo
from jax.interpreters.mlir import module_to_bytecode

from .. import compat
from ..tilecall import TARGET
from .cell import Cell, make_cell


def write(platform: str, context: Any, *operands: Any, **parameters: Any) -> Any:
    """Write a `pallas_call` for a platform, as a lowering rule of JAX does; return its results."""
    cell = make_cell(parameters)
    bounds = parameters["grid_mapping"].num_dynamic_grid_bounds
    operands = (*map(_in_32_bits, operands[:bounds]), *operands[bounds:])
    arguments = (*operands, *(operands[number] for number in cell.again))
    return compat.write_custom_call(context, TARGET, arguments, _config(cell, platform))


def _in_32_bits(bound: Any) -> Any:
    """Return the size of an axis of a grid as a cell takes it."""
    return stablehlo.convert(ir.RankedTensorType.get((), ir.IntegerType.get_signless(32)), bound)


def _config(cell: Cell, platform: str) -> dict[str, ir.Attribute]:
    """Return what the importer needs besides the operands; see `lowering.stablehlo.tilecall`."""
    traced = jax.jit(cell.function, keep_unused=True).trace(*cell.arguments)
    module: Any = traced.lower(lowering_platforms=(platform,)).compiler_ir("stablehlo")
    portable = serialize_portable_artifact(module_to_bytecode(module), stablehlo.get_current_version())
    updates = [number for pair in cell.aliases for number in pair]
    return {
        "cell": ir.StringAttr.get(portable),
        "grid": ir.DenseI64ArrayAttr.get(cell.grid),
        "aliases": ir.DenseI64ArrayAttr.get(updates),
        "name": ir.StringAttr.get(cell.name),
        "options": ir.StringAttr.get(json.dumps(cell.options)),
    }
