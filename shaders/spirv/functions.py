"""Functions of a kernel: written once, called from several places or handed to a matrix operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, overload

from ..errors import ShaderError
from .dtypes import Dtype, Number, dtype_text
from .grammar import FunctionControl, Op
from .module import Function
from .values import Value

if TYPE_CHECKING:
    from .builder import Builder


def return_(builder: Builder, value: Value | Number | None = None) -> None:
    """Leave the function; nothing may follow in this block. In the entry function the invocation ends."""
    result = builder.current.result
    if result is None:
        builder.terminate(Op.Return)
        return
    builder.terminate(Op.ReturnValue, _returned(builder, builder.current, value).id)


def _returned(builder: Builder, function: Function, value: object) -> Value:
    result = function.result
    if isinstance(value, bool | int | float) and result is not None:
        return builder.const(result, value)
    if not isinstance(value, Value) or value.dtype != result:
        raise ShaderError(
            "A function must return a value of its result dtype.",
            got=value,
            want=dtype_text(result) if result is not None else "nothing",
            fix="convert the value with b.convert.",
        )
    return value


class Procedure:
    """A function of the kernel without a result: call it with values."""

    def __init__(self, builder: Builder, identifier: int, arguments: tuple[Dtype, ...]) -> None:
        self.builder = builder
        self.id = identifier
        self.arguments = arguments

    def __call__(self, *values: Value | Number) -> None:
        """Emit a call."""
        passed = _passed(self.builder, self.arguments, values)
        self.builder.typed(Op.FunctionCall, self.builder.types["void"], self.id, *passed)


class Callee:
    """A function of the kernel with a result: call it with values, or hand it to a matrix operation."""

    def __init__(self, builder: Builder, identifier: int, arguments: tuple[Dtype, ...], result: Dtype) -> None:
        self.builder = builder
        self.id = identifier
        self.arguments = arguments
        self.result = result

    def __call__(self, *values: Value | Number) -> Value:
        """Emit a call and return its result."""
        passed = _passed(self.builder, self.arguments, values)
        return self.builder.emit(Op.FunctionCall, self.result, self.id, *passed)


def _passed(builder: Builder, arguments: tuple[Dtype, ...], values: Sequence[Value | Number]) -> list[int]:
    """Return the ids of the arguments, checked against their dtypes."""
    passed = [
        value if isinstance(value, Value) else builder.const(dtype, value)
        for value, dtype in zip(values, arguments, strict=True)
    ]
    if tuple(value.dtype for value in passed) != arguments:
        raise ShaderError(
            "A function must be called with its argument dtypes.",
            got=", ".join(map(str, passed)),
            want=", ".join(map(dtype_text, arguments)),
            fix="convert the arguments with b.convert.",
        )
    return [value.id for value in passed]


@overload
def function(
    builder: Builder, name: str, result: None, arguments: Sequence[Dtype], body: Callable[..., object]
) -> Procedure: ...
@overload
def function(
    builder: Builder, name: str, result: Dtype, arguments: Sequence[Dtype], body: Callable[..., Value | Number | None]
) -> Callee: ...
def function(
    builder: Builder,
    name: str,
    result: Dtype | None,
    arguments: Sequence[Dtype],
    body: Callable[..., Any],
) -> Procedure | Callee:
    """Define a function; `body(*arguments)` returns its result, or None where `result` is None."""
    outer = builder.current, builder.block, builder.line, builder.terminated
    part = Function(builder.new_id(), result)
    result_type = builder.types["void" if result is None else result]
    signature = builder.declare_global(Op.TypeFunction, result_type, *(builder.types[dtype] for dtype in arguments))
    part.header += (Op.Function | 5 << 16, result_type, part.id, FunctionControl.None_, signature)
    values = [Value(builder, builder.new_id(), dtype) for dtype in arguments]
    for value in values:
        part.header += (Op.FunctionParameter | 3 << 16, builder.types[value.dtype], value.id)
    builder.functions.append(part)
    builder.name(part.id, name)
    builder.line = None
    builder.enter(part)
    builder.block = builder.new_id()
    part.header += (Op.Label | 2 << 16, builder.block)
    builder.terminated = False
    returned = body(*values)
    if not builder.terminated:
        if result is None:
            builder.terminate(Op.Return)
        else:
            builder.terminate(Op.ReturnValue, _returned(builder, part, returned).id)
    function_, builder.block, builder.line, builder.terminated = outer
    builder.enter(function_)
    if result is None:
        return Procedure(builder, part.id, tuple(arguments))
    return Callee(builder, part.id, tuple(arguments), result)
