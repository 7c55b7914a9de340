"""Typed values with operators; each operator appends one instruction unless it folds or was computed before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..errors import ShaderError
from . import fold
from .dtypes import KIND, Dtype, MatrixType, Number, OpcodeTable, dtype_text, with_element
from .grammar import Op

if TYPE_CHECKING:
    from .module import Module

Operand = "Value | Number"


class Value:
    """A result of the kernel: an id with a dtype, and the number it is known to be, if it is a constant.

    Operands have one dtype; a Python number takes it, and a scalar meets a vector of its dtype by repetition. Integers
    wrap; `/` and `//` of integers round toward zero and `%` has the sign of the dividend, for floats too; `>>` copies
    the sign of signed integers. Division by zero and shifts by the width or more are undefined for integers.
    """

    __slots__ = ("builder", "constant", "dtype", "id")

    def __init__(self, builder: Module, identifier: int, dtype: Dtype, constant: Number | None = None) -> None:
        self.builder = builder
        self.id = identifier
        self.dtype = dtype
        self.constant = constant

    def __repr__(self) -> str:
        known = "" if self.constant is None else f" = {self.constant}"
        return f"%{self.id} {dtype_text(self.dtype)}{known}"

    def __bool__(self) -> bool:
        raise ShaderError(
            "A value of a kernel has no truth while the kernel is written.",
            got=self,
            want="a Python bool",
            fix="use b.when, b.branch or b.select.",
        )

    def __getitem__(self, index: Value | int) -> Value:
        """Return one component of a vector; a component outside the vector is undefined."""
        dtype = self.dtype
        if not isinstance(dtype, tuple) or len(dtype) != 2:
            raise ShaderError("Only a vector has components.", got=self, want="a vector", fix="index a buffer instead.")
        if isinstance(index, Value):
            return self.builder.pure(Op.VectorExtractDynamic, dtype[0], self.id, index.id)
        if not 0 <= index < dtype[1]:
            raise ShaderError(
                "A component must exist.",
                got=f"component {index} of {self}",
                want=f"0 to {dtype[1] - 1}",
                fix="pass one.",
            )
        return self.builder.pure(Op.CompositeExtract, dtype[0], self.id, index)

    def __iter__(self) -> Iterator[Value]:
        if not isinstance(self.dtype, tuple) or len(self.dtype) != 2:
            raise TypeError("only a vector has components")
        return (self[index] for index in range(self.dtype[1]))

    def __neg__(self) -> Value:
        if self.constant is not None and self.dtype in fold.SCALARS:
            return self.builder.const(self.dtype, -self.constant)
        return self.builder.pure(_NEGATE[self.dtype], self.dtype, self.id)

    def __pos__(self) -> Value:
        return self

    def __invert__(self) -> Value:
        if self.constant is not None and KIND[self.dtype] == "b":
            return self.builder.const(self.dtype, not self.constant)
        if self.constant is not None and self.dtype in fold.INTEGERS:
            return self.builder.const(self.dtype, ~int(self.constant))
        return self.builder.pure(_INVERT[self.dtype], self.dtype, self.id)

    __hash__ = object.__hash__

    if TYPE_CHECKING:

        def __add__(self, other: Value | Number) -> Value: ...
        def __radd__(self, other: Number) -> Value: ...
        def __sub__(self, other: Value | Number) -> Value: ...
        def __rsub__(self, other: Number) -> Value: ...
        def __mul__(self, other: Value | Number) -> Value: ...
        def __rmul__(self, other: Number) -> Value: ...
        def __truediv__(self, other: Value | Number) -> Value: ...
        def __rtruediv__(self, other: Number) -> Value: ...
        def __floordiv__(self, other: Value | Number) -> Value: ...
        def __rfloordiv__(self, other: Number) -> Value: ...
        def __mod__(self, other: Value | Number) -> Value: ...
        def __rmod__(self, other: Number) -> Value: ...
        def __and__(self, other: Value | Number) -> Value: ...
        def __rand__(self, other: Number) -> Value: ...
        def __or__(self, other: Value | Number) -> Value: ...
        def __ror__(self, other: Number) -> Value: ...
        def __xor__(self, other: Value | Number) -> Value: ...
        def __rxor__(self, other: Number) -> Value: ...
        def __lshift__(self, other: Value | Number) -> Value: ...
        def __rlshift__(self, other: Number) -> Value: ...
        def __rshift__(self, other: Value | Number) -> Value: ...
        def __rrshift__(self, other: Number) -> Value: ...
        def __lt__(self, other: Value | Number) -> Value: ...
        def __le__(self, other: Value | Number) -> Value: ...
        def __gt__(self, other: Value | Number) -> Value: ...
        def __ge__(self, other: Value | Number) -> Value: ...
        # A comparison is an instruction here, not a Python truth.
        def __eq__(self, other: object) -> Value: ...  # pyright: ignore[reportIncompatibleMethodOverride]
        def __ne__(self, other: object) -> Value: ...  # pyright: ignore[reportIncompatibleMethodOverride]


_NEGATE = OpcodeTable("-", f=Op.FNegate, i=Op.SNegate, u=Op.SNegate)
_INVERT = OpcodeTable("~", i=Op.Not, u=Op.Not, b=Op.LogicalNot)

ARITHMETIC = {
    "add": OpcodeTable("+", f=Op.FAdd, i=Op.IAdd, u=Op.IAdd),
    "sub": OpcodeTable("-", f=Op.FSub, i=Op.ISub, u=Op.ISub),
    "mul": OpcodeTable("*", f=Op.FMul, i=Op.IMul, u=Op.IMul),
    "truediv": OpcodeTable("/", f=Op.FDiv, i=Op.SDiv, u=Op.UDiv),
    "floordiv": OpcodeTable("//", i=Op.SDiv, u=Op.UDiv),
    "mod": OpcodeTable("%", f=Op.FRem, i=Op.SRem, u=Op.UMod),
    "and": OpcodeTable("&", i=Op.BitwiseAnd, u=Op.BitwiseAnd, b=Op.LogicalAnd),
    "or": OpcodeTable("|", i=Op.BitwiseOr, u=Op.BitwiseOr, b=Op.LogicalOr),
    "xor": OpcodeTable("^", i=Op.BitwiseXor, u=Op.BitwiseXor, b=Op.LogicalNotEqual),
    "lshift": OpcodeTable("<<", i=Op.ShiftLeftLogical, u=Op.ShiftLeftLogical),
    "rshift": OpcodeTable(">>", i=Op.ShiftRightArithmetic, u=Op.ShiftRightLogical),
}

# Ordered, so that a comparison with NaN is false; only != is unordered, so that NaN differs from itself.
COMPARISONS = {
    "lt": OpcodeTable("<", f=Op.FOrdLessThan, i=Op.SLessThan, u=Op.ULessThan),
    "le": OpcodeTable("<=", f=Op.FOrdLessThanEqual, i=Op.SLessThanEqual, u=Op.ULessThanEqual),
    "gt": OpcodeTable(">", f=Op.FOrdGreaterThan, i=Op.SGreaterThan, u=Op.UGreaterThan),
    "ge": OpcodeTable(">=", f=Op.FOrdGreaterThanEqual, i=Op.SGreaterThanEqual, u=Op.UGreaterThanEqual),
    "eq": OpcodeTable("==", f=Op.FOrdEqual, i=Op.IEqual, u=Op.IEqual, b=Op.LogicalEqual),
    "ne": OpcodeTable("!=", f=Op.FUnordNotEqual, i=Op.INotEqual, u=Op.INotEqual, b=Op.LogicalNotEqual),
}

_SHIFTS = frozenset({"lshift", "rshift"})


def match(symbol: str, left: Value, right: Value) -> tuple[Value, Value]:
    """Splat a scalar to the other operand's vector, or raise because dtypes are never mixed silently."""
    for scalar, vector, swapped in ((left, right, False), (right, left, True)):
        if isinstance(vector.dtype, tuple) and len(vector.dtype) == 2 and vector.dtype[0] == scalar.dtype:
            splat = scalar.builder.pure(Op.CompositeConstruct, vector.dtype, *[scalar.id] * vector.dtype[1])
            return (vector, splat) if swapped else (splat, vector)
    raise ShaderError(
        f"Operation {symbol} must have operands of one dtype.",
        got=f"{left} and {right}",
        want=f"two of {dtype_text(left.dtype)}",
        fix="convert one operand with b.convert.",
    )


def _arithmetic(name: str) -> tuple[Callable[[Value, Any], Value], Callable[[Value, Any], Value]]:
    opcodes, fold_known, is_shift, is_product = ARITHMETIC[name], fold.RULES[name], name in _SHIFTS, name == "mul"

    def forward(left: Value, right: Any) -> Value:
        builder = left.builder
        dtype = left.dtype
        if right.__class__ is not Value:
            right = (
                builder.const(dtype, right)
                if not (is_product and isinstance(dtype, MatrixType))
                else builder.const(dtype.dtype, right)
            )
        if right.dtype != dtype and not is_shift:
            if is_product and isinstance(dtype, MatrixType) and right.dtype == dtype.dtype:
                return builder.pure(Op.MatrixTimesScalar, dtype, left.id, right.id)
            left, right = match(opcodes.name, left, right)
            dtype = left.dtype
        opcode = opcodes[dtype]
        if left.constant is not None or right.constant is not None:
            folded = fold_known(left, right)
            if folded is not None:
                return folded
        return builder.binary(opcode, dtype, left.id, right.id)

    def backward(right: Value, left: Any) -> Value:
        return forward(right.builder.const(right.dtype, left), right)

    return forward, backward


def _comparison(name: str) -> Callable[[Value, Any], Value]:
    opcodes, compare = COMPARISONS[name], fold.COMPARISONS[name]

    def forward(left: Value, right: Any) -> Value:
        builder = left.builder
        if right.__class__ is not Value:
            right = builder.const(left.dtype, right)
        if right.dtype != left.dtype:
            left, right = match(opcodes.name, left, right)
        dtype = left.dtype
        if left.constant is not None and right.constant is not None and dtype in fold.FOLDED:
            return builder.const("bool", compare(left.constant, right.constant))
        builder.types[dtype]  # arithmetic on a 16-bit float needs its capability even where the result is a bool
        return builder.binary(opcodes[dtype], with_element(dtype, "bool"), left.id, right.id)

    return forward


for _name in ARITHMETIC:
    _forward, _backward = _arithmetic(_name)
    setattr(Value, f"__{_name}__", _forward)
    setattr(Value, f"__r{_name}__", _backward)
for _name in COMPARISONS:
    setattr(Value, f"__{_name}__", _comparison(_name))
