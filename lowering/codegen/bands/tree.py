"""One element of a value that is arithmetic over others, as registers inside of a function.

Where an exponential may be the driver's own, results are right to a few units in the last place of the largest number
on the way, and no finer:

- What is a sum (`sums.py`) stays one until somebody needs the number: 50 tanh(s / 50) less a peak costs an exponential,
  a division, one addition, and a product and one more of each, since the rest is made once a row.
- Places become floats without a conversion, which costs as much as an exponential: an integer below 2^22 in the lower
  bits of 2^23 is a float that is 2^23 too large. That is taken away before a factor or a sum could round it. A column's
  place is below 2^7 or so, and may stay too large by that much until a row's number is added.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shaders.functions.halves import short_tanh
from shaders.spirv import Builder
from shaders.spirv import Value as Register

from ...graph import Value
from .. import scalar
from ..tile.blocks import Step
from .follow import ALONG, DOWN
from .scalars import single
from .sums import Line, Sum, added, negated, number, product, scaled, times_even

if TYPE_CHECKING:
    from .emit import Emitter

_LOG2_E = 1.4426950408889634
_LOG_2 = np.float32(0.6931471805599453)
_TWO_23, _BITS_OF_TWO_23 = 8388608.0, 0x4B000000
_MOST_PLACE = 1 << 22
_MANTISSA, _BIAS = 23, 127
# What may stand between loop indices and a place.
_INDEX_OPS = {"add", "subtract", "multiply", "divide", "minimum", "maximum", "broadcast_in_dim", "reshape", "convert"}


class Tree:
    """Evaluates a value at one element, inside a function."""

    def __init__(self, emitter: Emitter, known: dict[Value, Register], down: Register, along: Register) -> None:
        self.emitter = emitter
        self.builder: Builder = emitter.builder
        self.known = known
        self.places = {DOWN: down, ALONG: along}
        self.sums: dict[Value, Sum] = {}
        self.leaves = frozenset(known)
        self.depends: dict[Value, frozenset[str]] = {}

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
        if step.op == "abs":
            return self.builder.math("abs", self.at(step.inputs[0]))
        if step.op in ("tanh", "multiply", "add", "subtract"):
            return number(self.builder, self._sum(value))
        if step.op == "convert" and step.inputs[0].dtype == "i32":
            found = self._float(step.inputs[0])
            return None if found is None else number(self.builder, found)
        return None

    def _sum(self, value: Value) -> Sum:
        """Return a value of f32 as a sum."""
        if value not in self.sums:
            self.sums[value] = self._make_sum(value)
        return self.sums[value]

    def _make_sum(self, value: Value) -> Sum:
        step = self.emitter.producers.get(value)
        if value in self.known or step is None:
            return self._part(value, Line(self.at(value)))
        if step.op == "constant":
            return Sum(Line(offset=float(step.node.attributes["value"].reshape(-1)[0])))
        if value.size > 1 and step.op in ("broadcast_in_dim", "reshape"):
            return self._sum(step.inputs[0])
        if value.size > 1 and step.op == "tanh" and self.emitter.takes_driver_tanh and self.builder.has_short_tanh:
            tangent = short_tanh(self.builder, number(self.builder, self._sum(step.inputs[0])))
            return self._part(value, Line(tangent))
        if value.size > 1 and step.op == "tanh":
            return added(self.builder, self._part(value, self._less_than_tanh(step.inputs[0])), Sum(Line(offset=1.0)))
        if value.size > 1 and step.op == "convert" and step.inputs[0].dtype == "i32":
            found = self._float(step.inputs[0])
            return self._part(value, Line(self.at(value))) if found is None else found
        if value.size > 1 and step.op in ("add", "subtract"):
            left, right = map(self._sum, step.inputs)
            return added(self.builder, left, right if step.op == "add" else negated(right))
        if value.size > 1 and step.op == "multiply":
            return self._product(value, step)
        return self._part(value, Line(self.at(value)))

    def _less_than_tanh(self, value: Value) -> Line:
        """Return tanh x - 1 = -2 / (e^(2 x) + 1), by the square of an inverse root: division takes far longer."""
        builder = self.builder
        grown = builder.math("exp2", number(builder, scaled(builder, self._sum(value), 2 * _LOG2_E)))
        root = builder.math("inverse_sqrt", grown + builder.const("f32", 1.0))
        return Line(root * root, -2.0)

    def _product(self, value: Value, step: Step) -> Sum:
        sums = [self._sum(operand) for operand in step.inputs]
        for one, other in (sums, sums[::-1]):
            if one.literal is not None and np.isfinite(one.literal):
                return scaled(self.builder, other, one.literal)
        for operand, one, other in zip(step.inputs, sums, sums[::-1], strict=True):
            if not self._depends(operand):
                return times_even(self.builder, other, number(self.builder, one))
        return self._part(value, product(self.builder, *sums))

    def _part(self, value: Value, line: Line) -> Sum:
        """Return a value that is one part of a sum."""
        depends = self._depends(value)
        return Sum(each=(line._replace(is_shared=DOWN not in depends),)) if ALONG in depends else Sum(row=line)

    def _depends(self, value: Value) -> frozenset[str]:
        """Return which of rows and columns an element's number depends on."""
        if value not in self.depends:
            self.depends[value] = self._find_depends(value)
        return self.depends[value]

    def _find_depends(self, value: Value) -> frozenset[str]:
        if value.size == 1:
            return frozenset()
        if value in self.leaves:
            return frozenset(place for place in self.emitter.bands.follows[value] if place is not None)
        step = self.emitter.producers[value]
        if step.op == "iota":
            follows = self.emitter.bands.follows[value]
            return frozenset({follows[step.node.attributes["dimension"]] or ALONG})
        return frozenset().union(*map(self._depends, step.inputs))

    def _in_units_of_log_2(self, exponent: Value) -> Register:
        """Return an exponent of e as one of 2: what was multiplied by log 2 to begin with is taken as it was."""
        step = self.emitter.producers.get(exponent)
        if step is not None and step.op == "multiply" and exponent not in self.emitter.bands.settled:
            for factor, other in (step.inputs, step.inputs[::-1]):
                made = self.emitter.producers.get(factor)
                if made is not None and made.op == "constant" and made.node.attributes["value"] == _LOG_2:
                    return self.at(other)
        return number(self.builder, scaled(self.builder, self._sum(exponent), _LOG2_E))

    def _float(self, value: Value) -> Sum | None:
        """Return an integer that is made of places and small numbers as a float, or None where it is made of more."""
        if value.size == 1:
            return self._float_of_number(value)
        step = self.emitter.producers.get(value)
        if step is None or value.dtype != "i32" or value in self.emitter.bands.settled:
            return None
        if step.op == "iota":
            return self._float_of_place(value, step)
        if step.op in ("broadcast_in_dim", "reshape"):
            return self._float(step.inputs[0])
        if step.op not in ("add", "subtract", "minimum", "maximum", "negate", "abs"):
            return None
        operands = [each for each in map(self._float, step.inputs) if each is not None]
        if len(operands) < len(step.inputs):
            return None
        if step.op in ("add", "subtract"):
            left, right = operands
            # No sum of small integers is rounded, in any order.
            return added(self.builder, left, right if step.op == "add" else negated(right))
        if step.op == "negate":
            return negated(operands[0])
        names = {"minimum": "min", "maximum": "max", "abs": "abs"}
        given = [number(self.builder, each) for each in operands]
        return self._part(value, Line(self.builder.math(names[step.op], *given)))

    def _float_of_place(self, value: Value, step: Step) -> Sum:
        builder = self.builder
        if ALONG not in self._depends(value):
            bits = self._place(step) | builder.const("u32", _BITS_OF_TWO_23)
            return Sum(row=Line(builder.bitcast(bits, "f32") - builder.const("f32", _TWO_23)))
        # A column of fewer than 2^k in the upper bits of 2^k: what it is too large by goes into the row's number.
        k = (self.emitter.bands.columns(value) - 1).bit_length()
        bits = self._place(step) << builder.const("u32", _MANTISSA - k)
        column = builder.bitcast(bits | builder.const("u32", (_BIAS + k) << _MANTISSA), "f32")
        return Sum(Line(offset=-float(1 << k)), Line(column))

    def _float_of_number(self, value: Value) -> Sum | None:
        step = self.emitter.producers.get(value)
        if step is not None and step.op == "constant":
            known = int(step.node.attributes["value"].reshape(-1)[0])
            return Sum(Line(offset=float(known))) if abs(known) < _MOST_PLACE else None
        if not self._is_index(value):
            return None
        return Sum(Line(single(scalar.emit(self.builder, "convert", [self.at(value)], ["i32"], "f32", {}))))

    def _is_index(self, value: Value) -> bool:
        """Tell whether a number is made of positions in the grid and of indices of loops alone."""
        if value in self.emitter.bands.views or value.dtype != "i32":
            return False
        step = self.emitter.producers.get(value)
        if step is None or step.op == "constant":
            return True
        return step.op in _INDEX_OPS and all(map(self._is_index, step.inputs))
