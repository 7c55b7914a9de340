"""Which axes of a grid may run side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax

_ATOMICS = ("atomic_rmw", "atomic_cas")


def parallel_axes(
    parameters: Mapping[str, Any],
    grid: tuple[Any, ...],
    distinct: Sequence[frozenset[int]],
    depends: Sequence[frozenset[int]],
) -> tuple[int, ...]:
    """Return the axes of the grid whose positions neither see nor overwrite each other's results.

    An axis is parallel if the kernel's author says so or writes for a GPU, if JAX made it by batching, or if every
    output has a block of its own for each of its positions and nothing is handed on in scratch memory. Atomic updates
    are only right one after the other, because references have become values. An axis whose size is an array is a loop,
    and so is one that an author calls parallel although an output is the same block all along it: such outputs serve
    as scratch memory, of which a workgroup here has none of its own.

    Args:
        parameters: of the call.
        grid: its extents.
        distinct: for each output, the axes along which its blocks differ.
        depends: for each output, the axes that move its block.
    """
    mapping, options = parameters["grid_mapping"], parameters["compiler_params"]
    known = frozenset(axis for axis, extent in enumerate(grid) if isinstance(extent, int))
    every = frozenset(range(len(grid)))
    own, moving = every.intersection(*distinct), every.intersection(*depends)
    return tuple(sorted(known & _parallel(parameters, mapping, options, own, moving)))


def _parallel(
    parameters: Mapping[str, Any], mapping: Any, options: Any, own: frozenset[int], moving: frozenset[int]
) -> frozenset[int]:
    grid = mapping.grid
    batched = own.intersection(mapping.vmapped_dims)
    if _names(parameters["jaxpr"]).intersection(_ATOMICS):
        return batched
    said = getattr(options, "dimension_semantics", None)
    if said is not None:
        # Batching puts its axes before those that the author speaks of.
        axes = [axis for axis in range(len(grid)) if len(said) == len(grid) or axis not in mapping.vmapped_dims]
        words = (str(getattr(word, "name", word)).lower() for word in said)
        return batched | moving.intersection(
            axis for axis, word in zip(axes, words, strict=False) if "parallel" in word
        )
    if _is_for_gpus(options) and (len(own) == len(grid) or not _stores_windows(parameters["jaxpr"])):
        return frozenset(range(len(grid)))
    return batched if mapping.num_scratch_operands else own


def _is_for_gpus(options: Any) -> bool:
    """Tell whether a kernel was written for JAX's GPU backends, on which every axis of the grid is parallel."""
    parts = type(options).__module__.split(".")
    return "pallas" in parts and not {"triton", "mosaic_gpu"}.isdisjoint(parts)


def _stores_windows(jaxpr: Any) -> bool:
    """Tell whether a kernel stores a window of a reference under a mask, or by a function that can take one.

    JAX makes an update of the whole array of it, and two workgroups cannot both make that.
    """
    for equation in _equations(jaxpr):
        if equation.primitive.name == "masked_swap":
            _, transforms, *_ = jax.tree.unflatten(equation.params["args_tree"], equation.invars)
            indices = [index for each in transforms for index in getattr(each, "indices", ())]
            if any(hasattr(index, "is_dynamic_start") for index in indices):
                return True
    return False


def reached_by(block: Any, grid: tuple[Any, ...], counts: Sequence[int]) -> tuple[frozenset[int], frozenset[int]]:
    """Return the grid axes that move a block, and those along which no two positions have an element in common.

    The second is known only where an axis by itself is one of the block's coordinates, and no position lies beyond the
    array: JAX moves such a block back to the last one.

    Args:
        block: JAX's description of it.
        grid: of the call.
        counts: how many blocks that do not overlap there are along each dimension; 0 where they may overlap.
    """
    jaxpr, axes = block.index_map_jaxpr.jaxpr, len(grid)
    sources: dict[Any, frozenset[int]] = {
        variable: frozenset({axis}) if axis < axes else frozenset() for axis, variable in enumerate(jaxpr.invars)
    }
    for equation in jaxpr.eqns:
        found = frozenset[int]().union(*(sources.get(each, frozenset()) for each in _variables(equation.invars)))
        sources.update(dict.fromkeys(equation.outvars, found))
    results = list(_variables(jaxpr.outvars))
    depends = frozenset[int]().union(*(sources.get(each, frozenset()) for each in results))
    distinct = frozenset(
        axis
        for axis, variable in enumerate(jaxpr.invars[:axes])
        if isinstance(grid[axis], int)
        and any(atom is variable and grid[axis] <= count for atom, count in zip(jaxpr.outvars, counts, strict=False))
    )
    return depends, distinct


def _variables(atoms: Iterable[Any]) -> Iterable[Any]:
    """Leave out literals."""
    return (atom for atom in atoms if not hasattr(atom, "val"))


def _names(jaxpr: Any) -> set[str]:
    """Return the names of the primitives in a jaxpr and in those nested in it."""
    return {equation.primitive.name for equation in _equations(jaxpr)}


def _equations(jaxpr: Any) -> Iterator[Any]:
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for nested in value if isinstance(value, tuple | list) else (value,):
                inner = getattr(nested, "jaxpr", nested)
                if hasattr(inner, "eqns"):
                    yield from _equations(inner)
