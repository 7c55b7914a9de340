"""Mathematical functions, selections and bit operations on values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, overload

from ..errors import ShaderError
from .dtypes import BITS, KIND, Dtype, Number, dtype_text, element, with_element
from .grammar import GLSL, Capability, Op, PackedVectorFormat
from .values import Value, match

if TYPE_CHECKING:
    from .builder import Builder


def _snake(name: str) -> str:
    return "".join(
        "_" + letter.lower() if letter.isupper() and index > 1 else letter.lower() for index, letter in enumerate(name)
    )


FUNCTIONS = {_snake(name): name for name in GLSL}
"""Names of GLSL.std.450 in our spelling: inverse_sqrt, round_even, fmin, …"""
_BY_KIND = {
    "find_msb": {"i": "FindSMsb", "u": "FindUMsb"},
    "find_lsb": {"i": "FindILsb", "u": "FindILsb"},
    "abs": {"f": "FAbs", "i": "SAbs"},
    "sign": {"f": "FSign", "i": "SSign"},
    "min": {"f": "FMin", "i": "SMin", "u": "UMin"},
    "max": {"f": "FMax", "i": "SMax", "u": "UMax"},
    "clamp": {"f": "FClamp", "i": "SClamp", "u": "UClamp"},
}
# The extended set defines these for 16-bit and 32-bit floats alone.
_NARROW = frozenset(
    "sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh atan2 pow exp log exp2 log2 radians degrees".split()
)
_WIDE_BITS = frozenset({"find_msb", "find_lsb"})


@overload
def math(  # pyright: ignore[reportOverlappingOverload]  # these two names are the exceptions among all names
    builder: Builder, name: Literal["frexp", "modf"], *operands: Value | Number
) -> tuple[Value, Value]: ...
@overload
def math(builder: Builder, name: str, *operands: Value | Number) -> Value: ...
def math(builder: Builder, name: str, *operands: Value | Number) -> Value | tuple[Value, Value]:
    """Apply a function of GLSL.std.450; `frexp` and `modf` return a pair.

    Precision is the driver's (Vulkan's table of ulps). `tanh` of large arguments is NaN on some drivers, and `fma` may
    be slower than a product and a sum; `fmin` and `fmax` leave NaN to the driver, `nmin` and `nmax` return the other
    operand.
    """
    first = next((operand for operand in operands if isinstance(operand, Value)), None)
    if first is None or (name not in FUNCTIONS and name not in _BY_KIND):
        raise ShaderError(
            "A mathematical function must be known and take values.",
            got=f"{name}({', '.join(map(str, operands))})",
            want=", ".join(sorted({*FUNCTIONS, *_BY_KIND})),
            fix="use one of these names.",
        )
    values = [operand if isinstance(operand, Value) else builder.const(first.dtype, operand) for operand in operands]
    _check_operands(name, values)
    if name in ("frexp", "modf"):
        return _split(builder, name, values[0])
    if name in _BY_KIND:
        kinds = _BY_KIND[name]
        instruction = kinds.get(KIND[first.dtype])
        if instruction is None:
            raise _wrong_operand(name, first, "another kind of number")
    else:
        instruction = FUNCTIONS[name]
    dtype: Dtype = first.dtype
    return builder.extended(instruction, dtype, *(value.id for value in values))


def _check_operands(name: str, values: Sequence[Value]) -> None:
    first = values[0]
    scalar = element(first.dtype)
    if name in _NARROW and scalar not in ("f16", "f32"):
        raise _wrong_operand(name, first, "f16 or f32")
    if name in _WIDE_BITS and BITS[scalar] != 32:
        raise _wrong_operand(name, first, "32-bit integers")
    for value in values[1:]:
        if value.dtype != first.dtype and name != "ldexp":
            match(name, first, value)
            raise _wrong_operand(name, value, dtype_text(first.dtype))


def _wrong_operand(name: str, value: Value, want: str) -> ShaderError:
    return ShaderError(
        f"Function {name} must have operands it is defined for.",
        got=value,
        want=want,
        fix="convert the operand with b.convert, or write the function out of simpler ones.",
    )


def _split(builder: Builder, name: str, value: Value) -> tuple[Value, Value]:
    second = with_element(value.dtype, "i32") if name == "frexp" else value.dtype
    pair = builder.declare_global(Op.TypeStruct, builder.types[value.dtype], builder.types[second])
    instruction = GLSL["FrexpStruct" if name == "frexp" else "ModfStruct"]
    both = builder.typed(Op.ExtInst, pair, builder.glsl, instruction, value.id)
    return (
        builder.emit(Op.CompositeExtract, value.dtype, both, 0),
        builder.emit(Op.CompositeExtract, second, both, 1),
    )


def minimum(builder: Builder, left: Value | Number, right: Value | Number) -> Value:
    """Return the smaller operand; with a NaN the driver chooses."""
    return _extreme(builder, "min", left, right)


def maximum(builder: Builder, left: Value | Number, right: Value | Number) -> Value:
    """Return the larger operand; with a NaN the driver chooses."""
    return _extreme(builder, "max", left, right)


def _extreme(builder: Builder, name: str, left: Value | Number, right: Value | Number) -> Value:
    left, right = _pair(builder, name, left, right)
    if left.dtype != right.dtype:
        left, right = match(name, left, right)
    if left.constant is not None and right.constant is not None and KIND[left.dtype] in "iu":
        return left if (left.constant < right.constant) == (name == "min") else right
    return builder.extended(_BY_KIND[name][KIND[left.dtype]], left.dtype, left.id, right.id)


def _pair(builder: Builder, name: str, left: Value | Number, right: Value | Number) -> tuple[Value, Value]:
    """Give a Python number the dtype of the other operand."""
    if isinstance(left, Value):
        return left, right if isinstance(right, Value) else builder.const(left.dtype, right)
    if isinstance(right, Value):
        return builder.const(right.dtype, left), right
    raise ShaderError(
        f"One side of a {name} must be a value.",
        got=f"{left} and {right}",
        want="a value, whose dtype the number takes",
        fix="wrap one number with b.const.",
    )


def select(builder: Builder, condition: Value, chosen: Value | Number, otherwise: Value | Number) -> Value:
    """Return `chosen` where `condition` holds, else `otherwise`; a scalar condition also picks whole vectors."""
    chosen, otherwise = _pair(builder, "select", chosen, otherwise)
    if condition.constant is not None:
        return chosen if condition.constant else otherwise
    if chosen.dtype != otherwise.dtype:
        chosen, otherwise = match("select", chosen, otherwise)
    if chosen.id == otherwise.id:
        return chosen
    return builder.pure(Op.Select, chosen.dtype, condition.id, chosen.id, otherwise.id)


def logical_and(builder: Builder, left: Value, right: Value) -> Value:
    """Return whether both bools hold."""
    return left & right


def logical_or(builder: Builder, left: Value, right: Value) -> Value:
    """Return whether one of two bools holds."""
    return left | right


def logical_not(builder: Builder, value: Value) -> Value:
    """Return whether a bool does not hold."""
    return ~value


def is_nan(builder: Builder, value: Value) -> Value:
    """Return whether a float is NaN."""
    return _classify(builder, Op.IsNan, value)


def is_inf(builder: Builder, value: Value) -> Value:
    """Return whether a float is infinite."""
    return _classify(builder, Op.IsInf, value)


def _classify(builder: Builder, opcode: int, value: Value) -> Value:
    if KIND[value.dtype] != "f":
        raise _wrong_operand("is_nan or is_inf", value, "a float")
    builder.types[value.dtype]  # declares the capability of a 16-bit float
    return builder.pure(opcode, with_element(value.dtype, "bool"), value.id)


def bit_count(builder: Builder, value: Value) -> Value:
    """Return how many bits of a 32-bit integer are set."""
    return _bits(builder, Op.BitCount, "bit_count", value)


def bit_reverse(builder: Builder, value: Value) -> Value:
    """Return a 32-bit integer with its bits in reverse order."""
    return _bits(builder, Op.BitReverse, "bit_reverse", value)


def _bits(builder: Builder, opcode: int, name: str, value: Value) -> Value:
    if KIND[value.dtype] not in "iu" or BITS[element(value.dtype)] != 32:
        raise _wrong_operand(name, value, "a 32-bit integer")
    return builder.pure(opcode, value.dtype, value.id)


def umul_extended(builder: Builder, left: Value, right: Value | Number) -> tuple[Value, Value]:
    """Return the low and the high u32 of the 64-bit product of two u32."""
    right = right if isinstance(right, Value) else builder.const(left.dtype, right)
    if left.dtype != "u32" or right.dtype != "u32":
        raise _wrong_operand("umul_extended", left, "u32")
    pair = builder.declare_global(Op.TypeStruct, builder.types["u32"], builder.types["u32"])
    both = builder.typed(Op.UMulExtended, pair, left.id, right.id)
    return builder.emit(Op.CompositeExtract, "u32", both, 0), builder.emit(Op.CompositeExtract, "u32", both, 1)


def vector(builder: Builder, parts: Sequence[Value]) -> Value:
    """Return a vector of 2 to 4 scalars of one dtype."""
    dtype = parts[0].dtype
    if not isinstance(dtype, str) or any(part.dtype != dtype for part in parts) or not 2 <= len(parts) <= 4:
        raise ShaderError(
            "A vector must have 2 to 4 scalars of one dtype.",
            got=", ".join(map(str, parts)),
            want="f32, f32, …",
            fix="convert the parts with b.convert.",
        )
    return builder.pure(Op.CompositeConstruct, (dtype, len(parts)), *(part.id for part in parts))


def dot(builder: Builder, left: Value, right: Value) -> Value:
    """Return the inner product of two float vectors."""
    if left.dtype != right.dtype or KIND[left.dtype] != "f":
        raise _wrong_operand("dot", right, f"a float vector like {left}")
    return builder.pure(Op.Dot, element(left.dtype), left.id, right.id)


def dot_packed(builder: Builder, left: Value, right: Value, *, signed: bool) -> Value:
    """Return the inner product of four 8-bit integers packed in each of two u32, as i32 or u32."""
    if left.dtype != "u32" or right.dtype != "u32":
        raise _wrong_operand("dot_packed", left, "u32")
    for capability in (Capability.DotProduct, Capability.DotProductInput4x8BitPacked):
        builder.require(capability)
    packed = PackedVectorFormat.PackedVectorFormat4x8Bit
    return builder.pure(Op.SDot if signed else Op.UDot, "i32" if signed else "u32", left.id, right.id, packed)
