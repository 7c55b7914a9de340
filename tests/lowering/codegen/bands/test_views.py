"""Windows of arrays: slices of slices add up, each start is clamped on its own, and axes of one element come and go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from lowering.codegen.bands.views import View, find_views
from lowering.codegen.tile.blocks import Memory, Step
from lowering.graph import Node, Value

ARRAY = Value(0, "f32", (6, 10))
NUMBERS = np.arange(60, dtype=np.float32).reshape(ARRAY.shape)
STARTS = tuple(Value(100 + number, "i32", ()) for number in range(4))


def step(op: str, source: Value, result: Value, *starts: Value, **attributes: Any) -> Step:
    inputs = (source, *starts)
    return Step(Node(op, inputs, (result,), attributes), inputs, (result,))


def views_of(*steps: Step, written: frozenset[int] = frozenset()) -> dict[Value, View]:
    return find_views(list(steps), (ARRAY,), Memory({ARRAY: 0}, written))


def first_of(view: View, known: Mapping[Value, int]) -> int:
    """Return the place of a window's first element, as its starts say."""
    total = 0
    for starts, stride in zip(view.starts, view.strides, strict=True):
        for start, limit in starts:
            number = start if isinstance(start, int) else known[start]
            total += min(max(number, 0), limit) * stride
    return total


def cut(array: np.ndarray, starts: tuple[int, ...], sizes: tuple[int, ...]) -> np.ndarray:
    """Return a window by the rule of `dynamic_slice`: it moves back until it fits."""
    places = [min(max(start, 0), extent - size) for start, extent, size in zip(starts, array.shape, sizes, strict=True)]
    return array[tuple(slice(place, place + size) for place, size in zip(places, sizes, strict=True))]


OUTER, INNER = Value(1, "f32", (4, 7)), Value(2, "f32", (2, 3))
SLICES = (
    step("dynamic_slice", ARRAY, OUTER, *STARTS[:2], sizes=OUTER.shape),
    step("dynamic_slice", OUTER, INNER, *STARTS[2:], sizes=INNER.shape),
)


@pytest.mark.parametrize("numbers", [(1, 2, 1, 3), (5, 9, 3, 6), (-4, -1, -2, -9), (1, 9, 0, 9), (0, 0, 0, 0)])
def test_slice_of_a_slice_clamps_each_start(numbers: tuple[int, ...]) -> None:
    view = views_of(*SLICES)[INNER]
    want = cut(cut(NUMBERS, numbers[:2], OUTER.shape), numbers[2:], INNER.shape)
    assert first_of(view, dict(zip(STARTS, numbers, strict=True))) == want[0, 0]
    assert view.sizes == INNER.shape


def test_starts_that_are_added_up_before_they_are_clamped_are_another_window() -> None:
    numbers = (5, 9, 0, 0)
    want = cut(cut(NUMBERS, numbers[:2], OUTER.shape), numbers[2:], INNER.shape)
    assert cut(NUMBERS, numbers[:2], INNER.shape)[0, 0] != want[0, 0]
    assert first_of(views_of(*SLICES)[INNER], dict(zip(STARTS, numbers, strict=True))) == want[0, 0]


def test_static_slice_starts_at_a_number() -> None:
    result = Value(1, "f32", (3, 10))
    view = views_of(step("slice", ARRAY, result, start=(2, 0), limit=(5, 10), stride=(1, 1)))[result]
    assert view.starts == (((2, 3),), ())


def test_slice_with_a_stride_is_no_window() -> None:
    result = Value(1, "f32", (3, 10))
    assert result not in views_of(step("slice", ARRAY, result, start=(0, 0), limit=(6, 10), stride=(2, 1)))


def test_axis_of_one_element_comes_and_goes() -> None:
    row, line, tall = Value(1, "f32", (1, 10)), Value(2, "f32", (10,)), Value(3, "f32", (10, 1))
    found = views_of(
        step("dynamic_slice", ARRAY, row, *STARTS[:2], sizes=row.shape),
        step("reshape", row, line),
        step("reshape", line, tall),
    )
    assert [found[value].axes for value in (row, line, tall)] == [(0, 1), (1,), (1, None)]
    for view in (found[value] for value in (row, line, tall)):
        assert [axis for axis in view.axes if axis is not None and view.sizes[axis] > 1] == [1]
    assert found[tall].starts == (((STARTS[0], 5),), ())


def test_reshape_that_mixes_axes_is_no_window() -> None:
    result = Value(1, "f32", (10, 6))
    assert result not in views_of(step("reshape", ARRAY, result))


def test_transpose_turns_the_axes() -> None:
    result = Value(1, "f32", (10, 6))
    view = views_of(step("transpose", ARRAY, result, permutation=(1, 0)))[result]
    assert (view.axes, view.strides) == ((1, 0), (10, 1))


def test_integers_of_8_bits_are_a_window_of_wider_numbers() -> None:
    for stored, wide, known in (("i8", "f16", "i8"), ("u8", "bf16", "u8"), ("i16", "f16", None), ("i8", "f32", None)):
        array, result = Value(0, stored, (6, 16)), Value(1, wide, (6, 16))
        views = find_views([step("convert", array, result)], (array,), Memory({array: 0}, frozenset()))
        assert (views[result].stored if result in views else None) == known


def test_array_that_is_written_has_no_windows() -> None:
    assert views_of(*SLICES, written=frozenset({0})) == {}
    assert views_of(*SLICES, written=frozenset({1}))
