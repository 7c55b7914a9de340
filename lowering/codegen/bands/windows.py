"""Whether windows of arrays lie so that matrices can be read from and written to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import gcd

from ... import dtypes
from ...graph import Value
from ..tile.blocks import Memory, Step
from ..tile.vectors import GROUP_BYTES
from .checks import UnfitError
from .follow import ALONG, DOWN, Follows
from .views import View, updated_view


def check_windows(
    steps: Sequence[Step], memory: Memory, views: Mapping[Value, View], follows: Follows, staged: frozenset[Value]
) -> None:
    """Check the windows that tiles are read from and written to, and who reads those that are copied.

    Raises:
        UnfitError: one of them lies so that a matrix cannot be read or written.
    """
    producers = {value: step for step in steps for value in step.outputs}
    for step in steps:
        if step.op == "dynamic_update_slice":
            update = step.inputs[1]
            if update not in follows:
                raise UnfitError("an output that is no tile")
            _check_starts(updated_view(step, memory))
            _check_window(updated_view(step, memory), update, follows[update], producers)
        for value in step.inputs:
            if value in staged and value in views:
                _check_reader(step, value, views)
    for value, view in views.items():
        _check_starts(view)
        if value in follows:
            if view.stored is not None:
                raise UnfitError("integers that are widened to anything but a second factor")
            _check_window(view, value, follows[value], producers)


def check_given(given: Sequence[tuple[Value, View]], follows: Follows) -> None:
    """Check the windows that tiles fill at the end.

    Raises:
        UnfitError: as ``check_windows``.
    """
    for value, view in given:
        if value not in follows:
            raise UnfitError("an output that is no tile")
        _check_window(view, value, follows[value], {})


def _check_reader(step: Step, value: Value, views: Mapping[Value, View]) -> None:
    is_view = bool(step.outputs) and step.outputs[0] in views
    if not is_view and (step.op != "dot_general" or step.inputs[0] == value):
        raise UnfitError("a second factor that is also read otherwise")


def _check_window(view: View, value: Value, follows: Sequence[str | None], producers: Mapping[Value, Step]) -> None:
    strides = {
        place: view.strides[axis]
        for axis, place in zip(view.axes, follows, strict=True)
        if axis is not None and place is not None
    }
    if 1 not in strides.values():
        raise UnfitError("a window whose neighbours lie apart")
    if set(strides) == {DOWN, ALONG} and value.dtype == "bool":
        raise UnfitError("a window of truth values")
    group = GROUP_BYTES // dtypes.itemsize(value.dtype)
    if any(stride % group for stride in strides.values() if stride != 1):
        raise UnfitError("a window whose rows do not start at multiples of 16 bytes")
    for starts, stride in zip(view.starts, view.strides, strict=True):
        for start, limit in starts:
            if gcd(multiple_of(start, producers), limit) * stride % group:
                raise UnfitError("a window that need not start at a multiple of 16 bytes")


def _check_starts(view: View) -> None:
    for start in (start for starts in view.starts for start, _ in starts):
        if isinstance(start, Value) and start.dtype not in ("i32", "u32"):
            raise UnfitError("a start of another dtype than 32-bit integers")


def multiple_of(value: Value | int, producers: Mapping[Value, Step]) -> int:
    """Return a number that divides an integer; 0 for zero, which everything divides."""
    if isinstance(value, int):
        return abs(value)
    step = producers.get(value)
    if step is None:
        return 1
    if step.op == "constant":
        return abs(int(step.node.attributes["value"].reshape(-1)[0]))
    parts = [multiple_of(operand, producers) for operand in step.inputs if operand.dtype != "bool"]
    if step.op == "multiply":
        return parts[0] * parts[1]
    if step.op in ("add", "subtract", "select", "minimum", "maximum"):
        return gcd(*parts)
    return parts[0] if step.op in ("reshape", "convert", "broadcast_in_dim") else 1
