"""Functions of one entry of a batch that know what they run on: tiles and the way through a batch follow from it.

    run = on_target(function, results, *operands, at_once=2);  function(target, *operands) -> arrays like ``results``

The target is chosen when a program is lowered. ``jax.vmap`` moves no operand: it notes where each one has its axis of
entries. On `vulkan` entries become programs of the kernels, axes in front. Elsewhere a loop cuts as many entries at a
time out of the operands as it is told, and puts their results in place; where an operand was made for it, in its place.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir
from jaxtyping import Array

from .call import Kernel, call_pallas, execute
from .storage import largest_divisor


class Target(enum.Enum):
    """What kernels are made for: the platform `vulkan`, or a loop in JAX operations, on any other."""

    VULKAN = enum.auto()
    LOOP = enum.auto()

    def launch(self, kernel: Kernel, *operands: Array) -> list[Array]:
        """Run a kernel that was made for this target."""
        return (call_pallas if self is Target.VULKAN else execute)(kernel, *operands)


@dataclass(frozen=True)
class _Entries:
    """An axis of entries: how many there are, and where operands and results have it; None where all share one."""

    count: int
    operands: tuple[int | None, ...]
    results: tuple[int, ...]


@dataclass(frozen=True)
class _Call:
    """What is called, for which axes of entries, the innermost first."""

    function: Callable[..., Any]
    structure: Any
    results: tuple[jax.ShapeDtypeStruct, ...]
    at_once: int
    made: int = 0
    axes: tuple[_Entries, ...] = ()

    def run(self, target: Target, *arrays: Array) -> list[Array]:
        """Compute one entry."""
        return jax.tree.leaves(self.function(target, *jax.tree.unflatten(self.structure, arrays)))

    def result_shapes(self) -> list[tuple[int, ...]]:
        """Return the shapes of all entries' results."""
        shapes = [each.shape for each in self.results]
        for entries in self.axes:
            shapes = [_insert(shape, at, entries.count) for shape, at in zip(shapes, entries.results, strict=True)]
        return shapes

    def zeros(self) -> list[Array]:
        """Return zeros like all entries' results."""
        return [jnp.zeros(shape, each.dtype) for shape, each in zip(self.result_shapes(), self.results, strict=True)]


def on_target(
    function: Callable[..., Any], results: Any, *operands: Any, at_once: int = 1, made: Sequence[Any] = ()
) -> Any:
    """Call a function of a target and operands for the target of the program that it becomes part of.

    Derivatives are the caller's business.

    Args:
        function: (target, operands, made) -> arrays; the same up to rounding for each target.
        results: a tree of their shapes and dtypes.
        operands: trees of arrays.
        at_once: entries of a batch that a loop takes at a time, at most.
        made: more operands, which former calls of the same entries made or which belong to what these made. A loop has
            their axes of entries where the first operand has them, and puts results like them in their place.
    """
    arrays, structure = jax.tree.flatten((*operands, *made))
    shapes, tree = jax.tree.flatten(results)
    call = _Call(function, structure, tuple(shapes), max(1, at_once), len(jax.tree.leaves(list(made))))
    return jax.tree.unflatten(tree, _on_target.bind(*arrays, call=call))


def _choose(call: _Call, *arrays: Array) -> list[Array]:
    return lax.platform_dependent(*arrays, vulkan=partial(_map_in_front, call), default=partial(_loop_over, call))


def _map_in_front(call: _Call, *arrays: Array) -> list[Array]:
    """Map over all entries, whose axes are moved in front of everything else."""
    if not call.axes:
        return call.run(Target.VULKAN, *arrays)
    *inner, entries = call.axes
    axes = entries.operands
    front = [each if axis is None else jnp.moveaxis(each, axis, 0) for each, axis in zip(arrays, axes, strict=True)]
    mapped = jax.vmap(
        partial(_map_in_front, replace(call, axes=tuple(inner))), tuple(None if axis is None else 0 for axis in axes)
    )
    return [jnp.moveaxis(each, 0, at) for each, at in zip(mapped(*front), entries.results, strict=True)]


def _loop_over(call: _Call, *arrays: Array) -> list[Array]:
    """Compute all entries, some at a time.

    Loops hold results, and what was made for them, with axes of entries where the first operand has them, as most
    callers want results in the end: transpositions and the caller's own cancel, and each array is made once.
    """
    asked = [_order(each.ndim, _places(call, number)) for number, each in enumerate(arrays)]
    kept = tuple(_as_first(call, number, asked) for number in range(len(call.axes)))
    inside = replace(call, axes=kept)
    held = [_order(each.ndim, _places(inside, number)) for number, each in enumerate(arrays)]
    moved = [_reorder(each, *orders) for each, *orders in zip(arrays, asked, held, strict=True)]
    starts = _starts(inside, moved, held)
    function, room, inner = partial(call.run, Target.LOOP), call.at_once, replace(call, axes=())
    for entries in kept:
        inner = replace(inner, axes=(*inner.axes, entries))
        some = largest_divisor(max(1, entries.count), max(1, room))
        function, room = _some_at_a_time(function, entries, some, inner, starts), room // max(1, entries.count)
    results = function(*moved)
    return [
        _reorder(each, *(_order(each.ndim, tuple(axis.results[number] for axis in axes)) for axes in (kept, call.axes)))
        for number, each in enumerate(results)
    ]


_Order = list[tuple[str, int]]


def _places(call: _Call, number: int) -> tuple[int | None, ...]:
    """Return where an operand has each axis of entries."""
    return tuple(entries.operands[number] for entries in call.axes)


def _order(rank: int, places: Sequence[int | None]) -> _Order:
    """Name the axes of an array in their order: its own, and those of entries."""
    order = [("own", axis) for axis in range(rank - sum(place is not None for place in places))]
    for number, place in enumerate(places):
        if place is not None:
            order.insert(place, ("entries", number))
    return order


def _reorder(array: Array, one: _Order, other: _Order) -> Array:
    return jnp.transpose(array, list(map(one.index, other)))


def _as_first(call: _Call, number: int, orders: Sequence[_Order]) -> _Entries:
    """Return one axis of entries, in results and in what was made for them where the first operand that has it does."""
    entries = call.axes[number]
    first = next(axis for axis in entries.operands if axis is not None)
    operands = list(entries.operands)
    for operand in range(len(operands) - call.made, len(operands)):
        if operands[operand] is not None:
            # Axes of entries further out are not there yet.
            inner = sum(kind == "own" or axis < number for kind, axis in orders[operand])
            operands[operand] = min(first, inner)
    results = tuple(min(first, len(each.shape) + number) for each in call.results)
    return replace(entries, operands=tuple(operands), results=results)


def _starts(call: _Call, arrays: Sequence[Array], orders: Sequence[_Order]) -> dict[int, int]:
    """Choose which operand that was made for a call each result is put in the place of."""
    left, starts = list(range(len(arrays) - call.made, len(arrays))), {}
    for result, (shape, each) in enumerate(zip(call.result_shapes(), call.results, strict=True)):
        places = tuple(entries.results[result] for entries in call.axes)
        like = (shape, each.dtype, _order(len(shape), places))
        alike = [at for at in left if (arrays[at].shape, arrays[at].dtype, orders[at]) == like]
        if alike:
            starts[result] = alike[0]
            left.remove(alike[0])
    return starts


def _some_at_a_time(
    function: Callable[..., list[Array]], entries: _Entries, some: int, call: _Call, starts: dict[int, int]
) -> Callable[..., list[Array]]:
    """Return a function of all entries of one axis, made of the function of one of them."""
    if entries.count == 0:
        return lambda *arrays: call.zeros()
    if some > 1:
        function = jax.vmap(function, entries.operands, list(entries.results))
    if some == entries.count > 1:
        return function
    places = {operand: result for result, operand in starts.items()}

    def step(arrays: Sequence[Array], number: Array, held: list[Array]) -> list[Array]:
        # An entry of what a result takes the place of is read where it is overwritten, in no other step.
        given = [held[places[at]] if at in places else each for at, each in enumerate(arrays)]
        found = function(*(_cut(each, number, axis, some) for each, axis in zip(given, entries.operands, strict=True)))
        return [
            lax.dynamic_update_slice_in_dim(
                whole, lax.expand_dims(part, (at,)) if some == 1 else part, number * some, at
            )
            for whole, part, at in zip(held, found, entries.results, strict=True)
        ]

    def run(*arrays: Array) -> list[Array]:
        held = [arrays[starts[at]] if at in starts else zeros for at, zeros in enumerate(call.zeros())]
        return lax.fori_loop(0, entries.count // some, partial(step, arrays), held)

    return run


def _cut(array: Array, number: Array, axis: int | None, some: int) -> Array:
    if axis is None:
        return array
    part = lax.dynamic_slice_in_dim(array, number * some, some, axis)
    return lax.squeeze(part, (axis,)) if some == 1 else part


def _insert(shape: tuple[int, ...], at: int, size: int) -> tuple[int, ...]:
    return (*shape[:at], size, *shape[at:])


_on_target = Primitive("on_target")
_on_target.multiple_results = True
_on_target.def_impl(lambda *arrays, call: jax.jit(partial(_choose, call))(*arrays))


@_on_target.def_abstract_eval
def _abstract(*arrays: Any, call: _Call) -> list[ShapedArray]:
    del arrays
    return [ShapedArray(shape, each.dtype) for shape, each in zip(call.result_shapes(), call.results, strict=True)]


def _batch(arrays: Sequence[Array], axes: Sequence[int | None], *, call: _Call) -> tuple[list[Array], tuple[int, ...]]:
    """Note one more axis of entries. Results have it in front, as the rules of derivatives of those who call have."""
    count = next(each.shape[axis] for each, axis in zip(arrays, axes, strict=True) if axis is not None)
    places = (0,) * len(call.results)
    call = replace(call, axes=(*call.axes, _Entries(count, tuple(axes), places)))
    return _on_target.bind(*arrays, call=call), places


batching.primitive_batchers[_on_target] = _batch
mlir.register_lowering(
    _on_target,
    lambda context, *arrays, call: mlir.lower_fun(partial(_choose, call), multiple_results=True)(context, *arrays),
)
