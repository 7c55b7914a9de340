"""Windows of arrays: what slices, reshapes and squeezed axes of a kernel's arrays come down to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ...graph import Value
from ..tile.blocks import Block, Memory, Step

# Integers that every number of 16 bits holds, and which are therefore widened on their way.
_SMALL = ("i8", "u8")
_WIDER = ("f16", "bf16")

Start = tuple[Value | int, int]
"""A start along an axis of an array, and the largest that it is clamped to."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A window of an array.

    Attributes:
        number: of the array.
        shape: of the array.
        starts: for each axis of the array, what is added up to the window's start.
        sizes: of the window along each axis of the array.
        axes: which axis of the array each axis of the value is; None for axes of one element.
        stored: dtype of the array, where it is one of integers that the value has widened; None where they are alike.
    """

    number: int
    shape: tuple[int, ...]
    starts: tuple[tuple[Start, ...], ...]
    sizes: tuple[int, ...]
    axes: tuple[int | None, ...]
    stored: str | None = None

    @property
    def strides(self) -> tuple[int, ...]:
        """Elements between neighbours along each axis of the array."""
        found, total = [], 1
        for extent in reversed(self.shape):
            found.append(total)
            total *= extent
        return tuple(reversed(found))


def is_grouped(view: View, width: int = 4) -> bool:
    """Tell whether rows of a window begin at multiples of so many elements of their array."""
    return view.shape[-1] % width == 0 and all(
        isinstance(start, int) and start % width == 0 for start, _ in view.starts[-1]
    )


def find_views(steps: list[Step], arguments: tuple[Value, ...], memory: Memory) -> dict[Value, View]:
    """Return every value that is a window of an array which the cell only reads."""
    views: dict[Value, View] = {}
    for value in arguments:
        number = memory.arrays.get(value)
        if number is not None and number not in memory.written:
            views[value] = _whole(number, value.shape)
    for step in steps:
        if step.inputs and step.inputs[0] in views and len(step.outputs) == 1:
            found = _moved(step, views)
            if found is not None:
                views[step.outputs[0]] = found
    return views


def updated_view(step: Step, memory: Memory) -> View:
    """Return the window that an update writes."""
    target, update, *starts = step.inputs
    begins = tuple(
        ((start, extent - size),) if extent != size else ()
        for start, extent, size in zip(starts, target.shape, update.shape, strict=True)
    )
    return View(memory.arrays[target], target.shape, begins, update.shape, tuple(range(len(target.shape))))


def given_views(cell: Block, memory: Memory) -> tuple[tuple[Value, View], ...]:
    """Return the outputs that are tiles and no states of their arrays, with the window that each one fills."""
    first = sum(value in memory.arrays for value in cell.inputs) - len(cell.outputs)
    found = []
    for number, value in enumerate(cell.outputs, first):
        if memory.arrays.get(value) != number:
            found.append((value, _whole(number, value.shape)))
    return tuple(found)


def _whole(number: int, shape: tuple[int, ...]) -> View:
    return View(number, shape, ((),) * len(shape), shape, tuple(range(len(shape))))


def _moved(step: Step, views: Mapping[Value, View]) -> View | None:
    view, result = views[step.inputs[0]], step.outputs[0]
    if step.op == "dynamic_slice":
        return _sliced(view, step.inputs[1:], step.inputs[0].shape, result.shape)
    if step.op == "slice" and all(stride == 1 for stride in step.node.attributes["stride"]):
        return _sliced(view, step.node.attributes["start"], step.inputs[0].shape, result.shape)
    if step.op == "reshape":
        return _reshaped(view, step.inputs[0].shape, result.shape)
    if step.op == "convert" and step.inputs[0].dtype in _SMALL and result.dtype in _WIDER:
        return replace(view, stored=step.inputs[0].dtype)
    if step.op == "transpose":
        return replace(view, axes=tuple(view.axes[axis] for axis in step.node.attributes["permutation"]))
    return None


def _sliced(view: View, starts: tuple[Value | int, ...], shape: tuple[int, ...], window: tuple[int, ...]) -> View:
    begins, sizes = list(view.starts), list(view.sizes)
    for place, (start, extent, size) in enumerate(zip(starts, shape, window, strict=True)):
        axis = view.axes[place]
        if axis is None or extent == size:
            continue
        begins[axis] = (*begins[axis], (start, extent - size))
        sizes[axis] = size
    return replace(view, starts=tuple(begins), sizes=tuple(sizes))


def _reshaped(view: View, before: tuple[int, ...], after: tuple[int, ...]) -> View | None:
    """Keep the axes if only axes of one element come or go."""
    wide = [axis for axis, extent in enumerate(before) if extent != 1]
    if [before[axis] for axis in wide] != [extent for extent in after if extent != 1]:
        return None
    rest = iter(wide)
    return replace(view, axes=tuple(view.axes[next(rest)] if extent != 1 else None for extent in after))
