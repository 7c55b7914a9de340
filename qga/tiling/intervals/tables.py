"""Rules of reading an array at a place that lies between two: the least and the largest element on the way.

Elements of every run of 2^level places are looked over once; any run is the union of two of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from .box import Box, is_truth, limits, unless
from .graph import Step

# Elements of all levels that are kept at once; of larger tables, one level after the other.
_HELD = 2**22


def range_of(table: Box, axis: int, first: Any, last: Any) -> Box:
    """Bound elements of a table between places ``first`` and ``last`` along an axis, both within it.

    Args:
        table: its elements, which may be boxes themselves.
        axis: along which it is read.
        first: [size].
        last: [size], not before ``first``.
    """
    if is_truth(table):
        whole = range_of(Box(table.low.astype(jnp.int32), table.high.astype(jnp.int32)), axis, first, last)
        return Box(whole.low.astype(bool), whole.high.astype(bool))
    return Box(
        _extreme(jnp.minimum, table.low, axis, first, last), _extreme(jnp.maximum, table.high, axis, first, last)
    )


def _extreme(pick: Callable[[Any, Any], Any], table: Any, axis: int, first: Any, last: Any) -> Any:
    rows = jnp.moveaxis(table, axis, 0)
    count = len(rows).bit_length()
    level = jnp.minimum(31 - lax.clz(jnp.maximum(last - first + 1, 1)), count - 1)
    # Both runs are within the axis.
    ends = (first, last + 1 - jnp.left_shift(jnp.int32(1), level))
    if count * rows.size <= _HELD:
        every, start = jnp.concatenate(list(_levels(pick, rows))), level * len(rows)
        return jnp.moveaxis(pick(*(jnp.take(every, start + end, axis=0, mode="clip") for end in ends)), 0, axis)
    found = jnp.take(rows, first, axis=0, mode="clip")
    here = level.reshape(-1, *(1,) * (rows.ndim - 1))
    for number, runs in enumerate(_levels(pick, rows)):
        found = jnp.where(here == number, pick(*(jnp.take(runs, end, axis=0, mode="clip") for end in ends)), found)
    return jnp.moveaxis(found, 0, axis)


def _levels(pick: Callable[[Any, Any], Any], rows: Any) -> Iterator[Any]:
    """Yield the extremes of every run of 1, 2, 4, ... rows, by its first row; behind the last whole run, anything."""
    run = 1
    yield rows
    while 2 * run <= len(rows):
        rows = pick(rows, jnp.concatenate([rows[run:], rows[:run]]))
        yield rows
        run *= 2


def dynamic_slice(step: Step, table: Box, *starts: Box) -> Box:
    """Bound a part of an array whose first place lies between two."""
    return slice_of(table, starts, step.params["slice_sizes"])


def slice_of(table: Box, starts: tuple[Box, ...] | list[Box], sizes: tuple[int, ...]) -> Box:
    """Bound a part of an array; a place outside counts as the nearest inside."""
    lengths = table.low.shape
    moving = [axis for axis, start in enumerate(starts) if not start.is_point and sizes[axis] < lengths[axis]]
    fixed = [
        jnp.zeros((), jnp.int32) if axis in moving else _clipped(start.low, lengths[axis] - sizes[axis])
        for axis, start in enumerate(starts)
    ]
    kept = [lengths[axis] if axis in moving else size for axis, size in enumerate(sizes)]
    low, high = (lax.dynamic_slice(end, fixed, kept) for end in (table.low, table.high))
    part = Box(low, high)
    for axis in moving:
        first, last = (_clipped(end, lengths[axis] - sizes[axis]) for end in (starts[axis].low, starts[axis].high))
        places = jnp.arange(sizes[axis], dtype=jnp.int32)
        part = range_of(part, axis, first + places, last + places)
    return part


def _clipped(place: Any, most: int) -> Any:
    place = jnp.asarray(place)
    most = min(most, int(limits(place.dtype)[1]))
    return jnp.clip(place, 0, most).astype(jnp.int32)


def gather(step: Step, table: Box, places: Box) -> Box:
    """Bound elements or parts of an array, each at a place of its own."""
    if places.is_point:
        low, high = (step.run(end, places.low)[0] for end in (table.low, table.high))
        return Box(low, high)
    numbers, sizes = step.params["dimension_numbers"], step.params["slice_sizes"]
    batch = places.low.shape[:-1]

    def one(low: Any, high: Any) -> tuple[Any, Any]:
        part = _part(step, table, Box(low, high))
        return part.low, part.high

    flat = [end.reshape(-1, end.shape[-1]) for end in (places.low, places.high)]
    low, high = jax.vmap(one)(*flat)
    kept = [size for axis, size in enumerate(sizes) if axis not in numbers.collapsed_slice_dims]
    behind = tuple(range(len(batch), len(batch) + len(kept)))
    low, high = (jnp.moveaxis(end.reshape(*batch, *kept), behind, numbers.offset_dims) for end in (low, high))
    return Box(low, high)


def _part(step: Step, table: Box, place: Box) -> Box:
    """Bound what is read at one place."""
    numbers, sizes = step.params["dimension_numbers"], step.params["slice_sizes"]
    zero = jnp.zeros((), jnp.int32)
    starts = [Box(zero, zero, is_point=True) for _ in sizes]
    outside = jnp.zeros((), bool)
    for number, axis in enumerate(numbers.start_index_map):
        starts[axis] = Box(place.low[number], place.high[number])
        most = min(table.low.shape[axis] - sizes[axis], int(limits(place.low.dtype)[1]))
        outside |= (place.low[number] < 0) | (place.high[number] > most)
    part = slice_of(table, starts, sizes)
    low, high = (jnp.squeeze(end, numbers.collapsed_slice_dims) for end in (part.low, part.high))
    part = Box(low, high)
    return part if step.params["mode"] == lax.GatherScatterMode.CLIP else unless(outside, part)


def is_read(step: Step) -> bool:
    """Tell whether there is a rule for reading at these places."""
    return step.primitive.name != "gather" or not step.params["dimension_numbers"].operand_batching_dims
