"""Windows of arithmetic over arrays become arithmetic over windows; windows of anything else stay."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from lowering.codegen.bands.sink import sink_windows
from lowering.codegen.tile.blocks import Block, Step
from lowering.graph import Node, Value

WHOLE, PART = (8, 4), (2, 4)
GIVEN, START, ZERO = Value(0, "f32", WHOLE), Value(1, "i32", ()), Value(2, "i32", ())


def step(op: str, inputs: tuple[Value, ...], result: Value, **attributes: Any) -> Step:
    return Step(Node(op, inputs, (result,), attributes), inputs, (result,))


def tile(id: int, shape: tuple[int, ...] = WHOLE) -> Value:
    return Value(id, "f32", shape)


def windowed(*steps: Step) -> Block:
    """Return a cell that takes a window of the last step's result."""
    source, result = steps[-1].outputs[0], tile(90, PART)
    window = step("dynamic_slice", (source, START, ZERO), result, sizes=PART)
    return Block((GIVEN, START, ZERO), (*steps, window), (result,))


TWO = step("constant", (), tile(10), value=np.full(WHOLE, 2.0, np.float32))
SCALED = step("multiply", (GIVEN, TWO.outputs[0]), tile(11))
ROOT = step("exponential", (SCALED.outputs[0],), tile(12))


def ops(cell: Block) -> list[str]:
    return [each.op for each, _ in cell.walk()]


def test_window_of_arithmetic_is_taken_first() -> None:
    cell = sink_windows(windowed(TWO, SCALED, ROOT))
    assert ops(cell) == ["dynamic_slice", "constant", "multiply", "exponential"]
    assert all(value.shape == PART for each, _ in cell.walk() for value in each.outputs)
    window = cell.steps[0]
    assert window.inputs == (GIVEN, START, ZERO)
    assert cell.steps[-1].outputs == cell.outputs


def test_new_values_have_numbers_of_their_own() -> None:
    cell = sink_windows(windowed(TWO, SCALED, ROOT))
    made = [value.id for each, _ in cell.walk() for value in each.outputs]
    assert len(set(made)) == len(made)
    assert not {10, 11, 12} & set(made)


def test_operand_of_one_number_is_taken_as_it_is() -> None:
    number = Value(3, "f32", ())
    cell = windowed(step("multiply", (GIVEN, number), tile(11)))
    cell = sink_windows(replace(cell, inputs=(*cell.inputs, number)))
    assert ops(cell) == ["dynamic_slice", "multiply"]
    assert cell.steps[1].inputs[1] == number


def test_window_of_what_is_no_arithmetic_stays() -> None:
    turned = step("reverse", (GIVEN,), tile(11), dimensions=(0,))
    cell = sink_windows(windowed(turned))
    assert ops(cell) == ["reverse", "dynamic_slice"]
    assert cell.steps[1].inputs[0] == turned.outputs[0]


def test_window_stops_at_what_is_no_arithmetic() -> None:
    turned = step("reverse", (GIVEN,), tile(11), dimensions=(0,))
    cell = sink_windows(windowed(turned, step("exponential", (tile(11),), tile(12))))
    assert ops(cell) == ["reverse", "dynamic_slice", "exponential"]


def test_whole_that_is_read_elsewhere_stays_as_well() -> None:
    cell = windowed(TWO, SCALED)
    cell = sink_windows(replace(cell, outputs=(*cell.outputs, SCALED.outputs[0])))
    assert sorted(ops(cell)) == ["constant", "constant", "dynamic_slice", "multiply", "multiply"]
