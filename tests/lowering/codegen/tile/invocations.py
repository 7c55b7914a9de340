"""One invocation of a kernel, run instruction by instruction: a generator that stops where it meets others.

It covers what tile kernels over numbers of 8 to 32 bits are made of, with buffers reached by binding. Values are Python
booleans, unsigned integers, NumPy floats and tuples of these; every access to memory is told to a `Watcher`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from shaders.spirv.grammar import GLSL, BuiltIn, Decoration, Op, StorageClass
from shaders.spirv.text import instructions


class Type(NamedTuple):
    """A type: `kind` is bool, int, float, vector, array, struct, pointer or void; `bits` are of one component."""

    kind: str
    bits: int = 0
    is_signed: bool = False
    members: tuple[Any, ...] = ()
    extent: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes in memory, without padding."""
        if self.kind in ("vector", "array"):
            return self.extent * self.members[0].nbytes
        return self.bits // 8


class Pointer(NamedTuple):
    """A place in memory."""

    memory: str
    offset: int
    type: Type


class Meeting(NamedTuple):
    """Where an invocation waits: `scope` is workgroup or subgroup, `payload` what it brings."""

    scope: str
    place: int
    payload: Any


class Watcher(Protocol):
    """Is told of every access; `value` is the bytes that are read or written."""

    def access(self, memory: str, offset: int, value: bytes, *, writes: bool, atomic: bool) -> None:
        """Note an access of the running invocation."""
        ...


@dataclass
class Module:
    """A decoded kernel."""

    code: list[tuple[int, list[int]]] = field(default_factory=list)
    labels: dict[int, int] = field(default_factory=dict)
    types: dict[int, Type] = field(default_factory=dict)
    constants: dict[int, Any] = field(default_factory=dict)
    type_of: dict[int, Type] = field(default_factory=dict)
    variables: dict[int, Pointer] = field(default_factory=dict)
    bindings: dict[str, int] = field(default_factory=dict)
    glsl: int = 0
    entry: int = 0


def decode(words: bytes) -> Module:
    """Return a kernel's code and tables."""
    module, decorations, in_function = Module(), dict[tuple[int, int], int](), False
    for opcode, operands in instructions(words):
        if opcode == Op.Decorate and len(operands) > 2:
            decorations[operands[0], operands[1]] = operands[2]
        elif opcode == Op.Function:
            in_function, module.entry = True, len(module.code)
        elif in_function:
            if opcode == Op.Label:
                module.labels[operands[0]] = len(module.code)
            if opcode in SIGNED or opcode in ANY or opcode in _TYPED:
                module.type_of[operands[1]] = module.types[operands[0]]
            module.code.append((opcode, operands))
        else:
            _declare(module, opcode, operands, decorations)
    return module


def _declare(module: Module, opcode: int, operands: list[int], decorations: Mapping[tuple[int, int], int]) -> None:
    types = module.types
    if opcode == Op.ExtInstImport:
        module.glsl = operands[0]
    elif opcode in _TYPES:
        types[operands[0]] = _TYPES[opcode](module, operands)
    elif opcode in (Op.ConstantTrue, Op.ConstantFalse):
        _constant(module, operands, opcode == Op.ConstantTrue)
    elif opcode == Op.Constant:
        raw = b"".join(word.to_bytes(4, "little") for word in operands[2:])
        _constant(module, operands, unpack(types[operands[0]], raw))
    elif opcode == Op.ConstantComposite:
        _constant(module, operands, tuple(module.constants[each] for each in operands[2:]))
    elif opcode == Op.Variable:
        _variable(module, operands, decorations)


_TYPES: dict[int, Callable[[Module, list[int]], Type]] = {
    Op.TypeVoid: lambda module, a: Type("void"),
    Op.TypeBool: lambda module, a: Type("bool", 8),
    Op.TypeInt: lambda module, a: Type("int", a[1], bool(a[2])),
    Op.TypeFloat: lambda module, a: Type("float", a[1]),
    Op.TypeVector: lambda module, a: Type("vector", members=(module.types[a[1]],), extent=a[2]),
    Op.TypeArray: lambda module, a: Type("array", members=(module.types[a[1]],), extent=module.constants[a[2]]),
    Op.TypeRuntimeArray: lambda module, a: Type("array", members=(module.types[a[1]],)),
    Op.TypeStruct: lambda module, a: Type("struct", members=tuple(module.types[each] for each in a[1:])),
    Op.TypePointer: lambda module, a: Type("pointer", a[1], members=(module.types[a[2]],)),
}


def _constant(module: Module, operands: list[int], value: Any) -> None:
    module.constants[operands[1]] = value
    module.type_of[operands[1]] = module.types[operands[0]]


def _variable(module: Module, operands: list[int], decorations: Mapping[tuple[int, int], int]) -> None:
    pointer = module.types[operands[0]]
    built_in = decorations.get((operands[1], Decoration.BuiltIn))
    binding = decorations.get((operands[1], Decoration.Binding))
    name = {StorageClass.Workgroup: f"shared {operands[1]}", StorageClass.PushConstant: "push"}.get(pointer.bits, "")
    if built_in is not None:
        name = f"builtin {built_in}"
    elif binding is not None:
        name = f"buffer {binding}"
    module.variables[operands[1]] = Pointer(name, 0, pointer.members[0])


# -- numbers -----------------------------------------------------------------------------------------------------------

_FLOATS = {16: np.float16, 32: np.float32, 64: np.float64}


def pack(type_: Type, value: Any) -> bytes:
    """Return a value's bytes."""
    if type_.kind == "vector":
        return b"".join(pack(type_.members[0], each) for each in value)
    if type_.kind == "float":
        return _FLOATS[type_.bits](value).tobytes()
    return int(value).to_bytes(type_.bits // 8, "little")


def unpack(type_: Type, raw: bytes) -> Any:
    """Return the value of some bytes."""
    if type_.kind == "vector":
        size = type_.members[0].nbytes
        return tuple(unpack(type_.members[0], raw[i : i + size]) for i in range(0, size * type_.extent, size))
    if type_.kind == "float":
        return np.frombuffer(raw[: type_.bits // 8], _FLOATS[type_.bits])[0]
    return int.from_bytes(raw[: type_.bits // 8], "little")


def _signed(type_: Type, value: int) -> int:
    return value - (1 << type_.bits) if value >> (type_.bits - 1) else value


def _divide(a: int, b: int) -> int:
    return a // b if b else 0


# Operations on bits as they are, or on floats.
ANY: dict[int, Callable[..., Any]] = {
    Op.IAdd: operator.add, Op.ISub: operator.sub, Op.IMul: operator.mul, Op.UDiv: _divide,
    Op.UMod: lambda a, b: a % b if b else 0, Op.FAdd: operator.add, Op.FSub: operator.sub, Op.FMul: operator.mul,
    Op.FDiv: operator.truediv, Op.FNegate: operator.neg, Op.SNegate: operator.neg, Op.Not: operator.inv,
    Op.BitwiseAnd: operator.and_, Op.BitwiseOr: operator.or_, Op.BitwiseXor: operator.xor,
    Op.ShiftLeftLogical: operator.lshift, Op.ShiftRightLogical: operator.rshift, Op.LogicalNot: operator.not_,
    Op.LogicalAnd: lambda a, b: a and b, Op.LogicalOr: lambda a, b: a or b, Op.LogicalNotEqual: operator.ne,
    Op.LogicalEqual: operator.eq, Op.IEqual: operator.eq, Op.INotEqual: operator.ne, Op.ULessThan: operator.lt,
    Op.ULessThanEqual: operator.le, Op.UGreaterThan: operator.gt, Op.UGreaterThanEqual: operator.ge,
    Op.FOrdEqual: operator.eq, Op.FOrdLessThan: operator.lt, Op.FOrdLessThanEqual: operator.le,
    Op.FOrdGreaterThan: operator.gt, Op.FOrdGreaterThanEqual: operator.ge, Op.FUnordNotEqual: operator.ne,
    Op.Select: lambda c, a, b: a if c else b, Op.ConvertUToF: float,
    Op.ConvertFToU: int, Op.ConvertFToS: int, Op.FConvert: lambda a: a, Op.UConvert: lambda a: a,
}  # fmt: skip
# Operations whose operands are signed.
SIGNED: dict[int, Callable[..., Any]] = {
    Op.SDiv: lambda a, b: int(a / b) if b else 0, Op.SLessThan: operator.lt, Op.SLessThanEqual: operator.le,
    Op.SGreaterThan: operator.gt, Op.SGreaterThanEqual: operator.ge, Op.ShiftRightArithmetic: operator.rshift,
    Op.ConvertSToF: float, Op.SConvert: lambda a: a,
}  # fmt: skip
_GLSL_NAMES = {number: name for name, number in GLSL.items()}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Fma": lambda a, b, c: np.float64(a) * np.float64(b) + np.float64(c), "Sqrt": np.sqrt, "FAbs": abs,
    "Floor": np.floor, "Ceil": np.ceil, "Trunc": np.trunc, "RoundEven": np.rint, "FMin": min, "FMax": max,
    "NMin": min, "NMax": max, "UMin": min, "UMax": max, "SMin": min, "SMax": max, "SAbs": abs,
    "InverseSqrt": lambda a: 1 / np.sqrt(a),
}  # fmt: skip
_TYPED = frozenset(
    {
        Op.Load, Op.Phi, Op.AccessChain, Op.CompositeExtract, Op.CompositeConstruct, Op.Bitcast, Op.ExtInst,
        Op.UMulExtended, Op.GroupNonUniformShuffleXor, Op.AtomicIAdd,
    }
)  # fmt: skip


def _settle(type_: Type, value: Any) -> Any:
    """Bring a result into the range of its type."""
    if type_.kind == "int":
        return int(value) & ((1 << type_.bits) - 1)
    if type_.kind == "float":
        return _FLOATS[type_.bits](value)
    return bool(value) if type_.kind == "bool" else value


# -- running -----------------------------------------------------------------------------------------------------------


class Invocation:
    """One invocation of a kernel; `run` is a generator of the places where it meets others."""

    def __init__(self, module: Module, memory: Mapping[str, bytearray], inputs: Mapping[int, Any], watcher: Watcher):
        self.module, self.memory, self.inputs, self.watcher = module, memory, inputs, watcher
        self.values: dict[int, Any] = {**module.constants, **module.variables}
        self.types = dict(module.type_of)

    def run(self) -> Generator[Meeting, Any, None]:
        """Run to the end."""
        at, before, block = self.module.entry, 0, 0
        with np.errstate(all="ignore"):
            while True:
                opcode, operands = self.module.code[at]
                at += 1
                if opcode == Op.Label:
                    before, block = block, operands[0]
                elif opcode in (Op.Branch, Op.BranchConditional, Op.Switch):
                    at = self.module.labels[self._target(opcode, operands)]
                elif opcode in (Op.Return, Op.FunctionEnd):
                    return
                elif opcode == Op.ControlBarrier:
                    yield Meeting("workgroup", at, None)
                elif opcode == Op.GroupNonUniformShuffleXor:
                    payload = (self.values[operands[3]], self.values[operands[4]])
                    self.values[operands[1]] = yield Meeting("subgroup", at, payload)
                elif opcode == Op.Phi:
                    at = self._phis(at - 1, before)
                else:
                    self._step(opcode, operands)

    def _target(self, opcode: int, operands: list[int]) -> int:
        if opcode == Op.Branch:
            return operands[0]
        if opcode == Op.BranchConditional:
            return operands[1] if self.values[operands[0]] else operands[2]
        cases = dict(zip(operands[2::2], operands[3::2], strict=True))
        return cases.get(self.values[operands[0]], operands[1])

    def _phis(self, at: int, before: int) -> int:
        """Take all phis of a block at once: they read what was there before it."""
        found: dict[int, Any] = {}
        while self.module.code[at][0] == Op.Phi:
            operands = self.module.code[at][1]
            found[operands[1]] = self.values[operands[operands.index(before, 3) - 1]]
            at += 1
        self.values.update(found)
        return at

    def _step(self, opcode: int, operands: list[int]) -> None:
        if opcode == Op.Store:
            self._store(self.values[operands[0]], self.values[operands[1]])
        elif opcode in ANY or opcode in SIGNED:
            self.values[operands[1]] = self._arithmetic(opcode, operands)
        elif opcode in _OTHERS:
            self.values[operands[1]] = _OTHERS[opcode](self, operands)
        elif opcode not in (Op.Line, Op.SelectionMerge, Op.LoopMerge):
            raise NotImplementedError(f"opcode {opcode}")

    def _bitcast(self, operands: list[int]) -> Any:
        raw = pack(self.types[operands[2]], self.values[operands[2]])
        return unpack(self.module.types[operands[0]], raw)

    def _multiply(self, operands: list[int]) -> tuple[int, int]:
        whole = self.values[operands[2]] * self.values[operands[3]]
        return whole & 0xFFFFFFFF, whole >> 32

    def _arithmetic(self, opcode: int, operands: list[int]) -> Any:
        type_, arguments = self.module.types[operands[0]], [self.values[each] for each in operands[2:]]
        if opcode in SIGNED:
            kinds = [self.types[each] for each in operands[2:]]
            arguments = [
                _signed(kind, each) if kind.kind == "int" else each for kind, each in zip(kinds, arguments, strict=True)
            ]
        function = SIGNED[opcode] if opcode in SIGNED else ANY[opcode]
        if type_.kind == "vector" and opcode != Op.Select:
            return tuple(_settle(type_.members[0], function(*each)) for each in zip(*arguments, strict=True))
        return _settle(type_, function(*arguments))

    def _function(self, operands: list[int]) -> Any:
        name, type_ = _GLSL_NAMES[operands[3]], self.module.types[operands[0]]
        arguments = [self.values[each] for each in operands[4:]]
        if name in ("SMin", "SMax", "SAbs"):
            arguments = [_signed(type_, each) for each in arguments]
        return _settle(type_, _FUNCTIONS[name](*arguments))

    def _chain(self, pointer: Pointer, indices: list[int]) -> Pointer:
        for each in indices:
            place, type_ = self.values[each], pointer.type
            if type_.kind == "struct":
                # The one member of a buffer's block, or a word of the push constants.
                offset = sum(member.nbytes for member in type_.members[:place])
                pointer = Pointer(pointer.memory, pointer.offset + offset, type_.members[place])
            else:
                size = type_.members[0].nbytes
                pointer = Pointer(pointer.memory, pointer.offset + place * size, type_.members[0])
        return pointer

    def _load(self, pointer: Pointer) -> Any:
        if pointer.memory.startswith("builtin"):
            return self.inputs[int(pointer.memory.split()[1])]
        if pointer.memory == "push":
            return 0
        end = pointer.offset + pointer.type.nbytes
        raw = bytes(self.memory[pointer.memory][pointer.offset : end])
        assert len(raw) == pointer.type.nbytes, f"read beyond {pointer.memory} at {pointer.offset}"
        self.watcher.access(pointer.memory, pointer.offset, raw, writes=False, atomic=False)
        return unpack(pointer.type, raw)

    def _store(self, pointer: Pointer, value: Any, *, atomic: bool = False) -> None:
        raw = pack(pointer.type, value)
        memory = self.memory[pointer.memory]
        assert pointer.offset + len(raw) <= len(memory), f"write beyond {pointer.memory} at {pointer.offset}"
        self.watcher.access(pointer.memory, pointer.offset, raw, writes=True, atomic=atomic)
        memory[pointer.offset : pointer.offset + len(raw)] = raw

    def _add_atomically(self, operands: list[int]) -> Any:
        pointer, type_ = self.values[operands[2]], self.module.types[operands[0]]
        raw = bytes(self.memory[pointer.memory][pointer.offset : pointer.offset + type_.nbytes])
        before = unpack(type_, raw)
        self._store(pointer, _settle(type_, before + self.values[operands[5]]), atomic=True)
        return before


_OTHERS: dict[int, Callable[[Invocation, list[int]], Any]] = {
    Op.Load: lambda run, a: run._load(run.values[a[2]]),
    Op.AccessChain: lambda run, a: run._chain(run.values[a[2]], a[3:]),
    Op.ExtInst: Invocation._function,
    Op.CompositeExtract: lambda run, a: run.values[a[2]][a[3]],
    Op.CompositeConstruct: lambda run, a: tuple(run.values[each] for each in a[2:]),
    Op.Bitcast: Invocation._bitcast,
    Op.UMulExtended: Invocation._multiply,
    Op.AtomicIAdd: Invocation._add_atomically,
}


def inputs_of(number: int, group: int, workgroup: int, subgroup: int) -> dict[int, Any]:
    """Return the builtin inputs of an invocation."""
    return {
        BuiltIn.WorkgroupId: (group, 0, 0),
        BuiltIn.LocalInvocationId: (number, 0, 0),
        BuiltIn.LocalInvocationIndex: number,
        BuiltIn.SubgroupId: number // subgroup,
        BuiltIn.NumSubgroups: workgroup // subgroup,
        BuiltIn.SubgroupSize: subgroup,
        BuiltIn.SubgroupLocalInvocationId: number % subgroup,
        BuiltIn.GlobalInvocationId: (group * workgroup + number, 0, 0),
    }
