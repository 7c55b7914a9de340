"""A Pallas kernel as a pure function of whole arrays: what one workgroup does, from memory to memory.

    pallas_call(kernel, grid=(rows, columns, depth))          the grid of the call
        columns and rows: parallel                            -> the positions of workgroups
        depth: an output block is visited again               -> a loop inside the workgroup

    cell(row, column, *arrays) -> outputs
        for each step of depth:  blocks = slices of arrays;  kernel(blocks);  outputs = updated slices of arrays

References have become values (JAX's own state discharge), so that the cell is an ordinary JAX function. Blocks of
outputs that stay the same in the inner loops are carried through them instead of going through memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from .. import compat
from ..errors import UnsupportedError, message
from .order import parallel_axes, reached_by


@dataclass(frozen=True)
class Cell:
    """One workgroup's share of a `pallas_call`.

    Attributes:
        function: (positions along `grid`..., operands..., first contents of the outputs...) -> outputs.
        grid: sizes of the parallel axes.
        operands: types of the call's operands, each padded to whole blocks.
        outputs: types of the results, padded likewise.
        aliases: (operand, output) pairs that share memory.
        name: of the kernel.
    """

    function: Callable[..., tuple[Any, ...]]
    grid: tuple[int, ...]
    operands: tuple[jax.ShapeDtypeStruct, ...]
    outputs: tuple[jax.ShapeDtypeStruct, ...]
    aliases: tuple[tuple[int, int], ...]
    name: str

    @property
    def arguments(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        """Types of the function's arguments."""
        position = jax.ShapeDtypeStruct((), jnp.int32)
        return (*[position] * len(self.grid), *self.operands, *self.outputs)


@dataclass(frozen=True)
class Block:
    """How one operand or output is cut: `start` maps (grid position, scalars) to the block's first element."""

    start: Callable[..., tuple[Any, ...]]
    shape: tuple[int, ...]
    hidden: tuple[int, ...]
    array: jax.ShapeDtypeStruct
    depends: frozenset[int]
    distinct: frozenset[int]

    def load(self, array: Any, start: Sequence[Any]) -> Any:
        """Return the block as the kernel sees it."""
        block = lax.dynamic_slice(array, start, self.shape, allow_negative_indices=False)
        return lax.squeeze(block, self.hidden)

    def store(self, array: Any, start: Sequence[Any], value: Any) -> Any:
        """Return the array with the block replaced."""
        block = lax.expand_dims(value, self.hidden)
        return lax.dynamic_update_slice(array, block, start, allow_negative_indices=False)


def make_cell(parameters: Mapping[str, Any]) -> Cell:
    """Return the cell of a `pallas_call` with these parameters.

    Raises:
        UnsupportedError: the grid is known only at run time, or a block pads its array at the low end.
    """
    mapping = parameters["grid_mapping"]
    grid = _static_grid(parameters)
    kernel, scratch = compat.pure_kernel(parameters)
    blocks = [_block(mapping, each) for each in mapping.block_mappings]
    outputs = blocks[mapping.num_inputs :]
    aliases = tuple(parameters["input_output_aliases"])
    parallel = parallel_axes(parameters, grid, [each.distinct for each in outputs])
    run = _Run(mapping, kernel, grid, parallel, blocks, scratch, frozenset(output for _, output in aliases))
    scalars = tuple(jax.ShapeDtypeStruct(each.shape, each.dtype) for each in _scalar_types(mapping))
    return Cell(
        run.cell,
        tuple(grid[axis] for axis in parallel),
        (*scalars, *(each.array for each in blocks[: mapping.num_inputs])),
        tuple(each.array for each in outputs),
        aliases,
        parameters["name"] or "kernel",
    )


def _static_grid(parameters: Mapping[str, Any]) -> tuple[int, ...]:
    mapping = parameters["grid_mapping"]
    if mapping.num_dynamic_grid_bounds:
        raise UnsupportedError(
            message(
                "pallas_call: the grid must be known when the kernel is compiled.",
                got=f"a grid with {mapping.num_dynamic_grid_bounds} extents that are arrays",
                want="Python integers",
                fix="use the largest grid and skip work with pl.when.",
                at=parameters["name"] or "",
            )
        )
    return tuple(int(extent) for extent in mapping.grid)


def _scalar_types(mapping: Any) -> list[Any]:
    return list(mapping.index_map_avals[len(mapping.grid) :])


def _block(mapping: Any, block: Any) -> Block:
    shape, squeezed, padding = compat.block_shape(block)
    if any(pair != (0, 0) for pair in padding):
        raise UnsupportedError(
            message(
                "pallas_call: a block must not pad its array.",
                got=f"padding {padding} of {block.origin}",
                want="pl.Element without padding",
                fix="pad the array with jnp.pad before the call.",
            )
        )
    extents = tuple(-(-extent // size) * size for extent, size in zip(block.array_aval.shape, shape, strict=True))
    depends, distinct = reached_by(block, len(mapping.grid))
    return Block(
        start=lambda position, scalars: compat.block_start(mapping, block, position, scalars),
        shape=shape,
        hidden=tuple(axis for axis, is_hidden in enumerate(squeezed) if is_hidden),
        array=jax.ShapeDtypeStruct(extents, block.array_aval.dtype),
        depends=depends,
        distinct=distinct,
    )


@dataclass(frozen=True)
class _Run:
    """Everything that the nest of loops inside a cell needs."""

    mapping: Any
    kernel: Callable[..., list[Any]]
    grid: tuple[int, ...]
    parallel: tuple[int, ...]
    blocks: list[Block]
    scratch: list[Any]
    aliased: frozenset[int]

    def cell(self, *arguments: Any) -> tuple[Any, ...]:
        """Run the kernel at every position of the serial axes; see `Cell.function`."""
        count = len(self.parallel)
        position: list[Any] = [None] * len(self.grid)
        for axis, index in zip(self.parallel, arguments[:count], strict=True):
            position[axis] = index
        arrays = list(arguments[count:])
        first = self.mapping.num_index_operands + self.mapping.num_inputs
        serial = [axis for axis in range(len(self.grid)) if axis not in self.parallel]
        scratch = [jnp.zeros(each.shape, each.dtype) for each in self.scratch]
        outputs, _ = self._loops(serial, position, arrays[:first], _Outputs(tuple(arrays[first:]), {}), scratch)
        return outputs.arrays

    def _loops(
        self, serial: list[int], position: list[Any], inputs: list[Any], outputs: _Outputs, scratch: list[Any]
    ) -> tuple[_Outputs, list[Any]]:
        """Run the loops over the `serial` axes; blocks that none of them moves are loaded before and stored after."""
        still = [
            number
            for number, block in enumerate(self._output_blocks)
            if number not in outputs.held and not block.depends.intersection(serial)
        ]
        held = {number: self._first_contents(number, position, inputs, outputs) for number in still}
        outputs = _Outputs(outputs.arrays, {**outputs.held, **held})
        if serial:
            axis, *rest = serial

            def step(index: Any, carry: Any) -> Any:
                (arrays, blocks), kept = carry
                here = [index if i == axis else each for i, each in enumerate(position)]
                inner, kept = self._loops(rest, here, inputs, _Outputs(arrays, blocks), kept)
                return (inner.arrays, inner.held), kept

            state = ((outputs.arrays, outputs.held), scratch)
            (arrays, blocks), scratch = lax.fori_loop(0, self.grid[axis], step, state)
            outputs = _Outputs(arrays, blocks)
        else:
            outputs, scratch = self._kernel(position, inputs, outputs, scratch)
        return self._write_back(still, position, inputs, outputs), scratch

    def _kernel(
        self, position: list[Any], inputs: list[Any], outputs: _Outputs, scratch: list[Any]
    ) -> tuple[_Outputs, list[Any]]:
        scalars = inputs[: self.mapping.num_index_operands]
        arrays = inputs[self.mapping.num_index_operands :]
        loaded = [
            block.load(array, block.start(position, scalars))
            for block, array in zip(self.blocks[: self.mapping.num_inputs], arrays, strict=True)
        ]
        before = [outputs.held[number] for number in range(len(self._output_blocks))]
        after = self.kernel(position, *scalars, *loaded, *before, *scratch)
        first = len(scalars) + len(loaded)
        held = dict(enumerate(after[first : first + len(before)]))
        return _Outputs(outputs.arrays, held), list(after[first + len(before) :])

    @property
    def _output_blocks(self) -> list[Block]:
        return self.blocks[self.mapping.num_inputs :]

    def _first_contents(self, number: int, position: list[Any], inputs: list[Any], outputs: _Outputs) -> Any:
        """Return what an output block holds when it is first visited: nothing, unless it is an operand's memory."""
        block = self._output_blocks[number]
        outer = {axis for axis, index in enumerate(position) if index is not None}
        if number not in self.aliased and outer <= block.distinct:
            return jnp.zeros([n for axis, n in enumerate(block.shape) if axis not in block.hidden], block.array.dtype)
        scalars = inputs[: self.mapping.num_index_operands]
        return block.load(outputs.arrays[number], block.start(position, scalars))

    def _write_back(self, still: list[int], position: list[Any], inputs: list[Any], outputs: _Outputs) -> _Outputs:
        scalars = inputs[: self.mapping.num_index_operands]
        arrays, held = list(outputs.arrays), dict(outputs.held)
        for number in still:
            block = self._output_blocks[number]
            arrays[number] = block.store(arrays[number], block.start(position, scalars), held.pop(number))
        return _Outputs(tuple(arrays), held)


@dataclass(frozen=True)
class _Outputs:
    """The outputs inside the loops: whole arrays, and the blocks of them that are held outside memory."""

    arrays: tuple[Any, ...]
    held: dict[int, Any]
