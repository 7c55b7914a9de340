"""Which axes of a grid may run side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_ATOMICS = ("atomic_rmw", "atomic_cas")


def parallel_axes(
    parameters: Mapping[str, Any], grid: tuple[int, ...], distinct: Iterable[frozenset[int]]
) -> tuple[int, ...]:
    """Return the axes of the grid whose positions neither see nor overwrite each other's results.

    An axis is parallel if the kernel's author says so, if JAX made it by batching, or if every output has a block of
    its own for each of its positions and nothing is handed on in scratch memory. Atomic updates are only right one
    after the other, because references have become values.

    Args:
        parameters: of the call.
        grid: its extents.
        distinct: for each output, the axes along which its blocks differ.
    """
    mapping, options = parameters["grid_mapping"], parameters["compiler_params"]
    own = frozenset(range(len(grid))).intersection(*distinct)
    batched = own.intersection(mapping.vmapped_dims)
    if _names(parameters["jaxpr"]).intersection(_ATOMICS):
        return tuple(sorted(batched))
    said = getattr(options, "dimension_semantics", None)
    if said is not None:
        free = {axis for axis, word in enumerate(said) if "parallel" in str(getattr(word, "name", word)).lower()}
        return tuple(sorted(batched | free))
    if getattr(options, "BACKEND", "") == "triton":
        return tuple(range(len(grid)))
    return tuple(sorted(batched if mapping.num_scratch_operands else own))


def reached_by(block: Any, axes: int) -> tuple[frozenset[int], frozenset[int]]:
    """Return the grid axes that move a block, and those along which no two positions have the same block.

    The second is known only where an axis by itself is one of the block's coordinates.
    """
    jaxpr = block.index_map_jaxpr.jaxpr
    sources: dict[Any, frozenset[int]] = {
        variable: frozenset({axis}) if axis < axes else frozenset() for axis, variable in enumerate(jaxpr.invars)
    }
    for equation in jaxpr.eqns:
        found = frozenset[int]().union(*(sources.get(each, frozenset()) for each in _variables(equation.invars)))
        sources.update(dict.fromkeys(equation.outvars, found))
    results = list(_variables(jaxpr.outvars))
    depends = frozenset[int]().union(*(sources.get(each, frozenset()) for each in results))
    distinct = frozenset(axis for axis, variable in enumerate(jaxpr.invars[:axes]) if variable in results)
    return depends, distinct


def _variables(atoms: Iterable[Any]) -> Iterable[Any]:
    """Leave out literals."""
    return (atom for atom in atoms if not hasattr(atom, "val"))


def _names(jaxpr: Any) -> set[str]:
    """Return the names of the primitives in a jaxpr and in those nested in it."""
    found: set[str] = set()
    for equation in jaxpr.eqns:
        found.add(equation.primitive.name)
        for value in equation.params.values():
            for nested in value if isinstance(value, tuple | list) else (value,):
                inner = getattr(nested, "jaxpr", nested)
                if hasattr(inner, "eqns"):
                    found |= _names(inner)
    return found
