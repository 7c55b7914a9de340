"""Structured control flow: loops, branches, functions.

A loop has this shape; a carry is a phi of the header, so its last value dominates what follows:

    before -> header: phis, LoopMerge -> check: condition -> body ... -> continue: step -> header
                                                   `-----> after

Cooperative matrices are the exception: they cross blocks in variables, because that is the one form every driver's
compiler has seen (GLSL compilers write nothing else), while a phi of matrices is merely legal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import ShaderError
from .dtypes import MatrixType, dtype_text
from .grammar import LoopControl, Op, SelectionControl
from .memory import Variable
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
    rounds = _most_rounds(first, last, by)
    if first.constant is not None and last.constant is not None and by.constant is not None:
        trips = len(range(int(first.constant), int(last.constant), int(by.constant)))
        if trips <= 1:
            return _results(body(first, list(carries)), carries, "loop") if trips else list(carries)

    def condition(values: list[Value]) -> Value:
        return values[0] > last if descends else values[0] < last

    def advance(values: list[Value]) -> list[Value]:
        new = _results(body(values[0], values[1:]), carries, "loop")
        return [values[0], *new]

    return _iterate(builder, [first, *carries], condition, advance, by, unroll, rounds)[1:]


def while_loop(
    builder: Builder,
    condition: Callable[[list[Value]], Value],
    body: Callable[[list[Value]], Results],
    carries: Sequence[Value],
    *,
    unroll: bool | None = None,
    most: int = 1,
) -> list[Value]:
    """Run `body(carries) -> new carries` as long as `condition(carries)` holds; return the last carries.

    `most`: the largest number of rounds that any invocation needs, for `Builder.loop_rounds`.
    """

    def advance(values: list[Value]) -> list[Value]:
        return _results(body(values), carries, "while_loop")

    return _iterate(builder, carries, condition, advance, None, unroll, most)


def _most_rounds(first: Value, last: Value, by: Value) -> int:
    """Return how often a counted loop goes round at most: from zero where its start is not known; 1 if nothing is."""
    if last.constant is None or by.constant is None:
        return 1
    start = 0 if first.constant is None else int(first.constant)
    return len(range(start, int(last.constant), int(by.constant)))


_HINTS = {None: LoopControl.None_, True: LoopControl.Unroll, False: LoopControl.DontUnroll}


def _iterate(
    builder: Builder,
    carries: Sequence[Value],
    condition: Callable[[list[Value]], Value],
    advance: Callable[[list[Value]], list[Value]],
    step: Value | None,
    unroll: bool | None,
    rounds: int,
) -> list[Value]:
    """Emit the loop; with a `step`, the first carry grows by it in the continue block."""
    outside, builder.loop_rounds = builder.loop_rounds, 0
    header, check, inside, again, after = (builder.new_id() for _ in range(5))
    before = builder.block
    variables = {index: Variable(builder, carry.dtype, carry, None) for index, carry in _matrices(carries)}
    builder.terminate(Op.Branch, header)
    mark = len(builder.log)
    builder.begin_block(header)
    values, holes = _take_carries(builder, carries, variables, before, again)
    builder.perform(Op.LoopMerge, after, again, _HINTS[unroll])
    builder.terminate(Op.Branch, check)
    builder.begin_block(check)
    builder.terminate(Op.BranchConditional, condition(list(values)).id, inside, after)
    builder.begin_block(inside)
    new = advance(list(values))
    if not builder.terminated:
        builder.terminate(Op.Branch, again)
    builder.begin_block(again)
    if step is not None:
        new[0] = values[0] + step
    for index, variable in variables.items():
        variable.store(new[index])
    builder.terminate(Op.Branch, header)
    for index, hole in holes.items():
        builder.code[hole] = new[index].id
    builder.forget(mark)
    builder.begin_block(after)
    builder.loop_rounds = outside + rounds * (1 + builder.loop_rounds)
    return values


def _take_carries(
    builder: Builder, carries: Sequence[Value], variables: Mapping[int, Variable], before: int, again: int
) -> tuple[list[Value], dict[int, int]]:
    """Open a header: return its values, and where in the code each phi still lacks what the continue block gives it."""
    values, holes = list(carries), {}
    for index, carry in enumerate(carries):
        if index not in variables:
            values[index] = builder.emit(Op.Phi, carry.dtype, carry.id, before, 0, again)
            holes[index] = len(builder.code) - 2
    for index, variable in variables.items():
        values[index] = variable.load()
    return values, holes


def _matrices(values: Sequence[Value]) -> list[tuple[int, Value]]:
    """Return the positions and values of cooperative matrices."""
    return [(index, value) for index, value in enumerate(values) if isinstance(value.dtype, MatrixType)]


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
    if selector.dtype not in ("i32", "u32"):
        raise ShaderError(
            "A switch must select by 32 bits.", got=selector, want="i32 or u32", fix="convert the selector."
        )
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


def _arm(
    builder: Builder,
    label: int,
    after: int,
    body: Callable[[], Any],
    finish: Callable[[Any], None] = lambda results: None,
) -> tuple[Any, int | None]:
    """Emit one arm and, if it arrives, `finish(results)`; return its results and its last block, None if it leaves."""
    mark = len(builder.log)
    builder.begin_block(label)
    results = body()
    source = None if builder.terminated else builder.block
    if source is not None:
        finish(results)
        builder.terminate(Op.Branch, after)
    builder.forget(mark)
    return results, source


def _join(
    builder: Builder, arms: Sequence[tuple[int, Callable[[], Results]]], after: int, construct: str
) -> list[Value]:
    arrivals: list[tuple[list[Value], int]] = []
    variables: dict[int, Variable] = {}

    def store_matrices(results: Results) -> None:
        for index, value in _matrices(_results(results, None, construct)):
            variables.setdefault(index, Variable(builder, value.dtype, None, None)).store(value)

    for label, body in arms:
        results, source = _arm(builder, label, after, body, store_matrices)
        if source is not None:
            expected = arrivals[0][0] if arrivals else None
            arrivals.append((_results(results, expected, construct), source))
    builder.begin_block(after)
    if not arrivals:
        builder.terminate(Op.Unreachable)
        return []
    merged = list(arrivals[0][0])
    if len(arrivals) == 1:
        return merged
    for position, first in enumerate(merged):
        if position not in variables:
            words = [word for values, source in arrivals for word in (values[position].id, source)]
            merged[position] = builder.emit(Op.Phi, first.dtype, *words)
    for position, variable in variables.items():
        merged[position] = variable.load()
    return merged
