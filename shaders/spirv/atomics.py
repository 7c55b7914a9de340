"""Pointers to elements, and updates of one element that no other invocation can interrupt."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..errors import ShaderError
from .dtypes import Dtype, Number, OpcodeTable, dtype_text
from .grammar import Capability, Op
from .values import Value

if TYPE_CHECKING:
    from .builder import Builder

ATOMICS = {
    "add": OpcodeTable("atomic add", i=Op.AtomicIAdd, u=Op.AtomicIAdd, f=Op.AtomicFAddEXT),
    "min": OpcodeTable("atomic min", i=Op.AtomicSMin, u=Op.AtomicUMin),
    "max": OpcodeTable("atomic max", i=Op.AtomicSMax, u=Op.AtomicUMax),
    "and": OpcodeTable("atomic and", i=Op.AtomicAnd, u=Op.AtomicAnd),
    "or": OpcodeTable("atomic or", i=Op.AtomicOr, u=Op.AtomicOr),
    "xor": OpcodeTable("atomic xor", i=Op.AtomicXor, u=Op.AtomicXor),
    "exchange": OpcodeTable("atomic exchange", i=Op.AtomicExchange, u=Op.AtomicExchange, f=Op.AtomicExchange),
}


class Pointer(NamedTuple):
    """An address of one element: id, dtype in memory, storage class and the alignment it is known to have."""

    id: int
    dtype: Dtype
    storage: int
    alignment: int


def atomic(builder: Builder, pointer: Pointer, operation: str, value: Value | Number, scope: int) -> Value:
    """Combine an element with `value` as invocations in `scope` see it; return what was there before."""
    if operation not in ATOMICS:
        raise ShaderError(
            "An atomic must have a known name.", got=operation, want=", ".join(ATOMICS), fix="use one of them."
        )
    dtype = _atomic_dtype(builder, pointer)
    value = _operand(builder, dtype, value)
    opcode = ATOMICS[operation][dtype]
    if opcode == Op.AtomicFAddEXT:
        builder.require(Capability.AtomicFloat32AddEXT, "SPV_EXT_shader_atomic_float_add")
    return builder.emit(opcode, dtype, pointer.id, *_scope(builder, scope), value.id)


def compare_exchange(
    builder: Builder, pointer: Pointer, expected: Value | Number, new: Value | Number, scope: int
) -> Value:
    """Write `new` where the element equals `expected`; return what was there before."""
    dtype = _atomic_dtype(builder, pointer)
    device, relaxed = _scope(builder, scope)
    new, expected = _operand(builder, dtype, new), _operand(builder, dtype, expected)
    return builder.emit(Op.AtomicCompareExchange, dtype, pointer.id, device, relaxed, relaxed, new.id, expected.id)


def _scope(builder: Builder, scope: int) -> tuple[int, int]:
    return builder.const("u32", scope).id, builder.const("u32", 0).id


def _operand(builder: Builder, dtype: Dtype, value: Value | Number) -> Value:
    if not isinstance(value, Value):
        return builder.const(dtype, value)
    if value.dtype != dtype:
        raise ShaderError(
            "An atomic's operand must have the element's dtype.",
            got=value,
            want=dtype_text(dtype),
            fix="convert it first.",
        )
    return value


def _atomic_dtype(builder: Builder, pointer: Pointer) -> Dtype:
    if pointer.dtype not in ("i32", "u32", "i64", "u64", "f32"):
        raise ShaderError(
            "An atomic must work on 32 or 64 bits.",
            got=dtype_text(pointer.dtype),
            want="i32, u32, i64, u64 or f32",
            fix="use such a buffer.",
        )
    if pointer.dtype in ("i64", "u64"):
        builder.require(Capability.Int64Atomics)
    return pointer.dtype
