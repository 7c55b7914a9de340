"""Words as readable assembly, in the notation of spirv-dis; what this room does not emit is printed as numbers."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence

from . import grammar
from .dtypes import BITS, FLOATS, INTEGERS, wrap
from .grammar import GLSL, MAGIC, SIGNATURES, Op

_ENUMS = {
    "D": grammar.Decoration,
    "C": grammar.Capability,
    "E": grammar.ExecutionModel,
    "X": grammar.ExecutionMode,
    "A": grammar.AddressingModel,
    "M": grammar.MemoryModel,
    "S": grammar.StorageClass,
    "G": grammar.GroupOperation,
    "P": grammar.FPEncoding,
    "V": grammar.PackedVectorFormat,
}
_MASKS = {
    "L": grammar.LoopControl,
    "Z": grammar.SelectionControl,
    "F": grammar.FunctionControl,
    "Y": grammar.MemoryAccess,
    "O": grammar.CooperativeMatrixOperands,
    "R": grammar.CooperativeMatrixReduce,
    "T": grammar.TensorAddressingOperands,
}
# Bits of a mask that bring an operand: an id for these, a number for Aligned.
_MASK_IDS = {"Y": grammar.MemoryAccess.MakePointerAvailable | grammar.MemoryAccess.MakePointerVisible, "T": 1}
_GLSL_NAMES = {number: name for name, number in GLSL.items()}
_RESULT_COLUMN = 12


def _names(enum: type) -> dict[int, str]:
    spelled = {"None_": "None", "TwoByTwo": "2x2"}
    return {value: spelled.get(name, name) for name, value in vars(enum).items() if isinstance(value, int)}


_ENUM_NAMES = {letter: _names(enum) for letter, enum in (_ENUMS | _MASKS).items()}


class _Reader:
    """Reads the operands of one instruction."""

    def __init__(self, words: Sequence[int], names: dict[int, str]) -> None:
        self.words = words
        self.names = names
        self.at = 0

    @property
    def more(self) -> bool:
        return self.at < len(self.words)

    def word(self) -> int:
        self.at += 1
        return self.words[self.at - 1]

    def id(self) -> str:
        number = self.word()
        return "%" + self.names.get(number, str(number))

    def string(self) -> str:
        data = b""
        while b"\0" not in data:
            data += struct.pack("<I", self.word())
        return '"' + data.split(b"\0")[0].decode() + '"'

    def rest(self) -> list[str]:
        return [str(self.word()) for _ in range(len(self.words) - self.at)]


def instructions(words: bytes) -> Iterator[tuple[int, list[int]]]:
    """Yield opcode and operand words of each instruction of a module."""
    code = memoryview(words).cast("I")
    assert code[0] == MAGIC, "not SPIR-V of this byte order"
    at = 5
    while at < len(code):
        length = code[at] >> 16
        yield code[at] & 0xFFFF, list(code[at + 1 : at + length])
        at += length


def disassemble(words: bytes) -> str:
    """Return one line an instruction; ids that have a name print it, the others their number."""
    names = _id_names(words)
    types: dict[int, str] = {}
    lines = []
    for opcode, operands in instructions(words):
        _name_type_or_constant(opcode, operands, types, names)
        lines.append(_line(opcode, _Reader(operands, names), types))
    return "\n".join(lines) + "\n"


def _name_type_or_constant(opcode: int, operands: list[int], types: dict[int, str], names: dict[int, str]) -> None:
    """Name types as the builder does (f32, u32x4) and scalar constants by type and number (u32_7)."""
    text = ""
    if opcode in (Op.TypeVoid, Op.TypeBool):
        text = "void" if opcode == Op.TypeVoid else "bool"
    elif opcode == Op.TypeFloat:
        text = f"bf{operands[1]}" if len(operands) > 2 else f"f{operands[1]}"
    elif opcode == Op.TypeInt:
        text = f"{'i' if operands[2] else 'u'}{operands[1]}"
    elif opcode == Op.TypeVector and operands[1] in types:
        text = f"{types[operands[1]]}x{operands[2]}"
    elif opcode in (Op.ConstantTrue, Op.ConstantFalse):
        text = "true" if opcode == Op.ConstantTrue else "false"
    elif opcode == Op.Constant and operands[0] in types:
        literal = _literal(_Reader(operands[2:], names), types[operands[0]])
        text = f"{types[operands[0]]}_{literal}".replace("-", "n").replace(".", "_").replace("+", "")
    if text:
        is_constant = opcode in (Op.Constant, Op.ConstantTrue, Op.ConstantFalse)
        identifier = operands[1] if is_constant else operands[0]
        names.setdefault(identifier, text)
        if not is_constant:
            types[identifier] = text


def _id_names(words: bytes) -> dict[int, str]:
    """Return the names of OpName, made distinct by their id where two things share one."""
    names: dict[int, str] = {}
    for opcode, operands in instructions(words):
        if opcode == Op.Name:
            reader = _Reader(operands[1:], {})
            text = re.sub(r"\W", "_", reader.string()[1:-1])
            names[operands[0]] = text if text not in names.values() else f"{text}_{operands[0]}"
    return names


def _line(opcode: int, reader: _Reader, types: dict[int, str]) -> str:
    name, signature = SIGNATURES.get(opcode, (str(opcode), ""))
    result, parts, type_id = "", [], 0
    for letter, repeats in _operands(signature):
        while reader.more:
            if letter == "r":
                result = reader.id()
            elif letter == "c":
                parts.append(_literal(reader, types.get(type_id, "u32")))
            else:
                if letter == "t":
                    type_id = reader.words[reader.at]
                for part in letter.strip("()"):
                    parts += _operand(part, reader)
            if not repeats:
                break
    parts += reader.rest()
    head = f"{result:>{_RESULT_COLUMN}} = " if result else " " * (_RESULT_COLUMN + 3)
    return " ".join([f"{head}Op{name}", *parts]).rstrip()


def _operands(signature: str) -> Iterator[tuple[str, bool]]:
    """Yield the letters of a signature and whether each repeats."""
    at = 0
    while at < len(signature):
        end = signature.index(")", at) + 1 if signature[at] == "(" else at + 1
        quantifier = signature[end : end + 1]
        yield signature[at:end], quantifier == "*"
        at = end + (quantifier in ("?", "*") and bool(quantifier))


def _operand(letter: str, reader: _Reader) -> list[str]:
    if letter in "ti":
        return [reader.id()]
    if letter == "s":
        return [reader.string()]
    number = reader.word()
    if letter == "x":
        return [_GLSL_NAMES.get(number, str(number))]
    if letter == "o":
        return [SIGNATURES.get(number, (str(number), ""))[0]]
    if letter in _MASKS:
        return _mask(letter, number, reader)
    if letter not in _ENUMS:
        return [str(number)]
    text = _ENUM_NAMES[letter].get(number, str(number))
    # A builtin is the one decoration whose literal is itself an enumerant.
    return [text, _BUILTINS.get(reader.word(), "?")] if letter == "D" and text == "BuiltIn" else [text]


_BUILTINS = _names(grammar.BuiltIn)


def _mask(letter: str, number: int, reader: _Reader) -> list[str]:
    names = _ENUM_NAMES[letter]
    if number in names:
        parts = [names[number]]
    else:
        parts = ["|".join(names.get(1 << bit, hex(1 << bit)) for bit in range(32) if number >> bit & 1)]
    if letter == "Y" and number & grammar.MemoryAccess.Aligned:
        parts.append(str(reader.word()))
    ids = number & _MASK_IDS.get(letter, 0)
    return parts + [reader.id() for _ in range(ids.bit_count())]


def _literal(reader: _Reader, dtype: str) -> str:
    """Return the number that the literal words of a scalar constant stand for."""
    low = reader.word()
    width = BITS.get(dtype, 32)
    number = low | reader.word() << 32 if width == 64 and reader.more else low
    if dtype == "bf16":
        return repr(struct.unpack("<f", struct.pack("<I", number << 16))[0])
    if dtype in FLOATS:
        form = {16: ("<H", "<e"), 32: ("<I", "<f"), 64: ("<Q", "<d")}[width]
        return repr(struct.unpack(form[1], struct.pack(form[0], number))[0])
    return str(wrap(dtype, number) if dtype in INTEGERS else number)
