"""Tensor layouts and views of NV_tensor_addressing: how a matrix lies in a tensor in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import ShaderError
from .dtypes import Number, OpaqueType
from .grammar import Op, TensorClampMode
from .values import Value

if TYPE_CHECKING:
    from .builder import Builder

CLAMPS = {
    "undefined": TensorClampMode.Undefined,
    "constant": TensorClampMode.Constant,
    "edge": TensorClampMode.ClampToEdge,
    "repeat": TensorClampMode.Repeat,
    "mirror": TensorClampMode.RepeatMirrored,
}


def tensor_layout(
    builder: Builder,
    sizes: Sequence[Value | int],
    *,
    strides: Sequence[Value | int] | None = None,
    clamp: str = "undefined",
    clamp_value: Number | None = None,
) -> Value:
    """Return the layout of a tensor with these sizes, outermost first.

    Args:
        builder: of the kernel.
        sizes: elements along each axis.
        strides: in elements, dense if None.
        clamp: what a read outside the sizes gives: "undefined", "constant", "edge", "repeat" or "mirror".
        clamp_value: bits of the constant, a u32.
    """
    if clamp not in CLAMPS:
        raise ShaderError("A clamp must be known.", got=clamp, want=", ".join(CLAMPS), fix="use one of them.")
    dtype = OpaqueType("layout", len(sizes), (CLAMPS[clamp],))
    layout = builder.pure(Op.CreateTensorLayoutNV, dtype)
    layout = builder.pure(Op.TensorLayoutSetDimensionNV, dtype, layout.id, *_ids(builder, sizes))
    if strides is not None:
        layout = builder.pure(Op.TensorLayoutSetStrideNV, dtype, layout.id, *_ids(builder, strides))
    if clamp_value is not None:
        layout = builder.pure(Op.TensorLayoutSetClampValueNV, dtype, layout.id, builder.const("u32", clamp_value).id)
    return layout


def tensor_slice(builder: Builder, layout: Value, ranges: Sequence[tuple[Value | int, Value | int]]) -> Value:
    """Return a layout that covers (offset, span) of each axis."""
    words = [part for offset_and_span in ranges for part in offset_and_span]
    return builder.pure(Op.TensorLayoutSliceNV, layout.dtype, layout.id, *_ids(builder, words))


def tensor_view(builder: Builder, order: Sequence[int], *, sizes: Sequence[Value | int] | None = None) -> Value:
    """Return a view whose axis i is the slice's axis `order[i]`; (1, 0) reads the transpose."""
    dtype = OpaqueType("view", len(order), (int(sizes is not None), *order))
    view = builder.pure(Op.CreateTensorViewNV, dtype)
    if sizes is not None:
        view = builder.pure(Op.TensorViewSetDimensionNV, dtype, view.id, *_ids(builder, sizes))
    return view


def tensor_clip(
    builder: Builder, view: Value, rows: tuple[Value | int, Value | int], columns: tuple[Value | int, Value | int]
) -> Value:
    """Return a view that reads and writes only (offset, span) of the rows and columns of the matrix."""
    return builder.pure(Op.TensorViewSetClipNV, view.dtype, view.id, *_ids(builder, (*rows, *columns)))


def _ids(builder: Builder, numbers: Sequence[Value | int]) -> list[int]:
    return [number.id if isinstance(number, Value) else builder.const("u32", number).id for number in numbers]
