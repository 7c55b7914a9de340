"""Memory of a workgroup and of one invocation: typed places that are read and written by index."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ShaderError
from .atomics import Pointer, atomic, compare_exchange
from .conversion import decode, encode
from .dtypes import BITS, INTEGERS, REGISTERS, Dtype, Number, dtype_text, element, with_element
from .grammar import MemoryAccess, Op, Scope, StorageClass
from .values import Value

if TYPE_CHECKING:
    from .builder import Builder


def integer_index(builder: Builder, index: Value | int) -> Value:
    """Return an index as a value.

    Raises:
        ShaderError: the index is no scalar integer.
    """
    if not isinstance(index, Value):
        return builder.const("u32", index)
    if index.dtype not in INTEGERS:
        raise ShaderError(
            "An index must be an integer.", got=index, want="i32, u32, i64 or u64", fix="convert it first."
        )
    return index


class Shared:
    """Memory of one workgroup, indexed in elements; undefined until written. bool is kept as u32, bf16 as its bits."""

    def __init__(self, builder: Builder, dtype: Dtype, count: int) -> None:
        scalar = element(dtype)
        stored = with_element(dtype, {"bool": "u32", "bf16": "u16"}.get(scalar, scalar))
        self.builder = builder
        self.dtype = dtype
        self.count = count
        self.stored = stored
        self.register = with_element(dtype, REGISTERS.get(scalar, scalar))
        self._scalar = scalar
        self._element_type = builder.types[stored]
        array_type = builder.declare_global(Op.TypeArray, self._element_type, builder.const("u32", count).id)
        self._pointer_type = builder.pointer_type(StorageClass.Workgroup, self._element_type)
        self._variable = builder.global_variable(StorageClass.Workgroup, array_type)
        self.alignment = BITS[element(stored)] // 8 * (dtype[1] if isinstance(dtype, tuple) else 1)
        builder.shared_bytes += -(-self.alignment * count // 16) * 16

    def _chain(self, index: Value | int) -> int:
        builder = self.builder
        index = integer_index(builder, index)
        key = (self._variable, index.id)
        found = builder.memo.get(key)
        if found is None:
            found = builder.memo[key] = builder.typed(Op.AccessChain, self._pointer_type, self._variable, index.id)
            builder.log.append(key)
        return found

    def __getitem__(self, index: Value | int) -> Value:
        builder = self.builder
        identifier = builder.typed(
            Op.Load, self._element_type, self._chain(index), MemoryAccess.Aligned, self.alignment
        )
        return decode(builder, identifier, self.stored, self.register, self._scalar)

    def __setitem__(self, index: Value | int, value: Value | Number) -> None:
        builder = self.builder
        if not isinstance(value, Value):
            value = builder.const(self.register, value)
        stored = encode(builder, value, self.stored, self.register, self._element_type, "shared memory", self._scalar)
        builder.perform(Op.Store, self._chain(index), stored, MemoryAccess.Aligned, self.alignment)

    load = __getitem__
    store = __setitem__

    def pointer(self, index: Value | int) -> Pointer:
        """Return the address of an element, for cooperative matrices."""
        return Pointer(self._chain(index), self.stored, StorageClass.Workgroup, self.alignment)

    def component(self, index: Value | int, component: Value) -> Value:
        """Return one component of a vector, which one is known at run time."""
        pointer, scalar, size = self._component(index, component)
        builder = self.builder
        identifier = builder.typed(Op.Load, builder.types[scalar], pointer, MemoryAccess.Aligned, size)
        return Value(builder, identifier, scalar)

    def set_component(self, index: Value | int, component: Value, value: Value) -> None:
        """Set one component of a vector."""
        pointer, _, size = self._component(index, component)
        self.builder.perform(Op.Store, pointer, value.id, MemoryAccess.Aligned, size)

    def _component(self, index: Value | int, component: Value) -> tuple[int, Dtype, int]:
        builder, scalar = self.builder, element(self.stored)
        pointer_type = builder.pointer_type(StorageClass.Workgroup, builder.types[scalar])
        index = integer_index(builder, index)
        chain = builder.typed(Op.AccessChain, pointer_type, self._variable, index.id, component.id)
        return chain, scalar, BITS[scalar] // 8

    def atomic(self, operation: str, index: Value | int, value: Value | Number) -> Value:
        """Combine an element with `value` at once and return what was there before."""
        return atomic(self.builder, self.pointer(index), operation, value, Scope.Workgroup)

    def compare_exchange(self, index: Value | int, expected: Value | Number, new: Value | Number) -> Value:
        """Write `new` if the element equals `expected`; return what was there before."""
        return compare_exchange(self.builder, self.pointer(index), expected, new, Scope.Workgroup)


class Variable:
    """A variable of one invocation, or an array of them; read before it is written it is undefined."""

    def __init__(self, builder: Builder, dtype: Dtype, init: Value | Number | None, count: int | None) -> None:
        self.builder = builder
        self.dtype = dtype
        self.count = count
        held = builder.types[dtype]
        if count is not None:
            held = builder.declare_global(Op.TypeArray, held, builder.const("u32", count).id)
        self._pointer_type = builder.pointer_type(StorageClass.Function, builder.types[dtype])
        variable_type = builder.pointer_type(StorageClass.Function, held)
        self._variable = builder.new_id()
        builder.current.variables += (Op.Variable | 4 << 16, variable_type, self._variable, StorageClass.Function)
        if init is not None:
            for index in range(count or 1):
                self.store(init) if count is None else self.__setitem__(index, init)

    def load(self) -> Value:
        """Return what the variable holds."""
        return self.builder.emit(Op.Load, self.dtype, self._variable)

    def store(self, value: Value | Number) -> None:
        """Set the variable."""
        self.builder.perform(Op.Store, self._variable, self._checked(value).id)

    def __getitem__(self, index: Value | int) -> Value:
        return self.builder.emit(Op.Load, self.dtype, self._chain(index))

    def __setitem__(self, index: Value | int, value: Value | Number) -> None:
        self.builder.perform(Op.Store, self._chain(index), self._checked(value).id)

    def element(self, index: Value) -> Value:
        """Return one of the elements of a matrix variable that this invocation holds."""
        return self.builder.emit(Op.Load, element(self.dtype), self._element_chain(index))

    def set_element(self, index: Value, value: Value) -> None:
        """Set one of the elements of a matrix variable that this invocation holds."""
        self.builder.perform(Op.Store, self._element_chain(index), value.id)

    def _element_chain(self, index: Value) -> int:
        builder = self.builder
        pointer_type = builder.pointer_type(StorageClass.Function, builder.types[element(self.dtype)])
        return builder.typed(Op.AccessChain, pointer_type, self._variable, index.id)

    def _chain(self, index: Value | int) -> int:
        if self.count is None:
            raise ShaderError(
                "Only an array has elements.", got="a variable without count", want="an array", fix="pass count."
            )
        index = integer_index(self.builder, index)
        return self.builder.typed(Op.AccessChain, self._pointer_type, self._variable, index.id)

    def _checked(self, value: Value | Number) -> Value:
        if not isinstance(value, Value):
            return self.builder.const(self.dtype, value)
        if value.dtype != self.dtype:
            raise ShaderError(
                "A variable holds one dtype.",
                got=value,
                want=dtype_text(self.dtype),
                fix="convert the value with b.convert.",
            )
        return value
