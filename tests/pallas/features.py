"""What kernels ask of a backend: primitives inside them, with counts, and features of their grids.

``python -m tests.pallas.features`` prints it for the public kernels and the gallery.
"""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax


@dataclass(frozen=True)
class Kernel:
    """One ``pallas_call``.

    Args:
        primitives: how often each occurs in the kernel, in loops and branches too.
        index_primitives: the same for the index maps.
        features: what the call uses besides a static grid of blocks.
    """

    name: str
    primitives: collections.Counter[str]
    index_primitives: collections.Counter[str]
    features: frozenset[str]


def kernels_of(function: Callable[..., Any], *arrays: Any) -> list[Kernel]:
    """Trace a function, without a device, and describe every kernel in it."""
    jaxpr = jax.make_jaxpr(function)(*arrays).jaxpr
    return [_describe(equation.params) for equation in equations(jaxpr) if equation.primitive.name == "pallas_call"]


def equations(jaxpr: Any) -> Iterator[Any]:
    """Yield the equations of a jaxpr and of all inside it, but not those inside kernels."""
    for equation in jaxpr.eqns:
        yield equation
        if equation.primitive.name != "pallas_call":
            for inner in _inner(equation.params):
                yield from equations(inner)


def count(jaxpr: Any) -> collections.Counter[str]:
    """Count the primitives of a jaxpr; calls and closures are looked into and not counted."""
    return collections.Counter(equation.primitive.name for equation in equations(jaxpr))


def _inner(params: dict[str, Any]) -> Iterator[Any]:
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if hasattr(item, "eqns"):
                yield item
            elif hasattr(item, "jaxpr"):
                yield item.jaxpr


def _describe(params: dict[str, Any]) -> Kernel:
    grid = params["grid_mapping"]
    indices: collections.Counter[str] = collections.Counter()
    for block in grid.block_mappings:
        indices += count(block.index_map_jaxpr.jaxpr)
    name = params["name"] or params["jaxpr"].debug_info.func_name
    return Kernel(name, count(params["jaxpr"]), indices, frozenset(_features(params, grid)))


def _features(params: dict[str, Any], grid: Any) -> Iterator[str]:
    """Yield a word, or a word and a number, for each feature."""
    yield f"grid of {len(grid.grid)}"
    if grid.num_dynamic_grid_bounds:
        yield f"dynamic grid bounds {grid.num_dynamic_grid_bounds}"
    if grid.num_index_operands:
        yield f"scalar prefetch {grid.num_index_operands}"
    if grid.vmapped_dims:
        yield f"vmapped axes {len(grid.vmapped_dims)}"
    yield from _memory_features(params, grid)
    semantics = getattr(params["compiler_params"], "dimension_semantics", None)
    if semantics:
        yield f"semantics {', '.join(str(word).split('.')[-1].lower() for word in semantics)}"
    for block in grid.block_mappings:
        yield from (f"axis {type(axis).__name__}" for axis in block.block_shape if type(axis).__name__ != "Blocked")
        ragged = any(
            size % getattr(axis, "block_size", 1)
            for size, axis in zip(block.array_aval.shape, block.block_shape, strict=True)
        )
        if ragged:
            yield "ragged blocks"


def _memory_features(params: dict[str, Any], grid: Any) -> Iterator[str]:
    """Yield where a kernel's memory is, and what of it outlives a program."""
    for ref in params["jaxpr"].invars[len(params["jaxpr"].invars) - grid.num_scratch_operands :]:
        yield f"scratch in {ref.aval.memory_space}"
    if params["input_output_aliases"]:
        yield f"aliases {len(params['input_output_aliases'])}"
    for block in grid.block_mappings[grid.num_inputs :]:
        kept = [axis for axis in range(len(grid.grid)) if not _depends(block.index_map_jaxpr.jaxpr, axis)]
        if kept:
            yield f"an output block kept along axes {kept}"
    for block in grid.block_mappings:
        yield f"blocks in {block.transformed_block_aval.memory_space}"


def _depends(jaxpr: Any, axis: int) -> bool:
    """Say whether an index map looks at one of its arguments."""
    used = [*jaxpr.outvars, *(atom for equation in jaxpr.eqns for atom in equation.invars)]
    return any(atom is jaxpr.invars[axis] for atom in used)


def _report(name: str, kernels: list[Kernel]) -> None:
    for kernel in kernels:
        print(f"{name} [{kernel.name}]: {'; '.join(sorted(kernel.features))}")
        for title, counts in (("kernel", kernel.primitives), ("index maps", kernel.index_primitives)):
            print(f"  {title}: {', '.join(f'{key} {number}' for key, number in sorted(counts.items())) or 'nothing'}")


def _main() -> None:
    from tests.gallery.cases import ROWS as GALLERY
    from tests.gallery.cases import at
    from tests.gallery.compare import weighted
    from tests.pallas.public import ROWS as PUBLIC

    everything: collections.Counter[str] = collections.Counter()
    for row in PUBLIC:
        kernels = kernels_of(row.function, *row.arrays)
        _report(row.name, kernels)
        everything.update(key for kernel in kernels for key in kernel.primitives)
    for row in GALLERY:
        case = at(row.name, 19)
        function = case.function(interpret=False)
        if row.gradients:
            function = jax.grad(functools.partial(weighted, function), argnums=row.gradients)
        kernels = kernels_of(function, *case.arrays)
        _report(f"gallery.{row.name}", kernels)
        everything.update(key for kernel in kernels for key in kernel.primitives)
    print(f"kernels with each primitive: {', '.join(f'{key} {n}' for key, n in everything.most_common())}")


if __name__ == "__main__":
    _main()
