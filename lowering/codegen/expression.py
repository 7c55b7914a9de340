"""Evaluate the body of a fusion at one position: memory is read where the position leads, everything else computed.

Results are remembered for each (value, position) in scopes that follow the structured blocks of the kernel, so that a
value computed inside a block is never used where that block does not dominate.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from shaders.library.complex import Complex
from shaders.spirv import Builder
from shaders.spirv import Value as Register

from ..graph import Graph, Node, Value
from ..neighbours import is_plain
from . import moves, scalar
from .index import SCALAR, Index, size_of

Scalar = scalar.Scalar
Key = tuple[Any, ...]


def parts(value: Scalar) -> list[Register]:
    """Return the registers that hold one element."""
    return [value.re, value.im] if isinstance(value, Complex) else [value]


def rebuild(dtype: str, registers: Sequence[Register]) -> Scalar:
    """Put one element together again from its registers."""
    return Complex(registers[0], registers[1]) if dtype in ("c64", "c128") else registers[0]


class Expression:
    """Evaluates the values of one body inside one kernel."""

    def __init__(self, builder: Builder, body: Graph, buffers: Mapping[Value, Any], index_dtype: str = "u32") -> None:
        self.builder = builder
        self.body = body
        self.buffers = buffers
        self.index_dtype = index_dtype
        # What the author of a kernel promises: that exponentials may be the driver's, and that no extremum must be NaN.
        self.takes_driver_exp = self.skips_nan = False
        self.producers = body.producers()
        self.fixed: dict[Value, Scalar] = {}
        # By the id of a place: the run of neighbours that it belongs to, its number there, and their count.
        self.runs: dict[int, tuple[Register, int, int]] = {}
        # By the identity of a position: the positions of its run, its number among them, and the axis they run along.
        self.siblings: dict[int, tuple[list[Index], int, int]] = {}
        self._scopes: list[dict[Key, Any]] = [{}]
        self._kept: list[Index] = []

    # -- scopes ------------------------------------------------------------------------------------------------------
    @contextmanager
    def scope(self) -> Generator[None]:
        """Forget on exit what was computed inside: for the inside of a block."""
        self._scopes.append({})
        try:
            yield
        finally:
            self._scopes.pop()

    def remember(self, key: Key, make: Callable[[], Any]) -> Any:
        """Return what an enclosing scope knows under `key`, or make it in this one."""
        for known in reversed(self._scopes):
            if key in known:
                return known[key]
        made = make()
        self._scopes[-1][key] = made
        return made

    # -- positions ---------------------------------------------------------------------------------------------------
    def index(self, shape: tuple[int, ...], **given: Any) -> Index:
        """Make a position; it lives as long as this expression, so that its identity is a safe key."""
        made = Index(shape, **given)
        self._kept.append(made)
        return made

    def derived(self, key: Key, source: Index, make: Callable[[], Index]) -> Index:
        """Return the position that a move leads to from `source`: the same one each time it is asked for."""
        return self.remember(("index", id(source), *key), make)

    def number(self, value: int) -> Register:
        """Return an index constant."""
        return self.builder.const(self.index_dtype, value)

    def wide(self, count: Register) -> Register:
        """Return what a kernel counts in u32 as an index."""
        return self.builder.convert(count, self.index_dtype)

    def dims(self, index: Index) -> tuple[Register, ...]:
        """Return the position along each dimension."""
        if index.dims is not None:
            return index.dims
        return self.remember(("dims", id(index)), lambda: self.split(self.linear(index), index.shape))

    def linear(self, index: Index) -> Register:
        """Return the row-major element number."""
        if index.linear is not None:
            return index.linear
        if index.like is not None:
            return self.linear(index.like)
        return self.remember(("linear", id(index)), lambda: self.flatten(self.dims(index), index.shape))

    def split(self, linear: Register, shape: tuple[int, ...]) -> tuple[Register, ...]:
        """Return the dimensions of a row-major element number."""
        result: list[Register] = []
        rest, left = linear, size_of(shape)
        for extent in reversed(shape):
            if extent == 1:
                result.append(self.number(0))
                continue
            left //= extent
            if left == 1:
                result.append(rest)
                rest = self.number(0)
                continue
            result.append(rest % self.number(extent))
            rest = rest // self.number(extent)
        return tuple(reversed(result))

    def flatten(self, dims: Sequence[Register], shape: tuple[int, ...]) -> Register:
        """Return the row-major element number of a position."""
        result: Register | None = None
        for position, extent in zip(dims, shape, strict=True):
            if extent == 1:
                continue
            result = position if result is None else result * self.number(extent) + position
        return self.number(0) if result is None else result

    # -- values ------------------------------------------------------------------------------------------------------
    def at(self, value: Value, index: Index) -> Scalar:
        """Return the element of `value` at a position."""
        pending = [(value, index)]
        while pending:
            current, place = pending[-1]
            if self._known(current, place) is not None:
                pending.pop()
                continue
            missing = [pair for pair in self._operands(current, place) if self._known(*pair) is None]
            if missing:
                pending.extend(missing)
                continue
            made = self._compute(current, place)
            self._scopes[-1][("value", current, id(place))] = made
            pending.pop()
        known = self._known(value, index)
        assert known is not None
        return known

    def load(self, value: Value, linear: Register) -> Scalar:
        """Read one element of a memory value by its row-major number, with its neighbours if they are known."""
        buffer, run = self.buffers[value], self.runs.get(linear.id)
        if run is None or value.size % run[2] or not is_plain(value):
            return scalar.load(self.builder, buffer, linear, value.dtype)
        first, number, count = run

        def read() -> list[Register]:
            return scalar.load_run(self.builder, buffer, first, count, value.dtype)

        return self.remember(("run", value, first.id), read)[number]

    def store(self, value: Value, linear: Register, element: Scalar) -> None:
        """Write one element of an output by its row-major number."""
        scalar.store(self.builder, self.buffers[value], linear, element, value.dtype)

    def enter_run(self, members: list[Index], fast: int) -> None:
        """Let it be known that positions are neighbours along an axis; the first is a multiple of their number."""
        places = [self.linear(member) for member in members]
        for number, (member, place) in enumerate(zip(members, places, strict=True)):
            self.runs[place.id] = (places[0], number, len(members))
            self.siblings[id(member)] = (members, number, fast)

    def choose(self, condition: Register, yes: Callable[[], Scalar], no: Callable[[], Scalar], dtype: str) -> Scalar:
        """Compute one of two elements, and only that one."""
        return self.choose_all(condition, lambda: [yes()], lambda: [no()], dtype)[0]

    def choose_all(
        self, condition: Register, yes: Callable[[], list[Scalar]], no: Callable[[], list[Scalar]], dtype: str
    ) -> list[Scalar]:
        """Compute one of two lists of elements, and only that one."""

        def inside(make: Callable[[], list[Scalar]]) -> Callable[[], list[Register]]:
            def run() -> list[Register]:
                with self.scope():
                    return [register for element in make() for register in parts(element)]

            return run

        registers = self.builder.branch(condition, inside(yes), inside(no))
        width = 2 if dtype in ("c64", "c128") else 1
        return [rebuild(dtype, registers[start : start + width]) for start in range(0, len(registers), width)]

    def call(self, graph: Graph, arguments: Sequence[Scalar]) -> list[Scalar]:
        """Evaluate a region over scalars: the body of a reduction or a scatter."""
        inner = Expression(self.builder, graph, {}, self.index_dtype)
        inner.fixed.update(zip(graph.inputs, arguments, strict=True))
        return [inner.at(value, SCALAR) for value in graph.outputs]

    def _known(self, value: Value, index: Index) -> Scalar | None:
        if value in self.fixed:
            return self.fixed[value]
        key = ("value", value, id(index))
        for known in reversed(self._scopes):
            if key in known:
                return known[key]
        return None

    def _operands(self, value: Value, index: Index) -> list[tuple[Value, Index]]:
        """Return the operands of an elementwise node with their positions; moves find their own."""
        node = self._node(value)
        if node is None or node.op in moves.RULES:
            return []
        return [(operand, index if operand.shape else SCALAR) for operand in node.inputs]

    def _node(self, value: Value) -> Node | None:
        return None if value in self.buffers and value in self.body.inputs else self.producers.get(value)

    def _compute(self, value: Value, index: Index) -> Scalar:
        node = self._node(value)
        if node is None:
            return self.load(value, self.linear(index))
        rule = moves.RULES.get(node.op)
        if rule is not None:
            return rule(self, node, index)
        if node.where:
            self.builder.source(*_file_and_line(node.where))
        operands = [self.at(operand, index if operand.shape else SCALAR) for operand in node.inputs]
        return self._apply(node, operands)

    def _apply(self, node: Node, operands: list[Scalar]) -> Scalar:
        """Apply an elementwise operation to one element of each operand."""
        if self.skips_nan and node.op in ("maximum", "minimum") and node.output.dtype == "f32":
            return self.extremum(node.op, *operands)
        dtypes = [operand.dtype for operand in node.inputs]
        return scalar.emit(self.builder, node.op, operands, dtypes, node.output.dtype, node.attributes)

    def extremum(self, op: str, first: Scalar, second: Scalar) -> Scalar:
        """Return the larger or smaller of two numbers by the driver's own rule, which may lose NaN."""
        assert isinstance(first, Register)
        assert isinstance(second, Register)
        return (self.builder.max if op == "maximum" else self.builder.min)(first, second)


def _file_and_line(where: str) -> tuple[str, int]:
    """Split 'file.py:12 in f' into its file and line."""
    place = where.split(" in ")[0]
    file, _, line = place.rpartition(":")
    return (file, int(line)) if line.isdigit() and file else (place, 0)
