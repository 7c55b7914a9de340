"""Functions of one entry of a batch that know what they run on: tiles and the way through a batch follow from it.

    run = on_target(function, results, *operands, at_once=2);  function(target, *operands) -> arrays like ``results``

The target is chosen when a program is lowered. ``jax.vmap`` moves no operand: it notes where each one has its axis of
entries. On `vulkan` entries become programs of the kernels, axes in front. Elsewhere a loop cuts as many entries at a
time out of the operands as it is told, and puts their results in place.
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


def on_target(function: Callable[..., Any], results: Any, *operands: Any, at_once: int = 1) -> Any:
    """Call a function of a target and operands for the target of the program that it becomes part of.

    Derivatives are the caller's business.

    Args:
        function: (target, operands) -> arrays; the same up to rounding for each target.
        results: a tree of their shapes and dtypes.
        operands: trees of arrays.
        at_once: entries of a batch that a loop takes at a time, at most.
    """
    arrays, structure = jax.tree.flatten(operands)
    shapes, tree = jax.tree.flatten(results)
    found = _on_target.bind(*arrays, call=_Call(function, structure, tuple(shapes), max(1, at_once)))
    return jax.tree.unflatten(tree, found)


def _choose(call: _Call, *arrays: Array) -> list[Array]:
    return lax.platform_dependent(
        *arrays, vulkan=partial(_map_in_front, call), default=lambda *each: _loop_over(call)(*each)
    )


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


def _loop_over(call: _Call) -> Callable[..., list[Array]]:
    """Return the function of all entries that takes some at a time.

    Loops hold results with axes of entries where the first operand has them, as most callers want them in the end: the
    last transposition and the caller's own cancel, and results are made once.
    """
    kept = tuple(_as_operands(call, number) for number in range(len(call.axes)))
    function, room, inner = partial(call.run, Target.LOOP), call.at_once, replace(call, axes=())
    for entries in kept:
        inner = replace(inner, axes=(*inner.axes, entries))
        some = largest_divisor(max(1, entries.count), max(1, room))
        function, room = _some_at_a_time(function, entries, some, inner), room // max(1, entries.count)
    held, asked = _orders(replace(call, axes=kept)), _orders(call)
    orders = [list(map(one.index, other)) for one, other in zip(held, asked, strict=True)]
    return lambda *arrays: [jnp.transpose(each, order) for each, order in zip(function(*arrays), orders, strict=True)]


def _as_operands(call: _Call, number: int) -> _Entries:
    """Return one axis of entries, in results where the first operand that has it does."""
    entries = call.axes[number]
    place = next(axis for axis in entries.operands if axis is not None)
    return replace(entries, results=tuple(min(place, len(each.shape) + number) for each in call.results))


def _orders(call: _Call) -> list[list[tuple[str, int]]]:
    """Name the axes of each result in their order: its own, and those of entries."""
    orders = [[("own", axis) for axis in range(len(each.shape))] for each in call.results]
    for number, entries in enumerate(call.axes):
        for order, at in zip(orders, entries.results, strict=True):
            order.insert(at, ("entries", number))
    return orders


def _some_at_a_time(
    function: Callable[..., list[Array]], entries: _Entries, some: int, call: _Call
) -> Callable[..., list[Array]]:
    """Return a function of all entries of one axis, made of the function of one of them."""
    if entries.count == 0:
        return lambda *arrays: call.zeros()
    if some > 1:
        function = jax.vmap(function, entries.operands, list(entries.results))
    if some == entries.count > 1:
        return function

    def step(arrays: Sequence[Array], number: Array, held: list[Array]) -> list[Array]:
        found = function(*(_cut(each, number, axis, some) for each, axis in zip(arrays, entries.operands, strict=True)))
        return [
            lax.dynamic_update_slice_in_dim(
                whole, lax.expand_dims(part, (at,)) if some == 1 else part, number * some, at
            )
            for whole, part, at in zip(held, found, entries.results, strict=True)
        ]

    def run(*arrays: Array) -> list[Array]:
        return lax.fori_loop(0, entries.count // some, partial(step, arrays), call.zeros())

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
