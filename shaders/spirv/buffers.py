"""Buffers: the parameters of a kernel, indexed in elements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ShaderError
from ..kernel import Parameter
from .atomics import Pointer, atomic, compare_exchange
from .conversion import decode, encode
from .dtypes import BITS, REGISTERS, Dtype, Number
from .grammar import Capability, Decoration, MemoryAccess, Op, Scope, StorageClass
from .interface import address, block_type
from .memory import integer_index
from .values import Value

if TYPE_CHECKING:
    from .builder import Builder
    from .module import Function

STORAGE = {"bool": "u8", "bf16": "u16"}
"""How a dtype lies in memory where it has no type of its own."""

_LOAD = Op.Load | 6 << 16
_STORE = Op.Store | 5 << 16
_CHAIN = Op.AccessChain | 6 << 16


class _View:
    """A buffer read in groups of `width` elements; `base` is its pointer inside the function `owner`.

    Elements are the parameter's, or, with `as_words`, u32 whatever the parameter's are.
    """

    __slots__ = (
        "alignment", "as_words", "base", "block", "dtype", "element_type", "owner", "pointer_type", "register", "width"
    )  # fmt: skip

    def __init__(self, builder: Builder, parameter: Parameter, width: int, *, as_words: bool = False) -> None:
        dtype = "u32" if as_words else parameter.dtype
        scalar = STORAGE.get(dtype, dtype)
        register = REGISTERS.get(dtype, dtype)
        if BITS[scalar] == 8:
            builder.require(Capability.StorageBuffer8BitAccess)
        elif BITS[scalar] == 16:
            builder.require(Capability.StorageBuffer16BitAccess)
        self.width = width
        self.as_words = as_words
        self.dtype: Dtype = scalar if width == 1 else (scalar, width)
        self.register: Dtype = register if width == 1 else (register, width)
        self.alignment = BITS[scalar] // 8 * width
        self.element_type = builder.raw_type(self.dtype)
        self.pointer_type = builder.pointer_type(builder.buffer_storage, self.element_type)
        self.block = block_type(builder, self.element_type, self.alignment, parameter.access)
        self.owner: Function | None = None
        self.base = 0


class Buffer:
    """A parameter of the kernel, indexed in elements.

    `x[i]` reads an element into its register dtype and `x[i] = v` writes one back: bool is a byte, bf16 becomes f32,
    8-bit and 16-bit integers become 32-bit ones. Writing bf16 rounds to nearest even and keeps NaN.

    Reach beyond 2^31 elements or 4 GiB with a 64-bit index: SPIR-V reads indices as signed numbers, and drivers may
    count the bytes in 32 bits.
    """

    def __init__(self, builder: Builder, parameter: Parameter, slot: int) -> None:
        self.builder = builder
        self.parameter = parameter
        self.slot = slot
        self.dtype = parameter.dtype
        self._views: dict[int, _View] = {}
        self._word_views: dict[int, _View] = {}
        self._zero = builder.const("u32", 0).id

    def load(self, index: Value | int, vector: int = 1) -> Value:
        """Read `vector` neighbouring elements; the address must be a multiple of their size."""
        if self.parameter.access == "w":
            raise self._access_error("read", "r or rw")
        builder = self.builder
        view = self._views.get(vector) or self._view(vector)
        pointer = self._chain(view, index)
        identifier = builder.next_id
        builder.next_id = identifier + 1
        builder.code += (_LOAD, view.element_type, identifier, pointer, MemoryAccess.Aligned, view.alignment)
        if view.dtype is view.register:
            return Value(builder, identifier, view.register)
        return decode(builder, identifier, view.dtype, view.register, self.dtype)

    def store(self, index: Value | int, value: Value | Number) -> None:
        """Write an element, or as many neighbouring elements as the vector has components."""
        if self.parameter.access == "r":
            raise self._access_error("write", "w or rw")
        builder = self.builder
        if not isinstance(value, Value):
            value = builder.const(REGISTERS.get(self.dtype, self.dtype), value)
        width = value.dtype[1] if isinstance(value.dtype, tuple) else 1
        view = self._views.get(width) or self._view(width)
        stored = encode(builder, value, view.dtype, view.register, view.element_type, self.parameter.name, self.dtype)
        builder.code += (_STORE, self._chain(view, index), stored, MemoryAccess.Aligned, view.alignment)

    def load_words(self, group: Value | int, words: int) -> Value:
        """Read bits as they lie: group number `group` of 1, 2 or 4 u32 each, counted from the start of the buffer."""
        if self.parameter.access == "w":
            raise self._access_error("read", "r or rw")
        view = self._word_views.get(words) or self._view(words, as_words=True)
        pointer = self._chain(view, group)
        return self.builder.emit(Op.Load, view.register, pointer, MemoryAccess.Aligned, view.alignment)

    def store_words(self, group: Value | int, words: Value) -> None:
        """Write bits as they are to lie: 1, 2 or 4 u32 over group number `group`, counted from the start."""
        if self.parameter.access == "r":
            raise self._access_error("write", "w or rw")
        count = words.dtype[1] if isinstance(words.dtype, tuple) else 1
        view = self._word_views.get(count) or self._view(count, as_words=True)
        pointer = self._chain(view, group)
        self.builder.code += (_STORE, pointer, words.id, MemoryAccess.Aligned, view.alignment)

    __getitem__ = load
    __setitem__ = store

    def pointer(self, index: Value | int, vector: int = 1) -> Pointer:
        """Return the address of an element, for cooperative matrices."""
        view = self._views.get(vector) or self._view(vector)
        return Pointer(self._chain(view, index), view.dtype, self.builder.buffer_storage, view.alignment)

    def atomic(self, operation: str, index: Value | int, value: Value | Number) -> Value:
        """Combine an element with `value` at once and return what was there before."""
        return atomic(self.builder, self._exchanged(index), operation, value, Scope.Device)

    def compare_exchange(self, index: Value | int, expected: Value | Number, new: Value | Number) -> Value:
        """Write `new` if the element equals `expected`; return what was there before."""
        return compare_exchange(self.builder, self._exchanged(index), expected, new, Scope.Device)

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

    def _chain(self, view: _View, index: Value | int) -> int:
        """Return the id of the address of a group, computed once where blocks dominate each other."""
        builder = self.builder
        index = integer_index(builder, index)
        if view.width > 1 and not view.as_words:
            index = builder.divide_exactly(index, view.width)
        if index.dtype in ("u64", "i64") and not builder.descriptors:
            return self._far(view, index)
        if view.owner is not builder.current:
            view.owner, view.base = builder.current, self._base(view)
        key = (view.base, index.id)
        found = builder.memo.get(key)
        if found is None:
            found = builder.memo[key] = builder.next_id
            builder.next_id = found + 1
            builder.code += (_CHAIN, view.pointer_type, found, view.base, self._zero, index.id)
            builder.log.append(key)
        return found

    def _far(self, view: _View, index: Value) -> int:
        """Return the id of an address computed in 64 bits: NVIDIA's driver adds a block's offsets in 32."""
        builder = self.builder
        key = ("far", self.slot)
        start = builder.current.entry_memo.get(key)
        if start is None:
            with builder.at_entry():
                start = builder.current.entry_memo[key] = builder.emit(Op.Bitcast, "u64", address(builder, self.slot))
        place = start + builder.convert(index, "u64") * view.alignment
        return builder.typed(Op.ConvertUToPtr, view.pointer_type, place.id)

    def _view(self, width: int, *, as_words: bool = False) -> _View:
        if width not in (1, 2, 4):
            raise ShaderError(
                "A vector access must be 2 or 4 wide.", got=width, want="1, 2 or 4", fix="split the access."
            )
        view = _View(self.builder, self.parameter, width, as_words=as_words)
        (self._word_views if as_words else self._views)[width] = view
        return view

    def _base(self, view: _View) -> int:
        """Return the id of the pointer to a view's block, from the table at the function's entry or a descriptor."""
        builder = self.builder
        key = ("buffer", self.slot, -view.width if view.as_words else view.width)
        memo = builder.descriptor_variables if builder.descriptors else builder.current.entry_memo
        base = memo.get(key)
        if base is None:
            base = memo[key] = self._descriptor(view) if builder.descriptors else self._from_table(view)
            builder.name(base, self.parameter.name)
            if self.parameter.access == "r":
                builder.readonly_bases.add(base)
        return base

    def _from_table(self, view: _View) -> int:
        builder = self.builder
        with builder.at_entry():
            pair = address(builder, self.slot)
            block_pointer = builder.pointer_type(StorageClass.PhysicalStorageBuffer, view.block)
            if view.as_words or BITS[self.dtype] >= 32:
                return builder.typed(Op.Bitcast, block_pointer, pair)
            # The validator refuses a bitcast to what points to 8 or 16 bits unless the module may compute with those.
            whole = builder.typed(Op.Bitcast, builder.types["u64"], pair)
            return builder.typed(Op.ConvertUToPtr, block_pointer, whole)

    def _descriptor(self, view: _View) -> int:
        builder = self.builder
        variable = builder.global_variable(StorageClass.StorageBuffer, view.block)
        builder.decorate(variable, Decoration.DescriptorSet, 0)
        builder.decorate(variable, Decoration.Binding, self.slot)
        builder.decorate(variable, Decoration.Aliased)
        return variable
