"""Buffers, shared memory and variables: typed places that are read and written by index."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..errors import ShaderError
from ..kernel import Parameter
from .conversion import decode, encode
from .dtypes import BITS, REGISTERS, Dtype, Number, OpcodeTable, dtype_text, element, with_element
from .grammar import Capability, Decoration, MemoryAccess, Op, Scope, StorageClass
from .interface import address, block_type
from .values import Value

if TYPE_CHECKING:
    from .builder import Builder

STORAGE = {"bool": "u8", "bf16": "u16"}
"""How a dtype lies in memory where it has no type of its own."""

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


class _View(NamedTuple):
    """A buffer read in groups of `width` elements."""

    element_type: int
    pointer_type: int
    dtype: Dtype
    register: Dtype
    alignment: int
    shift: int


class Buffer:
    """A parameter of the kernel, indexed in elements.

    `x[i]` reads an element into its register dtype and `x[i] = v` writes one back: bool is a byte, bf16 becomes f32,
    8-bit and 16-bit integers become 32-bit ones. Indices are signed where SPIR-V reads them: reach beyond 2^31
    elements with a 64-bit index. Writing bf16 rounds to nearest even and keeps NaN.
    """

    def __init__(self, builder: Builder, parameter: Parameter, slot: int) -> None:
        self.builder = builder
        self.parameter = parameter
        self.slot = slot
        self.dtype = parameter.dtype
        self._views: dict[int, _View] = {}
        self._blocks: dict[int, int] = {}
        self._variables: dict[int, int] = {}
        self._zero = builder.const("u32", 0).id

    def load(self, index: Value | int, vector: int = 1) -> Value:
        """Read `vector` neighbouring elements; the address must be a multiple of their size."""
        if self.parameter.access == "w":
            raise self._access_error("read", "r or rw")
        builder = self.builder
        view = self._views.get(vector) or self._view(vector)
        pointer = self._chain(view, vector, index)
        identifier = builder.next_id
        builder.next_id = identifier + 1
        builder.code += (
            Op.Load | 6 << 16,
            view.element_type,
            identifier,
            pointer,
            MemoryAccess.Aligned,
            view.alignment,
        )
        return decode(builder, identifier, view.dtype, view.register, self.dtype)

    def store(self, index: Value | int, value: Value | Number, vector: int = 0) -> None:
        """Write an element, or as many neighbouring elements as the vector has components."""
        if self.parameter.access == "r":
            raise self._access_error("write", "w or rw")
        builder = self.builder
        if not isinstance(value, Value):
            value = builder.const(REGISTERS.get(self.dtype, self.dtype), value)
        width = value.dtype[1] if isinstance(value.dtype, tuple) else 1
        view = self._views.get(width) or self._view(width)
        stored = encode(builder, value, view.dtype, view.register, view.element_type, self.parameter.name, self.dtype)
        pointer = self._chain(view, width, index)
        builder.code += (Op.Store | 5 << 16, pointer, stored, MemoryAccess.Aligned, view.alignment)

    __getitem__ = load
    __setitem__ = store

    def pointer(self, index: Value | int, vector: int = 1) -> Pointer:
        """Return the address of an element, for cooperative matrices."""
        view = self._views.get(vector) or self._view(vector)
        storage = StorageClass.StorageBuffer if self.builder.descriptors else StorageClass.PhysicalStorageBuffer
        return Pointer(self._chain(view, vector, index), view.dtype, storage, view.alignment)

    def atomic(self, operation: str, index: Value | int, value: Value | Number) -> Value:
        """Combine an element with `value` at once and return what was there before."""
        return _atomic(self.builder, self._exchanged(index), operation, value, Scope.Device)

    def compare_exchange(self, index: Value | int, expected: Value | Number, new: Value | Number) -> Value:
        """Write `new` if the element equals `expected`; return what was there before."""
        return _compare_exchange(self.builder, self._exchanged(index), expected, new, Scope.Device)

    def _exchanged(self, index: Value | int) -> Pointer:
        if self.parameter.access != "rw":
            raise self._access_error("update", "rw")
        return self.pointer(index)

    def _access_error(self, verb: str, want: str) -> ShaderError:
        return ShaderError(
            f"A kernel may {verb} only buffers declared so.",
            got=f"{self.parameter.name} with access {self.parameter.access!r}",
            want=f"access {want}",
            fix="declare the parameter with that access.",
        )

    def _chain(self, view: _View, width: int, index: Value | int) -> int:
        builder = self.builder
        if not isinstance(index, Value):
            index = builder.const("u32", index)
        if view.shift:
            index = builder.divide_exactly(index, width)
        base = self._base(width)
        key = (Op.AccessChain, base, index.id)
        found = builder.memo.get(key)
        if found is None:
            found = builder.memo[key] = builder.typed(Op.AccessChain, view.pointer_type, base, self._zero, index.id)
            builder.log.append(key)
        return found

    def _view(self, width: int) -> _View:
        builder = self.builder
        if width not in (1, 2, 4):
            raise ShaderError(
                "A vector access must be 2 or 4 wide.", got=width, want="1, 2 or 4", fix="split the access."
            )
        scalar = STORAGE.get(self.dtype, self.dtype)
        register = REGISTERS.get(self.dtype, self.dtype)
        dtype: Dtype = scalar if width == 1 else (scalar, width)
        if BITS[scalar] in (8, 16):
            builder.require(
                Capability.StorageBuffer8BitAccess if BITS[scalar] == 8 else Capability.StorageBuffer16BitAccess
            )
        element_type = builder.raw_type(dtype)
        size = BITS[scalar] // 8 * width
        storage = StorageClass.StorageBuffer if builder.descriptors else StorageClass.PhysicalStorageBuffer
        self._blocks[width] = block_type(builder, element_type, size, self.parameter.access)
        pointer_type = builder.pointer_type(storage, element_type)
        view = _View(
            element_type,
            pointer_type,
            dtype,
            register if width == 1 else (register, width),
            size,
            width.bit_length() - 1,
        )
        self._views[width] = view
        return view

    def _base(self, width: int) -> int:
        """Return the id of the pointer to the block of groups of `width`, loading it at the function's entry."""
        builder = self.builder
        if builder.descriptors:
            return self._variables.get(width) or self._descriptor(width)
        memo = builder.current.entry_memo
        key = ("buffer", self.slot, width)
        base = memo.get(key)
        if base is None:
            with builder.at_entry():
                base = self._cast(address(builder, self.slot), width)
            memo[key] = base
            builder.name(base, self.parameter.name)
            if self.parameter.access == "r":
                builder.readonly_bases.add(base)
        return base

    def _cast(self, address: int, width: int) -> int:
        """Return the pointer to the block from the address as two u32."""
        builder = self.builder
        block_pointer = builder.pointer_type(StorageClass.PhysicalStorageBuffer, self._blocks[width])
        if BITS[self.dtype] >= 32:
            return builder.typed(Op.Bitcast, block_pointer, address)
        # The validator refuses a bitcast to what points to 8 or 16 bits unless the module may compute with those.
        whole = builder.typed(Op.Bitcast, builder.types["u64"], address)
        return builder.typed(Op.ConvertUToPtr, block_pointer, whole)

    def _descriptor(self, width: int) -> int:
        builder = self.builder
        variable = builder.global_variable(StorageClass.StorageBuffer, self._blocks[width])
        builder.decorate(variable, Decoration.DescriptorSet, 0)
        builder.decorate(variable, Decoration.Binding, self.slot)
        builder.decorate(variable, Decoration.Aliased)
        if self.parameter.access == "r":
            builder.readonly_bases.add(variable)
        self._variables[width] = variable
        builder.name(variable, self.parameter.name)
        return variable


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
        if not isinstance(index, Value):
            index = builder.const("u32", index)
        key = (Op.AccessChain, self._variable, index.id)
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

    def atomic(self, operation: str, index: Value | int, value: Value | Number) -> Value:
        """Combine an element with `value` at once and return what was there before."""
        return _atomic(self.builder, self.pointer(index), operation, value, Scope.Workgroup)

    def compare_exchange(self, index: Value | int, expected: Value | Number, new: Value | Number) -> Value:
        """Write `new` if the element equals `expected`; return what was there before."""
        return _compare_exchange(self.builder, self.pointer(index), expected, new, Scope.Workgroup)


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
        index = index if isinstance(index, Value) else self.builder.const("u32", index)
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


def _atomic(builder: Builder, pointer: Pointer, operation: str, value: Value | Number, scope: int) -> Value:
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


def _compare_exchange(
    builder: Builder, pointer: Pointer, expected: Value | Number, new: Value | Number, scope: int
) -> Value:
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
