"""Structured control flow: loops, branches, functions.

A loop has this shape; a carry is a phi of the header, so its last value dominates what follows:

    before -> header: phis, condition, LoopMerge -> body ... -> continue: step -> header
                      `---------------------------> after
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import ShaderError
from .dtypes import Dtype, Number, dtype_text
from .grammar import FunctionControl, LoopControl, Op, SelectionControl
from .module import Function
from .values import Value

if TYPE_CHECKING:
    from .builder import Builder

Results: TypeAlias = "Sequence[Value] | Value | None"


def loop(
    builder: Builder,
    start: Value | int,
    stop: Value | int,
    step: Value | int,
    carries: Sequence[Value],
    body: Callable[[Value, list[Value]], Results],
    *,
    unroll: bool | None = None,
) -> list[Value]:
    """Run `body(index, carries) -> new carries` for index in range(start, stop, step); return the last carries.

    Args:
        builder: of the kernel.
        start: the first index; Python integers alone are u32, or i32 where one is negative.
        stop: the first index not reached.
        step: a value counts as positive; a Python integer may be negative if the dtype is signed.
        carries: values that each trip receives and renews.
        body: emits one trip; the new carries must have the dtypes of the old ones.
        unroll: ask the driver to unroll (True) or not to (False).
    """
    first, last, by = _bounds(builder, start, stop, step)
    descends = by.constant is not None and by.constant < 0
    if first.constant is not None and last.constant is not None and by.constant is not None:
        trips = len(range(int(first.constant), int(last.constant), int(by.constant)))
        if trips <= 1:
            return _results(body(first, list(carries)), carries, "loop") if trips else list(carries)

    def condition(values: list[Value]) -> Value:
        return values[0] > last if descends else values[0] < last

    def advance(values: list[Value]) -> list[Value]:
        new = _results(body(values[0], values[1:]), carries, "loop")
        return [values[0], *new]

    return _iterate(builder, [first, *carries], condition, advance, by, unroll)[1:]


def while_loop(
    builder: Builder,
    condition: Callable[[list[Value]], Value],
    body: Callable[[list[Value]], Results],
    carries: Sequence[Value],
    *,
    unroll: bool | None = None,
) -> list[Value]:
    """Run `body(carries) -> new carries` as long as `condition(carries)` holds; return the last carries."""
    return _iterate(
        builder, carries, condition, lambda values: _results(body(values), carries, "while_loop"), None, unroll
    )


def _iterate(
    builder: Builder,
    carries: Sequence[Value],
    condition: Callable[[list[Value]], Value],
    advance: Callable[[list[Value]], list[Value]],
    step: Value | None,
    unroll: bool | None,
) -> list[Value]:
    """Emit the loop; with a `step`, the first carry grows by it in the continue block."""
    header, check, inside, again, after = (builder.new_id() for _ in range(5))
    before, code = builder.block, builder.code
    builder.terminate(Op.Branch, header)
    mark = len(builder.log)
    builder.begin_block(header)
    phis, holes = [], []
    for carry in carries:
        phis.append(builder.emit(Op.Phi, carry.dtype, carry.id, before, 0, again))
        holes.append(len(code) - 2)
    hint = LoopControl.None_ if unroll is None else LoopControl.Unroll if unroll else LoopControl.DontUnroll
    builder.perform(Op.LoopMerge, after, again, hint)
    builder.terminate(Op.Branch, check)
    builder.begin_block(check)
    builder.terminate(Op.BranchConditional, condition(list(phis)).id, inside, after)
    builder.begin_block(inside)
    new = advance(list(phis))
    if not builder.terminated:
        builder.terminate(Op.Branch, again)
    builder.begin_block(again)
    if step is not None:
        new[0] = phis[0] + step
    builder.terminate(Op.Branch, header)
    for hole, value in zip(holes, new, strict=True):
        code[hole] = value.id
    builder.forget(mark)
    builder.begin_block(after)
    return phis


def _bounds(builder: Builder, *bounds: Value | int) -> list[Value]:
    dtypes = {bound.dtype for bound in bounds if isinstance(bound, Value)}
    if len(dtypes) > 1:
        raise ShaderError(
            "A loop's start, stop and step must have one dtype.",
            got=", ".join(map(str, bounds)),
            want="one integer dtype",
            fix="convert them with b.convert.",
        )
    negative = any(bound < 0 for bound in bounds if isinstance(bound, int))
    dtype = dtypes.pop() if dtypes else "i32" if negative else "u32"
    if negative and dtype not in ("i32", "i64"):
        raise ShaderError(
            "A loop that counts below zero or down must have a signed index.",
            got=f"{', '.join(map(str, bounds))} of {dtype_text(dtype)}",
            want="i32 or i64",
            fix="convert the bounds to i32.",
        )
    return [bound if isinstance(bound, Value) else builder.const(dtype, bound) for bound in bounds]


def _results(results: Results, expected: Sequence[Value] | None, construct: str) -> list[Value]:
    """Return a body's results as a list, checked against the dtypes that must come out."""
    values = [] if results is None else [results] if isinstance(results, Value) else list(results)
    if expected is not None and [value.dtype for value in values] != [value.dtype for value in expected]:
        raise ShaderError(
            f"Every path of a {construct} must give values of the same dtypes.",
            got=", ".join(dtype_text(value.dtype) for value in values) or "nothing",
            want=", ".join(dtype_text(value.dtype) for value in expected) or "nothing",
            fix="return the same list of dtypes from each function.",
        )
    return values


def when(builder: Builder, condition: Value | bool, body: Callable[[], object]) -> None:
    """Run `body()` where `condition` holds."""
    if not isinstance(condition, Value) or condition.constant is not None:
        if condition if isinstance(condition, bool) else condition.constant:
            body()
        return
    inside, after = builder.new_id(), builder.new_id()
    builder.perform(Op.SelectionMerge, after, SelectionControl.None_)
    builder.terminate(Op.BranchConditional, condition.id, inside, after)
    _arm(builder, inside, after, body)
    builder.begin_block(after)


def branch(
    builder: Builder, condition: Value | bool, then: Callable[[], Results], otherwise: Callable[[], Results]
) -> list[Value]:
    """Run one of two functions and return its values."""
    if not isinstance(condition, Value) or condition.constant is not None:
        known = condition if isinstance(condition, bool) else condition.constant
        return _results(then() if known else otherwise(), None, "branch")
    first, second, after = (builder.new_id() for _ in range(3))
    builder.perform(Op.SelectionMerge, after, SelectionControl.None_)
    builder.terminate(Op.BranchConditional, condition.id, first, second)
    return _join(builder, [(first, then), (second, otherwise)], after, "branch")


def switch(
    builder: Builder,
    selector: Value,
    cases: Mapping[int, Callable[[], Results]],
    default: Callable[[], Results],
) -> list[Value]:
    """Run the function whose number equals `selector` (i32 or u32), or `default`, and return its values."""
    if selector.constant is not None:
        return _results(cases.get(int(selector.constant), default)(), None, "switch")
    arms = [(builder.new_id(), case) for case in (default, *cases.values())]
    after = builder.new_id()
    builder.perform(Op.SelectionMerge, after, SelectionControl.None_)
    targets = [
        word for number, (label, _) in zip(cases, arms[1:], strict=True) for word in (number & 0xFFFFFFFF, label)
    ]
    builder.terminate(Op.Switch, selector.id, arms[0][0], *targets)
    return _join(builder, arms, after, "switch")


def _arm(builder: Builder, label: int, after: int, body: Callable[[], Any]) -> tuple[Any, int | None]:
    """Emit one arm; return what it gives and the block it comes from, None if it never arrives."""
    mark = len(builder.log)
    builder.begin_block(label)
    results = body()
    source = None if builder.terminated else builder.block
    if source is not None:
        builder.terminate(Op.Branch, after)
    builder.forget(mark)
    return results, source


def _join(
    builder: Builder, arms: Sequence[tuple[int, Callable[[], Results]]], after: int, construct: str
) -> list[Value]:
    arrivals: list[tuple[list[Value], int]] = []
    for label, body in arms:
        results, source = _arm(builder, label, after, body)
        if source is not None:
            expected = arrivals[0][0] if arrivals else None
            arrivals.append((_results(results, expected, construct), source))
    builder.begin_block(after)
    if not arrivals:
        builder.terminate(Op.Unreachable)
        return []
    merged = []
    for position, first in enumerate(arrivals[0][0]):
        words = [word for values, source in arrivals for word in (values[position].id, source)]
        merged.append(first if len(arrivals) == 1 else builder.emit(Op.Phi, first.dtype, *words))
    return merged


def return_(builder: Builder, value: Value | Number | None = None) -> None:
    """Leave the function; nothing may follow in this block. In the entry function the invocation ends."""
    result = builder.current.result
    if result is None:
        builder.terminate(Op.Return)
        return
    builder.terminate(Op.ReturnValue, _returned(builder, builder.current, value).id)


def _returned(builder: Builder, function: Function, value: Results | Number) -> Value:
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


class Callee:
    """A function of the kernel: call it with values, or hand it to a matrix operation."""

    def __init__(self, builder: Builder, identifier: int, result: Dtype | None, arguments: tuple[Dtype, ...]) -> None:
        self.builder = builder
        self.id = identifier
        self.result = result
        self.arguments = arguments

    def __call__(self, *values: Value | Number) -> Value | None:
        """Emit a call; return its result, or None where the function has none."""
        builder = self.builder
        passed = [
            value if isinstance(value, Value) else builder.const(dtype, value)
            for value, dtype in zip(values, self.arguments, strict=True)
        ]
        if tuple(value.dtype for value in passed) != self.arguments:
            raise ShaderError(
                "A function must be called with its argument dtypes.",
                got=", ".join(map(str, passed)),
                want=", ".join(map(dtype_text, self.arguments)),
                fix="convert the arguments with b.convert.",
            )
        words = (self.id, *(value.id for value in passed))
        if self.result is None:
            builder.typed(Op.FunctionCall, builder.types["void"], *words)
            return None
        return builder.emit(Op.FunctionCall, self.result, *words)


def function(
    builder: Builder,
    name: str,
    result: Dtype | None,
    arguments: Sequence[Dtype],
    body: Callable[..., Results | Number],
) -> Callee:
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
    return Callee(builder, part.id, result, tuple(arguments))
