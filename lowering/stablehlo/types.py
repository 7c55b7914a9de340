"""MLIR tensor types as (dtype, shape); what has no dtype of ours keeps its MLIR text and is reported later."""

from __future__ import annotations

from jax.extend.mlir import ir

DTYPES = {
    "i1": "bool",
    "i8": "i8",
    "i16": "i16",
    "i32": "i32",
    "i64": "i64",
    "ui8": "u8",
    "ui16": "u16",
    "ui32": "u32",
    "ui64": "u64",
    "f16": "f16",
    "bf16": "bf16",
    "f32": "f32",
    "f64": "f64",
    "complex<f32>": "c64",
    "complex<f64>": "c128",
}


class TypeReader:
    """Decode each distinct MLIR type once."""

    def __init__(self) -> None:
        self._known: dict[ir.Type, tuple[str, tuple[int, ...]]] = {}

    def read(self, mlir_type: ir.Type) -> tuple[str, tuple[int, ...]]:
        """Return (dtype, shape). A dynamic dimension is -1; tokens and the like have shape ()."""
        found = self._known.get(mlir_type)
        if found is None:
            found = self._known[mlir_type] = _decode(mlir_type)
        return found


def _decode(mlir_type: ir.Type) -> tuple[str, tuple[int, ...]]:
    if not isinstance(mlir_type, ir.RankedTensorType):
        return str(mlir_type), ()
    text = str(mlir_type.element_type)
    shape = tuple(-1 if mlir_type.is_dynamic_dim(i) else mlir_type.get_dim_size(i) for i in range(mlir_type.rank))
    return DTYPES.get(text, text), shape
