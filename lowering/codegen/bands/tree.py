"""One element of a value that is arithmetic over others, as registers inside of a function.

Where an exponential may be the driver's own, results are right to a few units in the last place of the largest number
on the way, and no finer:

- What is a line in a register, factor x register + offset with known numbers, stays one until somebody needs the
  number: 50 tanh(s / 50) costs an exponential, a division and one addition.
- Places become floats without a conversion, which costs as much as an exponential: an integer below 2^22 in the lower
  bits of 2^23 is a float that is 2^23 too large. That is taken away before a factor or a sum could round it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from shaders.spirv import Builder
from shaders.spirv import Value as Register

from ...graph import Value
from .. import scalar
from ..tile.blocks import Step
from .follow import ALONG, DOWN
from .scalars import single

if TYPE_CHECKING:
    from .emit import Emitter

_LOG2_E = 1.4426950408889634
_LOG_2 = np.float32(0.6931471805599453)
_TWO_23, _BITS_OF_TWO_23 = 8388608.0, 0x4B000000
_MOST_PLACE = 1 << 22
# What may stand between loop indices and a place.
_INDEX_OPS = {"add", "subtract", "multiply", "divide", "minimum", "maximum", "broadcast_in_dim", "reshape", "convert"}


class Line(NamedTuple):
    """A number: factor x register + offset; without a register the offset alone."""

    register: Register | None
    factor: float
    offset: float


class Tree:
    """Evaluates a value at one element, inside a function."""

    def __init__(self, emitter: Emitter, known: dict[Value, Register], down: Register, along: Register) -> None:
        self.emitter = emitter
        self.builder: Builder = emitter.builder
        self.known = known
        self.places = {DOWN: down, ALONG: along}
        self.lines: dict[Value, Line] = {}

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
            return single(scalar.emit(self.builder, "convert", [self._place(step)], ["u32"], value.dtype, {}))
        if step.op in ("broadcast_in_dim", "reshape"):
            return self.at(step.inputs[0])
        if self.emitter.takes_driver_exp and value.dtype == "f32":
            found = self._make_roughly(value, step)
            if found is not None:
                return found
        operands = [self.at(operand) for operand in step.inputs]
        if step.op in ("maximum", "minimum") and self.emitter.skips_nan and value.dtype == "f32":
            return (self.builder.max if step.op == "maximum" else self.builder.min)(*operands)
        given = [operand.dtype for operand in step.inputs]
        return single(scalar.emit(self.builder, step.op, operands, given, value.dtype, step.node.attributes))

    def _place(self, step: Step) -> Register:
        """Return the place of the element along the axis of an iota."""
        follows = self.emitter.bands.follows[step.outputs[0]]
        return self.places[follows[step.node.attributes["dimension"]] or ALONG]

    # -- right to a few units of the largest number on the way ---------------------------------------------------------
    def _make_roughly(self, value: Value, step: Step) -> Register | None:
        """Return an element of f32 that may be off by a few units, or None where that saves nothing."""
        if step.op == "exponential":
            return self.builder.math("exp2", self._in_units_of_log_2(step.inputs[0]))
        if step.op in ("tanh", "multiply", "add", "subtract"):
            return self._number(self._line(value))
        if step.op == "convert" and step.inputs[0].dtype == "i32":
            found = self._float(step.inputs[0])
            return None if found is None else self._number(found)
        return None

    def _line(self, value: Value) -> Line:
        """Return a value of f32 as a line."""
        if value not in self.lines:
            self.lines[value] = self._make_line(value)
        return self.lines[value]

    def _make_line(self, value: Value) -> Line:
        step = self.emitter.producers.get(value)
        if value in self.known or step is None:
            return Line(self.at(value), 1.0, 0.0)
        if step.op == "constant":
            return Line(None, 0.0, float(step.node.attributes["value"].reshape(-1)[0]))
        if value.size > 1 and step.op in ("broadcast_in_dim", "reshape"):
            return self._line(step.inputs[0])
        if value.size > 1 and step.op == "tanh":
            # 1 - 2 / (e^(2 x) + 1)
            given = self._line(step.inputs[0])
            grown = self.builder.math("exp2", self._number(_scaled(given, 2 * _LOG2_E)))
            one = self.builder.const("f32", 1.0)
            return Line(one / (grown + one), -2.0, 1.0)
        if value.size > 1 and step.op == "convert" and step.inputs[0].dtype == "i32":
            found = self._float(step.inputs[0])
            # As a number: a factor would meet what it is too large by, and round that.
            return Line(self.at(value) if found is None else self._number(found), 1.0, 0.0)
        if value.size > 1 and step.op in ("multiply", "add", "subtract"):
            return self._combined(step.op, *map(self._line, step.inputs))
        return Line(self.at(value), 1.0, 0.0)

    def _combined(self, op: str, left: Line, right: Line) -> Line:
        if op == "multiply":
            for line, other in ((left, right), (right, left)):
                if line.register is None and np.isfinite(line.offset):
                    return _scaled(other, line.offset)
            return Line(self._number(left) * self._number(right), 1.0, 0.0)
        right = right if op == "add" else _scaled(right, -1.0)
        offset = left.offset + right.offset
        if left.register is None or right.register is None:
            line = left if right.register is None else right
            return line._replace(offset=offset)
        sign = np.sign(right.factor)
        first, second = (self._number(line._replace(offset=0.0)) for line in (left, _scaled(right, sign)))
        return Line(first - second if sign < 0 else first + second, 1.0, offset)

    def _number(self, line: Line) -> Register:
        if line.register is None:
            return self.builder.const("f32", line.offset)
        register = line.register if line.factor == 1 else line.register * self.builder.const("f32", line.factor)
        return register if line.offset == 0 else register + self.builder.const("f32", line.offset)

    def _in_units_of_log_2(self, exponent: Value) -> Register:
        """Return an exponent of e as one of 2: what was multiplied by log 2 to begin with is taken as it was."""
        step = self.emitter.producers.get(exponent)
        if step is not None and step.op == "multiply" and exponent not in self.emitter.bands.settled:
            for factor, other in (step.inputs, step.inputs[::-1]):
                made = self.emitter.producers.get(factor)
                if made is not None and made.op == "constant" and made.node.attributes["value"] == _LOG_2:
                    return self.at(other)
        return self._number(_scaled(self._line(exponent), _LOG2_E))

    def _float(self, value: Value) -> Line | None:
        """Return an integer that is made of places and small numbers as a float, or None where it is made of more."""
        if value.size == 1:
            return self._float_of_number(value)
        step = self.emitter.producers.get(value)
        if step is None or value.dtype != "i32" or value in self.emitter.bands.settled:
            return None
        if step.op == "iota":
            place = self._place(step) | self.builder.const("u32", _BITS_OF_TWO_23)
            return Line(self.builder.bitcast(place, "f32"), 1.0, -_TWO_23)
        if step.op in ("broadcast_in_dim", "reshape"):
            return self._float(step.inputs[0])
        if step.op not in ("add", "subtract", "minimum", "maximum", "negate", "abs"):
            return None
        operands = [line for line in map(self._float, step.inputs) if line is not None]
        if len(operands) < len(step.inputs):
            return None
        if step.op in ("add", "subtract"):
            return self._sum_of_integers(*operands, is_difference=step.op == "subtract")
        given = [self._number(line) for line in operands]
        return Line(single(scalar.emit(self.builder, step.op, given, ["f32"] * len(given), "f32", {})), 1.0, 0.0)

    def _sum_of_integers(self, left: Line, right: Line, *, is_difference: bool) -> Line:
        """Return a sum or difference of integers without rounding: offsets are added before registers are."""
        right = _scaled(right, -1.0) if is_difference else right
        offset = left.offset + right.offset
        if left.register is None or right.register is None:
            line = left if right.register is None else right
            return line._replace(offset=offset)
        if abs(offset) <= 2 * _TWO_23:
            # What comes from outside of the function takes the offset, and is added to it only once.
            first, second = (right, left) if left.offset else (left, right)
            left, right = first._replace(offset=offset), second._replace(offset=0.0)
        if right.factor == -1 and not right.offset:
            return Line(self._number(left) - self._number(right._replace(factor=1.0)), 1.0, 0.0)
        return Line(self._number(left) + self._number(right), 1.0, 0.0)

    def _float_of_number(self, value: Value) -> Line | None:
        step = self.emitter.producers.get(value)
        if step is not None and step.op == "constant":
            number = int(step.node.attributes["value"].reshape(-1)[0])
            return Line(None, 0.0, float(number)) if abs(number) < _MOST_PLACE else None
        if not self._is_index(value):
            return None
        return Line(single(scalar.emit(self.builder, "convert", [self.at(value)], ["i32"], "f32", {})), 1.0, 0.0)

    def _is_index(self, value: Value) -> bool:
        """Tell whether a number is made of positions in the grid and of indices of loops alone."""
        if value in self.emitter.bands.views or value.dtype != "i32":
            return False
        step = self.emitter.producers.get(value)
        if step is None or step.op == "constant":
            return True
        return step.op in _INDEX_OPS and all(map(self._is_index, step.inputs))


def _scaled(line: Line, factor: float) -> Line:
    return Line(line.register, line.factor * factor, line.offset * factor)
