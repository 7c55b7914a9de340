"""The module under construction: sections, ids, interned types, constants and pure instructions.

Words of a module, in order: header, capabilities, extensions, the GLSL.std.450 import, memory model, entry point,
execution modes, strings, names, decorations, globals (types, constants, variables), functions. A function's words are
its header, its variables, what is computed once at its entry (builtins, buffer addresses), then the code.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from . import vulkan_memory
from .dtypes import BITS, INTEGERS, KIND, Dtype, MatrixType, Number, OpaqueType, encode, exact_number
from .grammar import (
    GLSL,
    MAGIC,
    AddressingModel,
    Capability,
    Decoration,
    ExecutionMode,
    ExecutionModel,
    FPEncoding,
    MemoryModel,
    Op,
)
from .values import Value

VERSION = 0x00010600
"""SPIR-V 1.6, what Vulkan 1.3 takes."""

SCALAR_CAPABILITIES = {
    "f16": Capability.Float16,
    "f64": Capability.Float64,
    "i64": Capability.Int64,
    "u64": Capability.Int64,
    "i16": Capability.Int16,
    "u16": Capability.Int16,
    "i8": Capability.Int8,
    "u8": Capability.Int8,
}

LogEntry = tuple[Any, ...]
_QUICK = frozenset({int, float})
_CONTRACTED = frozenset({Op.FAdd, Op.FSub, Op.FMul})


def text_words(text: str) -> tuple[int, ...]:
    """Return a literal string: UTF-8, terminated and padded with zeros."""
    data = text.encode() + b"\0"
    data += b"\0" * (-len(data) % 4)
    return struct.unpack(f"<{len(data) // 4}I", data)


class Function:
    """The parts of one function while it is written."""

    __slots__ = ("code", "entry", "entry_memo", "header", "id", "log", "memo", "result", "variables")

    def __init__(self, identifier: int, result: Dtype | None) -> None:
        self.id = identifier
        self.result = result
        self.header: list[int] = []
        self.variables: list[int] = []
        self.entry: list[int] = []
        self.code: list[int] = []
        self.entry_memo: dict[LogEntry, Any] = {}
        self.memo: dict[LogEntry, Any] = {}
        self.log: list[LogEntry] = []


class _Types(dict[Dtype, int]):
    """Ids of register types, declared when first asked for."""

    def __init__(self, module: Module) -> None:
        super().__init__()
        self.module = module

    def __missing__(self, dtype: Dtype) -> int:
        identifier = self[dtype] = self.module.declare(dtype)
        return identifier


class Module:
    """What every instruction needs; `Builder` adds the constructs of the language."""

    def __init__(self) -> None:
        self.next_id = 1
        self.capabilities: dict[int, None] = {Capability.Shader: None}
        self.extensions: dict[str, None] = {}
        self.modes: list[tuple[int, ...]] = []
        self.strings: dict[str, int] = {}
        self.names: list[int] = []
        self.decorations: list[int] = []
        self.globals: list[int] = []
        self.functions: list[Function] = []
        self.interface: list[int] = []
        self.types = _Types(self)
        self.raw: dict[tuple[int, ...], int] = {}
        self.constants: dict[tuple[Dtype, Any], Value] = {}
        self.products: dict[int, tuple[Value, int]] = {}
        self.uses_vulkan_memory = False
        self.readonly_bases: set[int] = set()
        self.glsl = self.new_id()
        self.line: tuple[int, ...] | None = None
        self.terminated = False
        self.no_contraction = False
        self.block = 0
        self.current: Function
        self.code: list[int]
        self.memo: dict[LogEntry, Any]
        self.log: list[LogEntry]

    # Instructions

    def new_id(self) -> int:
        """Return a fresh id."""
        identifier = self.next_id
        self.next_id = identifier + 1
        return identifier

    def pure(self, opcode: int, dtype: Dtype, *words: int) -> Value:
        """Append an instruction without side effects, or return the value where this block's dominators computed it."""
        key = (opcode, dtype, words)
        value = self.memo.get(key)
        if value is not None:
            return value
        type_id = self.types[dtype]
        identifier = self.next_id
        self.next_id = identifier + 1
        self.code += (opcode | (len(words) + 3) << 16, type_id, identifier, *words)
        value = self.memo[key] = Value(self, identifier, dtype)
        self.log.append(key)
        return value

    def binary(self, opcode: int, dtype: Dtype, left: int, right: int) -> Value:
        """Append a pure instruction of two operands; `pure` for the most frequent kind, without its packing."""
        key = (opcode, dtype, left, right)
        value = self.memo.get(key)
        if value is not None:
            return value
        type_id = self.types[dtype]
        identifier = self.next_id
        self.next_id = identifier + 1
        self.code += (opcode | 5 << 16, type_id, identifier, left, right)
        value = self.memo[key] = Value(self, identifier, dtype)
        self.log.append(key)
        return value

    def emit(self, opcode: int, dtype: Dtype, *words: int) -> Value:
        """Append an instruction whose result depends on when it runs."""
        type_id = self.types[dtype]
        identifier = self.next_id
        self.next_id = identifier + 1
        self.code += (opcode | (len(words) + 3) << 16, type_id, identifier, *words)
        return Value(self, identifier, dtype)

    def divide_exactly(self, value: Value, divisor: int) -> Value:
        """Return an index that is a multiple of a power of two, divided by it; a constant factor is divided instead."""
        factor, number = self.products.get(value.id, (value, 1))
        if number % divisor == 0:
            return factor * (number // divisor)
        return value >> (divisor.bit_length() - 1)

    def typed(self, opcode: int, type_id: int, *words: int) -> int:
        """Append an instruction whose result type is no register dtype; return its id."""
        identifier = self.new_id()
        self.code += (opcode | (len(words) + 3) << 16, type_id, identifier, *words)
        return identifier

    def perform(self, opcode: int, *words: int) -> None:
        """Append an instruction without a result."""
        self.code += (opcode | (len(words) + 1) << 16, *words)

    def extended(self, name: str, dtype: Dtype, *operands: int) -> Value:
        """Append an instruction of GLSL.std.450."""
        return self.pure(Op.ExtInst, dtype, self.glsl, GLSL[name], *operands)

    # Blocks and dominance

    def begin_block(self, label: int) -> None:
        """Start a block; a source line holds until the end of a block, so it is repeated."""
        self.code += (Op.Label | 2 << 16, label)
        self.block = label
        self.terminated = False
        if self.line is not None:
            self.code += self.line

    def terminate(self, opcode: int, *words: int) -> None:
        """End the block."""
        self.perform(opcode, *words)
        self.terminated = True

    def forget(self, mark: int) -> None:
        """Drop memoised values computed after `mark = len(log)`: their block does not dominate what follows."""
        log, memo = self.log, self.memo
        for key in log[mark:]:
            del memo[key]
        del log[mark:]

    def enter(self, function: Function) -> None:
        """Direct instructions to `function`."""
        self.current = function
        self.code, self.memo, self.log = function.code, function.memo, function.log

    @contextmanager
    def at_entry(self) -> Generator[None]:
        """Direct instructions to the entry of the function, where they dominate all of it; can be nested."""
        function, outside = self.current, (self.code, self.memo, self.log)
        self.code, self.memo, self.log = function.entry, function.entry_memo, []
        try:
            yield
        finally:
            self.code, self.memo, self.log = outside

    # Types

    def require(self, capability: int, extension: str | None = None) -> None:
        """Declare a capability and the extension it comes from."""
        self.capabilities[capability] = None
        if extension is not None:
            self.extensions[extension] = None

    def declare_global(self, opcode: int, *operands: int) -> int:
        """Append an interned type without layout."""
        key = (opcode, *operands)
        identifier = self.raw.get(key)
        if identifier is None:
            identifier = self.raw[key] = self.new_id()
            self.globals += (opcode | (len(operands) + 2) << 16, identifier, *operands)
        return identifier

    def declare(self, dtype: Dtype) -> int:
        """Return the type id of a register dtype; use `types`, which remembers it."""
        if isinstance(dtype, MatrixType | OpaqueType):
            from .matrix import declare_matrix, declare_opaque

            return declare_matrix(self, dtype) if isinstance(dtype, MatrixType) else declare_opaque(self, dtype)
        if isinstance(dtype, tuple):
            return self.declare_global(Op.TypeVector, self.types[dtype[0]], dtype[1])
        if dtype in SCALAR_CAPABILITIES:
            self.require(SCALAR_CAPABILITIES[dtype])
        if dtype == "bool":
            return self.declare_global(Op.TypeBool)
        if dtype == "void":
            return self.declare_global(Op.TypeVoid)
        return self.raw_type(dtype)

    def raw_type(self, dtype: Dtype) -> int:
        """Return the type id of a number in memory, without the capability to compute with it."""
        if isinstance(dtype, tuple):
            return self.declare_global(Op.TypeVector, self.raw_type(dtype[0]), int(dtype[1]))
        if dtype == "bf16":
            self.require(Capability.BFloat16TypeKHR, "SPV_KHR_bfloat16")
            return self.declare_global(Op.TypeFloat, 16, FPEncoding.BFloat16KHR)
        kind = KIND[dtype]
        if BITS[dtype] == 64:
            self.require(SCALAR_CAPABILITIES[dtype])
        if kind == "f":
            return self.declare_global(Op.TypeFloat, BITS[dtype])
        return self.declare_global(Op.TypeInt, BITS[dtype], int(kind == "i"))

    def pointer_type(self, storage: int, type_id: int) -> int:
        """Return the type id of a pointer."""
        return self.declare_global(Op.TypePointer, storage, type_id)

    def struct_type(self, members: Sequence[int], offsets: Sequence[int]) -> int:
        """Declare a block with its byte offsets; never interned, because decorations belong to it."""
        identifier = self.new_id()
        self.globals += (Op.TypeStruct | (len(members) + 2) << 16, identifier, *members)
        self.decorate(identifier, Decoration.Block)
        for index, offset in enumerate(offsets):
            self.decorations += (Op.MemberDecorate | 5 << 16, identifier, index, Decoration.Offset, offset)
        return identifier

    def decorate(self, identifier: int, decoration: int, *literals: int) -> None:
        """Append a decoration."""
        self.decorations += (Op.Decorate | (len(literals) + 3) << 16, identifier, decoration, *literals)

    def name(self, identifier: int, text: str) -> None:
        """Give an id a name for people."""
        words = text_words(text)
        self.names += (Op.Name | (len(words) + 2) << 16, identifier, *words)

    def global_variable(self, storage: int, type_id: int) -> int:
        """Declare a variable outside functions and list it in the entry point's interface."""
        identifier = self.new_id()
        pointer = self.pointer_type(storage, type_id)
        self.globals += (Op.Variable | 4 << 16, pointer, identifier, storage)
        self.interface.append(identifier)
        return identifier

    # Constants

    def const(self, dtype: Dtype, number: Number | Sequence[Number]) -> Value:
        """Return a constant; one number fills a vector or matrix. Integers may be given signed or unsigned.

        Raises:
            ShaderError: the number has no exact place in an integer or bool dtype.
        """
        if number.__class__ in _QUICK and (found := self.constants.get((dtype, number))) is not None:
            return found
        if isinstance(number, Sequence):
            return self._composite(dtype, [self.const(dtype[0], part) for part in number], None)
        if isinstance(dtype, tuple):
            return self._composite(dtype, [self.const(dtype[0], number)] * (dtype[1] if len(dtype) == 2 else 1), number)
        number = exact_number(dtype, number)
        words = encode(dtype, number) if dtype != "bool" else (int(number),)
        # Zero has two signs and NaN never equals itself, so these floats are known by their bits alone.
        key = (dtype, number) if dtype in INTEGERS or abs(number) > 0 else (dtype, ("bits", words))
        found = self.constants.get(key)
        if found is None:
            found = self.constants[key] = Value(self, self._constant(dtype, words), dtype, number)
        return found

    def _constant(self, dtype: Dtype, words: tuple[int, ...]) -> int:
        type_id = self.types[dtype]
        identifier = self.new_id()
        if dtype == "bool":
            self.globals += ((Op.ConstantTrue if words[0] else Op.ConstantFalse) | 3 << 16, type_id, identifier)
        else:
            self.globals += (Op.Constant | (len(words) + 3) << 16, type_id, identifier, *words)
        return identifier

    def _composite(self, dtype: Dtype, parts: list[Value], number: Number | None) -> Value:
        key = (dtype, tuple(part.id for part in parts))
        found = self.constants.get(key)
        if found is None:
            type_id = self.types[dtype]
            identifier = self.new_id()
            self.globals += (
                Op.ConstantComposite | (len(parts) + 3) << 16,
                type_id,
                identifier,
                *(part.id for part in parts),
            )
            found = self.constants[key] = Value(self, identifier, dtype, number)
        return found

    # Assembly

    def _forbid_contraction(self) -> None:
        """Decorate every f32 sum, difference and product, so that none is fused with another."""
        wanted = self.types["f32"]
        for function in self.functions:
            code, at = function.code, 0
            while at < len(code):
                if code[at] & 0xFFFF in _CONTRACTED and code[at + 1] == wanted:
                    self.decorate(code[at + 2], Decoration.NoContraction)
                at += code[at] >> 16

    def assemble(self, name: str, workgroup: tuple[int, int, int]) -> bytes:
        """Return the module's bytes; the first function is the entry point."""
        main = self.functions[0].id
        if self.no_contraction:
            self._forbid_contraction()
        if self.uses_vulkan_memory:
            vulkan_memory.upgrade(self)
        head: list[int] = []
        for capability in self.capabilities:
            head += (Op.Capability | 2 << 16, capability)
        for extension in self.extensions:
            _append(head, Op.Extension, *text_words(extension))
        _append(head, Op.ExtInstImport, self.glsl, *text_words("GLSL.std.450"))
        model = MemoryModel.Vulkan if self.uses_vulkan_memory else MemoryModel.GLSL450
        _append(head, Op.MemoryModel, AddressingModel.PhysicalStorageBuffer64, model)
        _append(head, Op.EntryPoint, ExecutionModel.GLCompute, main, *text_words(name), *self.interface)
        _append(head, Op.ExecutionMode, main, ExecutionMode.LocalSize, *workgroup)
        for mode in self.modes:
            _append(head, Op.ExecutionMode, main, *mode)
        for text, identifier in self.strings.items():
            _append(head, Op.String, identifier, *text_words(text))
        words = array("I", (MAGIC, VERSION, 0, self.next_id, 0))
        for section in (head, self.names, self.decorations, self.globals):
            words.extend(section)
        for function in self.functions:
            for section in (function.header, function.variables, function.entry, function.code):
                words.extend(section)
            words.append(Op.FunctionEnd | 1 << 16)
        return words.tobytes()


def _append(section: list[int], opcode: int, *words: int) -> None:
    section += (opcode | (len(words) + 1) << 16, *words)
