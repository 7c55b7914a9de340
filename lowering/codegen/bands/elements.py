"""Arithmetic of elements: a function of what is held, applied to matrices where they lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shaders.spirv import Builder, MatrixType
from shaders.spirv import Value as Register

from ...graph import Value
from .. import scalar
from ..tile.blocks import Step
from .checks import NARROW
from .follow import ALONG, DOWN
from .matrices import Given, Tile, matrix_of
from .scalars import single

if TYPE_CHECKING:
    from .emit import Emitter

_LOG2_E = 1.4426950408889634
_LOG_2 = np.float32(0.6931471805599453)
_DIRECT = {"add", "subtract", "multiply", "divide"}


def compute(emitter: Emitter, value: Value) -> Tile:
    """Return the matrix of a value that is arithmetic over others."""
    step = emitter.producers[value]
    dtype = emitter.matrix_type(value)
    if step.op in _DIRECT and value.dtype == "f32" and all(_is_whole(emitter, operand) for operand in step.inputs):
        left, right = (emitter.matrix(operand, dtype.columns) for operand in step.inputs)
        return emitter.matrices.arithmetic(step.op, left, right)
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
        self.matrices: dict[Value, Tile] = {}
        self.numbers: dict[Value, Register] = {}
        self.asked: set[str] = set()

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
            self.asked.add(self._follows(step) or ALONG)
            return
        for operand in step.inputs:
            self.find(operand)

    def _wide(self, tile: Tile) -> Tile:
        """Return a tile of numbers as registers hold them: 16-bit floats become f32."""
        dtype = matrix_of(tile)
        if dtype.dtype in NARROW:
            return self.emitter.matrices.convert(tile, dtype._replace(dtype="f32"))
        return tile

    def _follows(self, step: Step) -> str | None:
        return self.emitter.bands.follows[step.outputs[0]][step.node.attributes["dimension"]]

    def apply(self, dtype: MatrixType) -> Tile:
        """Write the function and apply it."""
        emitter, root = self.emitter, self.root
        row = emitter.first_row if DOWN in self.asked else None
        name = emitter.producers[root].op
        given = Given(name, self.matrices, self.numbers, row, asks_columns=ALONG in self.asked)

        def element(known: dict[Value, Register], down: Register, along: Register) -> Register:
            return _Tree(emitter, known, down, along).at(root)

        return emitter.matrices.apply(dtype, given, element)


class _Tree:
    """Evaluates a value at one element, inside a function."""

    def __init__(self, emitter: Emitter, known: dict[Value, Register], down: Register, along: Register) -> None:
        self.emitter = emitter
        self.builder: Builder = emitter.builder
        self.known = known
        self.places = {DOWN: down, ALONG: along}

    def at(self, value: Value) -> Register:
        """Return the value's element."""
        found = self.known.get(value)
        if found is None:
            found = self.known[value] = self._make(value)
        return found

    def _make(self, value: Value) -> Register:
        if value.size == 1:
            # Only constants are not handed over; one that was made elsewhere is written anew.
            number = self.emitter.scalars.at(value)
            assert number.constant is not None
            return self.builder.const(number.dtype, number.constant)
        step = self.emitter.producers[value]
        if step.op == "constant":
            return single(scalar.constant(self.builder, value.dtype, step.node.attributes["value"].reshape(-1)[0]))
        if step.op == "iota":
            place = self.places[self.emitter.bands.follows[value][step.node.attributes["dimension"]] or ALONG]
            return single(scalar.emit(self.builder, "convert", [place], ["u32"], value.dtype, {}))
        if step.op in ("broadcast_in_dim", "reshape"):
            return self.at(step.inputs[0])
        if step.op == "exponential" and self.emitter.takes_driver_exp and value.dtype == "f32":
            return self.builder.math("exp2", self._in_units_of_log_2(step.inputs[0]))
        if step.op == "tanh" and self.emitter.takes_driver_exp and value.dtype == "f32":
            return self._tanh(self.at(step.inputs[0]))
        operands = [self.at(operand) for operand in step.inputs]
        if step.op in ("maximum", "minimum") and self.emitter.skips_nan and value.dtype == "f32":
            return (self.builder.max if step.op == "maximum" else self.builder.min)(*operands)
        given = [operand.dtype for operand in step.inputs]
        return single(scalar.emit(self.builder, step.op, operands, given, value.dtype, step.node.attributes))

    def _tanh(self, element: Register) -> Register:
        """Return 1 - 2 / (e^(2 x) + 1): right to a few units of 2^-24 where tanh itself is about 1, and no finer."""
        builder = self.builder
        one, two = builder.const("f32", 1.0), builder.const("f32", 2.0)
        grown = builder.math("exp2", element * builder.const("f32", 2 * _LOG2_E))
        return one - two / (grown + one)

    def _in_units_of_log_2(self, exponent: Value) -> Register:
        """Return an exponent of e as one of 2: what was multiplied by log 2 to begin with is taken as it was."""
        step = self.emitter.producers.get(exponent)
        if step is not None and step.op == "multiply" and exponent not in self.emitter.bands.settled:
            for factor, other in (step.inputs, step.inputs[::-1]):
                made = self.emitter.producers.get(factor)
                if made is not None and made.op == "constant" and made.node.attributes["value"] == _LOG_2:
                    return self.at(other)
        return self.at(exponent) * self.builder.const("f32", _LOG2_E)
