"""Cooperative matrices: KHR (load, store, multiply) and NV_cooperative_matrix2 (everything a tile of attention needs).

A matrix belongs to a subgroup or, under NV_cooperative_matrix2, to the whole workgroup; where its elements lie is the
driver's business. Use "a" and "b" are the factors, "accumulator" the sum and the result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import ShaderError
from .atomics import Pointer
from .conversion import convert
from .dtypes import BITS, KIND, SIGNED, Dtype, MatrixType, Number, OpaqueType, dtype_text
from .functions import Callee
from .grammar import (
    Capability,
    CooperativeMatrixLayout,
    CooperativeMatrixOperands,
    CooperativeMatrixReduce,
    CooperativeMatrixUse,
    MemoryAccess,
    Op,
    Scope,
    StorageClass,
    TensorAddressingOperands,
)
from .values import Value

if TYPE_CHECKING:
    from .builder import Builder
    from .module import Module

USES = {
    "a": CooperativeMatrixUse.MatrixAKHR,
    "b": CooperativeMatrixUse.MatrixBKHR,
    "accumulator": CooperativeMatrixUse.MatrixAccumulatorKHR,
}
SCOPES = {"subgroup": Scope.Subgroup, "workgroup": Scope.Workgroup}
REDUCTIONS = {
    "row": CooperativeMatrixReduce.Row,
    "column": CooperativeMatrixReduce.Column,
    "all": CooperativeMatrixReduce.Row | CooperativeMatrixReduce.Column,
    "2x2": CooperativeMatrixReduce.TwoByTwo,
}
NV = "SPV_NV_cooperative_matrix2"


def declare_matrix(module: Module, dtype: MatrixType) -> int:
    """Declare a matrix type with its capabilities; matrices need the Vulkan memory model."""
    module.require(Capability.CooperativeMatrixKHR, "SPV_KHR_cooperative_matrix")
    module.uses_vulkan_memory = True
    if dtype.dtype == "bf16":
        module.require(Capability.BFloat16CooperativeMatrixKHR)
    component = module.types[dtype.dtype]
    operands = (SCOPES[dtype.scope], dtype.rows, dtype.columns, USES[dtype.use])
    return module.declare_global(
        Op.TypeCooperativeMatrixKHR, component, *(module.const("u32", operand).id for operand in operands)
    )


def declare_opaque(module: Module, dtype: OpaqueType) -> int:
    """Declare a tensor layout or view type."""
    module.require(Capability.TensorAddressingNV, "SPV_NV_tensor_addressing")
    words = [module.const("u32", dtype.dimensions).id]
    if dtype.name == "layout":
        return module.declare_global(Op.TypeTensorLayoutNV, *words, module.const("u32", dtype.operands[0]).id)
    has_dimensions, *order = dtype.operands
    words.append(module.const("bool", bool(has_dimensions)).id)
    return module.declare_global(Op.TypeTensorViewNV, *words, *(module.const("u32", axis).id for axis in order))


def matrix_type(builder: Builder, dtype: str, rows: int, columns: int, use: str, scope: str = "subgroup") -> MatrixType:
    """Return a matrix type; whether a device has it is the caller's question to its capabilities."""
    if dtype not in BITS or dtype == "bool" or use not in USES or scope not in SCOPES:
        raise ShaderError(
            "A matrix type must have a number, a use and a scope.",
            got=f"{dtype}, {use}, {scope}",
            want=f"a number, one of {', '.join(USES)}, one of {', '.join(SCOPES)}",
            fix="pass these.",
        )
    return MatrixType(dtype, rows, columns, use, scope)


def matrix_load(
    builder: Builder,
    dtype: MatrixType,
    pointer: Pointer,
    stride: Value | int,
    *,
    column_major: bool = False,
) -> Value:
    """Read a matrix from memory.

    Args:
        builder: of the kernel.
        dtype: what to load.
        pointer: the first element; aligned to the smaller of 16 bytes and a row (a column, if `column_major`).
        stride: distance of two rows (columns), in elements of the pointer.
        column_major: whether columns are contiguous instead of rows.
    """
    words = _memory_words(builder, dtype, pointer, stride, column_major)
    return builder.emit(Op.CooperativeMatrixLoadKHR, dtype, pointer.id, *words)


def matrix_store(
    builder: Builder, pointer: Pointer, value: Value, stride: Value | int, *, column_major: bool = False
) -> None:
    """Write a matrix to memory; the arguments are those of `matrix_load`."""
    words = _memory_words(builder, _matrix(value), pointer, stride, column_major)
    builder.perform(Op.CooperativeMatrixStoreKHR, pointer.id, value.id, *words)


def _memory_words(
    builder: Builder, dtype: MatrixType, pointer: Pointer, stride: Value | int, column_major: bool
) -> tuple[int, ...]:
    stride = stride if isinstance(stride, Value) else builder.const("u32", stride)
    layout = CooperativeMatrixLayout.ColumnMajorKHR if column_major else CooperativeMatrixLayout.RowMajorKHR
    contiguous = (dtype.rows if column_major else dtype.columns) * BITS[dtype.dtype] // 8
    alignment = max(pointer.alignment, min(16, contiguous))
    return builder.const("u32", layout).id, stride.id, MemoryAccess.Aligned, alignment


def matrix_multiply_add(builder: Builder, a: Value, b: Value, c: Value, *, saturate: bool = False) -> Value:
    """Return a @ b + c; `saturate` clamps integer sums instead of wrapping them."""
    left, right, total = _matrix(a), _matrix(b), _matrix(c)
    fits = left.rows == total.rows and left.columns == right.rows and right.columns == total.columns
    if (left.use, right.use, total.use) != ("a", "b", "accumulator") or not fits:
        raise ShaderError(
            "A matrix product must have factors of use a and b and a sum of their outer sizes.",
            got=f"{a} @ {b} + {c}",
            want="a[m, k] @ b[k, n] + accumulator[m, n]",
            fix="load the factors with these types.",
        )
    operands = CooperativeMatrixOperands.SaturatingAccumulationKHR if saturate else 0
    if KIND[total] != "f":
        operands |= CooperativeMatrixOperands.MatrixASignedComponentsKHR if left.dtype in SIGNED else 0
        operands |= CooperativeMatrixOperands.MatrixBSignedComponentsKHR if right.dtype in SIGNED else 0
        both = CooperativeMatrixOperands.MatrixCSignedComponentsKHR
        both |= CooperativeMatrixOperands.MatrixResultSignedComponentsKHR
        operands |= both if total.dtype in SIGNED else 0
    words = (a.id, b.id, c.id, operands) if operands else (a.id, b.id, c.id)
    return builder.emit(Op.CooperativeMatrixMulAddKHR, total, *words)


def matrix_length(builder: Builder, dtype: MatrixType) -> Value:
    """Return how many elements of a matrix an invocation holds."""
    return builder.pure(Op.CooperativeMatrixLengthKHR, "u32", builder.types[dtype])


def matrix_map(builder: Builder, function: Callable[..., Value], *matrices: Value) -> Value:
    """Apply `function` to the elements of matrices of one type, without knowing their places (KHR alone suffices)."""
    dtype = _matrix(matrices[0])
    held = [builder.variable(_matrix(matrix), matrix) for matrix in matrices]
    result = builder.variable(_same(dtype, [matrix.dtype for matrix in matrices]))

    def one(index: Value, _: list[Value]) -> None:
        result.set_element(index, function(*(variable.element(index) for variable in held)))

    builder.loop(builder.const("u32", 0), matrix_length(builder, dtype), builder.const("u32", 1), [], one, unroll=True)
    return result.load()


def _same(dtype: MatrixType, others: list[Dtype]) -> MatrixType:
    if any(other != dtype for other in others):
        raise ShaderError(
            "Matrices that are mapped together must have one type.",
            got=", ".join(map(dtype_text, others)),
            want=dtype_text(dtype),
            fix="convert them with b.matrix_convert.",
        )
    return dtype


def matrix_convert(builder: Builder, value: Value, dtype: MatrixType) -> Value:
    """Return a matrix as another type of the same sizes; an accumulator may become a factor (NV conversions)."""
    source = _matrix(value)
    if (source.rows, source.columns, source.scope) != (dtype.rows, dtype.columns, dtype.scope):
        raise ShaderError(
            "A conversion must keep the sizes and the scope of a matrix.",
            got=dtype_text(dtype),
            want=dtype_text(source),
            fix="convert to such a type.",
        )
    # The change of use keeps the element type, so that one is converted first.
    value = convert(builder, value, dtype.dtype)
    if source.use == dtype.use:
        return value
    builder.types[dtype]
    builder.require(Capability.CooperativeMatrixConversionsNV, NV)
    return builder.pure(Op.CooperativeMatrixConvertNV, dtype, value.id)


def matrix_transpose(builder: Builder, value: Value, dtype: MatrixType) -> Value:
    """Return the transpose of an accumulator as a factor of use b (NV conversions)."""
    builder.require(Capability.CooperativeMatrixConversionsNV, NV)
    return builder.pure(Op.CooperativeMatrixTransposeNV, dtype, value.id)


def matrix_reduce(builder: Builder, value: Value, dtype: MatrixType, along: str, combine: Callee) -> Value:
    """Combine the elements of each row, each column, all of them or 2x2 blocks (NV reductions).

    Args:
        builder: of the kernel.
        value: an accumulator.
        dtype: the accumulator type that receives the results: every element of a row of a "row" reduction is the row's
            result, whatever its columns; likewise for "column" and "all"; "2x2" halves both sizes.
        along: "row", "column", "all" or "2x2".
        combine: a function of two elements, associative and commutative.
    """
    builder.require(Capability.CooperativeMatrixReductionsNV, NV)
    return builder.emit(Op.CooperativeMatrixReduceNV, dtype, value.id, REDUCTIONS[along], combine.id)


def matrix_per_element(builder: Builder, value: Value, function: Callee, *operands: Value | Number) -> Value:
    """Apply `function(row, column, element, operand…)` to every element (NV per-element operations).

    Row and column are u32; an operand that is a matrix of the same sizes is passed element by element.
    """
    matrix = _matrix(value)
    builder.require(Capability.CooperativeMatrixPerElementOperationsNV, NV)
    passed = [
        operand if isinstance(operand, Value) else builder.const(dtype, operand)
        for operand, dtype in zip(operands, function.arguments[3:], strict=True)
    ]
    given = tuple(part.dtype.dtype if isinstance(part.dtype, MatrixType) else part.dtype for part in passed)
    if function.arguments != ("u32", "u32", matrix.dtype, *given) or function.result != matrix.dtype:
        raise ShaderError(
            "A per-element function must take row, column, element and the operands.",
            got=", ".join(map(dtype_text, function.arguments)),
            want=", ".join(map(dtype_text, ("u32", "u32", matrix.dtype, *given))),
            fix="define the function with these argument dtypes and the element's dtype as result.",
        )
    return builder.emit(
        Op.CooperativeMatrixPerElementOpNV, matrix, value.id, function.id, *(part.id for part in passed)
    )


def matrix_load_tensor(
    builder: Builder, dtype: MatrixType, pointer: Pointer, layout: Value, view: Value | None = None, fill: Number = 0
) -> Value:
    """Read the slice of a tensor layout, through a view if given; clipped elements get `fill` (NV addressing)."""
    builder.require(Capability.CooperativeMatrixTensorAddressingNV, NV)
    words = (pointer.id, builder.const(dtype, fill).id, layout.id, *_tensor_words(pointer, view))
    return builder.emit(Op.CooperativeMatrixLoadTensorNV, dtype, *words)


def matrix_store_tensor(
    builder: Builder, pointer: Pointer, value: Value, layout: Value, view: Value | None = None
) -> None:
    """Write a matrix to the slice a tensor layout describes; elements outside are dropped (NV addressing)."""
    builder.require(Capability.CooperativeMatrixTensorAddressingNV, NV)
    words = (pointer.id, value.id, layout.id, *_tensor_words(pointer, view))
    builder.perform(Op.CooperativeMatrixStoreTensorNV, *words)


def _tensor_words(pointer: Pointer, view: Value | None) -> tuple[int, ...]:
    memory = (MemoryAccess.None_,)
    if pointer.storage == StorageClass.PhysicalStorageBuffer:
        memory = (MemoryAccess.Aligned, pointer.alignment)
    addressing = (TensorAddressingOperands.None_,) if view is None else (TensorAddressingOperands.TensorView, view.id)
    return (*memory, *addressing)


def _matrix(value: Value) -> MatrixType:
    if not isinstance(value.dtype, MatrixType):
        raise ShaderError(
            "A matrix operation must have matrices.",
            got=value,
            want="a cooperative matrix",
            fix="load one with b.matrix_load.",
        )
    return value.dtype
