"""Arithmetic of elements: a function of what is held, applied to matrices where they lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shaders.spirv import Builder, MatrixType
from shaders.spirv import Value as Register

from ...graph import Value
from ..tile.blocks import Step
from .checks import INTEGERS
from .follow import DOWN
from .tree import Tree

if TYPE_CHECKING:
    from .emit import Emitter

_DIRECT = {"add", "subtract", "multiply", "divide"}


def compute(emitter: Emitter, value: Value) -> Register:
    """Return the matrix of a value that is arithmetic over others."""
    step = emitter.producers[value]
    dtype = emitter.matrix_type(value)
    if step.op in _DIRECT and value.dtype == "f32" and all(_is_whole(emitter, operand) for operand in step.inputs):
        left, right = (emitter.matrix(operand, dtype.columns) for operand in step.inputs)
        return {"add": left.__add__, "subtract": left.__sub__, "multiply": left.__mul__, "divide": left.__truediv__}[
            step.op
        ](right)
    leaves = _Leaves(emitter, value)
    leaves.find(value, is_root=True)
    return leaves.apply(dtype)


def _is_whole(emitter: Emitter, value: Value) -> bool:
    """Tell whether a value is held as a matrix, or spread over one."""
    if value in emitter.bands.settled:
        return True
    step = emitter.producers.get(value)
    return step is not None and step.op == "broadcast_in_dim" and step.inputs[0] in emitter.bands.settled


class _Leaves:
    """The matrices and numbers that one function is given."""

    def __init__(self, emitter: Emitter, root: Value) -> None:
        self.emitter = emitter
        self.root = root
        self.columns = emitter.bands.columns(root)
        self.matrices: dict[Value, Register] = {}
        self.numbers: dict[Value, Register] = {}
        self.takes_rows = False

    def find(self, value: Value, *, is_root: bool = False) -> None:
        """Collect what a value is made of."""
        emitter = self.emitter
        if value in self.matrices or value in self.numbers:
            return
        if value.size == 1:
            register = emitter.scalars.at(value)
            if register.constant is None:
                self.numbers[value] = register
            return
        if value in emitter.bands.settled and not is_root:
            self.matrices[value] = self._wide(emitter.matrix(value, self.columns))
            return
        step = emitter.producers[value]
        if step.op == "constant":
            return
        if step.op == "iota":
            self.takes_rows |= self._follows(step) == DOWN
            return
        for operand in step.inputs:
            self.find(operand)

    def _wide(self, matrix: Register) -> Register:
        """Return a matrix of numbers as registers hold them: 16-bit floats become f32."""
        dtype = matrix.dtype
        assert isinstance(dtype, MatrixType)
        if dtype.dtype in ("f16", "bf16"):
            return self.emitter.builder.matrix_convert(matrix, dtype._replace(dtype="f32"))
        return matrix

    def _follows(self, step: Step) -> str | None:
        return self.emitter.bands.follows[step.outputs[0]][step.node.attributes["dimension"]]

    def apply(self, dtype: MatrixType) -> Register:
        """Write the function and apply it."""
        builder = self.emitter.builder
        first = next((v for v, m in self.matrices.items() if m.dtype == dtype), None)
        given = self.matrices[first] if first is not None else builder.const(dtype, 0.0)
        others = {value: matrix for value, matrix in self.matrices.items() if value != first}
        numbers = dict(self.numbers)
        row = self.emitter.first_row if self.takes_rows else None
        operands = [*others.values(), *numbers.values(), *([row] if row is not None else [])]
        arguments = [_element(operand) for operand in operands]

        def body(down: Register, along: Register, element: Register, *rest: Register) -> Register:
            known: dict[Value, Register] = {} if first is None else {first: _bits(builder, first, element)}
            for value, register in zip((*others, *numbers), rest, strict=False):
                known[value] = _bits(builder, value, register)
            if row is not None:
                down = down + rest[-1]
            return Tree(self.emitter, known, down, along).at(self.root)

        called = builder.function(
            self.emitter.producers[self.root].op, dtype.dtype, ["u32", "u32", dtype.dtype, *arguments], body
        )
        return builder.matrix_per_element(given, called, *operands)


def _bits(builder: Builder, value: Value, register: Register) -> Register:
    """Return an element as the value's dtype: integers of tiles lie in matrices of f32 bit by bit."""
    is_held = value.size > 1 and value.dtype in INTEGERS
    return builder.bitcast(register, value.dtype) if is_held else register


def _element(operand: Register) -> str:
    dtype = operand.dtype.dtype if isinstance(operand.dtype, MatrixType) else operand.dtype
    assert isinstance(dtype, str)
    return dtype
