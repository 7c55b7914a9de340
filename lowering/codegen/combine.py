"""Reductions as pairs of an identity and a combining rule, over one lane, a subgroup and a workgroup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shaders.spirv import Value as Register

from .. import dtypes
from ..bodies import accumulator, identity
from ..graph import Node, Value
from . import scalar
from .expression import Expression, Scalar, parts, rebuild
from .index import SCALAR

State = list[Register]
# Floats from which on their extremum is cheaper by integers than one by one.
ENOUGH = 4


@dataclass(frozen=True)
class Reduction:
    """One reduce node inside a kernel: how its running state starts, grows and ends.

    A state is the flat list of registers of all operands. Sums and products of 16-bit floats run in f32. A rule of the
    user's own, argmax and argmin start from the initial values; every other kind starts from its identity.
    """

    expression: Expression
    node: Node

    @property
    def has_identity(self) -> bool:
        """Whether the kind has a number that changes nothing."""
        return self.node.attributes["kind"] not in (None, "argmax", "argmin")

    @property
    def operands(self) -> tuple[Value, ...]:
        """The arrays that are reduced."""
        return self.node.inputs[: len(self.node.outputs)]

    def identity(self) -> State:
        """Return the state of no elements."""
        builder, kind = self.expression.builder, self.node.attributes["kind"]
        if not self.has_identity:
            return self._flat(self.initial())
        (operand,) = self.operands
        return self._flat([scalar.constant(builder, operand.dtype, identity(kind, operand.dtype))])

    def initial(self) -> list[Scalar]:
        """Return the initial values that the node is given."""
        inits = self.node.inputs[len(self.node.outputs) :]
        return [self.expression.at(value, SCALAR) for value in inits]

    def add(self, state: State, elements: Sequence[Scalar]) -> State:
        """Return the state after one more element of each operand."""
        return self.merge(state, self._flat(elements))

    def add_all(self, state: State, elements: Sequence[Sequence[Scalar]]) -> State:
        """Return the state after several elements of each operand, in their order."""
        kind = self.node.attributes["kind"]
        if kind in ("max", "min") and len(elements) >= ENOUGH and not self.expression.skips_nan:
            values = [value for (value,) in elements if isinstance(value, Register) and value.dtype == "f32"]
            if len(values) == len(elements):
                found = scalar.extremum(self.expression.builder, values, is_maximum=kind == "max")
                return self.add(state, [found])
        for element in elements:
            state = self.add(state, element)
        return state

    def merge(self, first: State, second: State) -> State:
        """Return the state of two sets of elements, the first coming before the second."""
        builder, kind = self.expression.builder, self.node.attributes["kind"]
        if not self.has_identity:
            if kind is not None:
                first, second = self._by_index(first, second)
            arguments = [*self._elements(first), *self._elements(second)]
            return self._flat(self.expression.call(self.node.attributes["body"], arguments))
        (operand,) = self.operands
        (left,), (right,) = self._elements(first), self._elements(second)
        if self.expression.skips_nan and kind in ("max", "min") and operand.dtype == "f32":
            return self._flat([self.expression.extremum(f"{kind}imum", left, right)])
        return self._flat([scalar.combine(builder, kind, accumulator(kind, operand.dtype), left, right)])

    def _by_index(self, first: State, second: State) -> tuple[State, State]:
        """Return two states of argmax or argmin, the smaller index first: of two NaN the comparator takes the first.

        Lanes hold elements that lie among those of other lanes, so that no order of merging is that of the elements.
        """
        swaps = second[-1] < first[-1]
        return self.keep_if(swaps, second, first), self.keep_if(swaps, first, second)

    def finish(self, state: State) -> list[Scalar]:
        """Return the results: the state joined with the initial values, in the operands' dtypes."""
        kind = self.node.attributes["kind"]
        if not self.has_identity:
            return self._elements(state)
        (operand,) = self.operands
        if not starts_at_identity(self.node, self.expression.producers):
            state = self.merge(self._flat(self.initial()), state)
        running = accumulator(kind, operand.dtype)
        (result,) = self._elements(state)
        if running != operand.dtype:
            result = scalar.emit(self.expression.builder, "convert", [result], [running], operand.dtype, {})
        return [result]

    def across(self, state: State, lanes: int) -> State:
        """Return the state of all lanes of a subgroup, the same in each of them."""
        builder = self.expression.builder
        step = 1
        while step < lanes:
            state = self.merge(state, [builder.shuffle_xor(register, step) for register in state])
            step *= 2
        return state

    def across_workgroup(self, state: State, subgroup: int, workgroup: int) -> State:
        """Return the state of all lanes of a workgroup: subgroups first, then through shared memory."""
        state = self.across(state, subgroup)
        count = workgroup // subgroup
        if count == 1:
            return state
        builder = self.expression.builder
        shared = [builder.shared(register.dtype, count) for register in state]

        def publish() -> None:
            for memory, register in zip(shared, state, strict=True):
                memory[builder.subgroup_id] = register

        builder.when(builder.lane == builder.const("u32", 0), publish)
        builder.barrier()
        total = [memory[builder.const("u32", 0)] for memory in shared]
        for place in range(1, count):
            total = self.merge(total, [memory[builder.const("u32", place)] for memory in shared])
        return total

    def keep_if(self, condition: Register | None, new: State, old: State) -> State:
        """Return the new state where the condition holds."""
        if condition is None:
            return new
        return [self.expression.builder.select(condition, n, o) for n, o in zip(new, old, strict=True)]

    def _flat(self, elements: Sequence[Scalar]) -> State:
        return [register for element in elements for register in parts(element)]

    def _elements(self, state: State) -> list[Scalar]:
        result, place = [], 0
        for operand in self.operands:
            width = 2 if operand.dtype in dtypes.COMPLEX else 1
            result.append(rebuild(operand.dtype, state[place : place + width]))
            place += width
        return result


def starts_at_identity(node: Node, producers: Mapping[Value, Node]) -> bool:
    """Tell whether a reduction's initial value is a constant that changes nothing."""
    kind = node.attributes["kind"]
    start = producers.get(node.inputs[-1])
    if kind in (None, "argmax", "argmin") or start is None or start.op != "constant":
        return False
    dtype = node.inputs[0].dtype
    given = start.attributes["value"].reshape(-1)[0]
    return bool(given == np.asarray(identity(kind, dtype)).astype(dtypes.NUMPY[dtype]))
