"""Arithmetic of elements: a function of what is held, applied to matrices where they lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shaders.spirv import MatrixType
from shaders.spirv import Value as Register

from ...graph import Value
from ..tile.blocks import Step
from .checks import NARROW
from .follow import ALONG, DOWN
from .matrices import Given, Tile, matrix_of
from .tree import Tree

if TYPE_CHECKING:
    from .emit import Emitter

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
    if dtype.dtype not in NARROW:
        return leaves.apply(dtype)
    return emitter.matrices.convert(leaves.apply(dtype._replace(dtype="f32", use="accumulator")), dtype)


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
            return Tree(emitter, known, down, along).at(root)

        return emitter.matrices.apply(dtype, given, element)
