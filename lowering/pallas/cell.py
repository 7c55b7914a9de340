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
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from .. import compat
from ..errors import UnsupportedError, message
from .order import parallel_axes, reached_by
from .params import Options


@dataclass(frozen=True)
class Cell:
    """One workgroup's share of a `pallas_call`.

    Attributes:
        function: (positions along `grid`..., operands..., first contents of the outputs...) -> outputs.
        grid: sizes of the parallel axes.
        operands: types of the call's operands, each padded to whole blocks.
        outputs: types of the results, padded likewise.
        aliases: (operand, output) pairs that share memory.
        again: operands of such pairs that come once more, behind the others: they are read where an output may have
            been written already.
        name: of the kernel.
        options: what its author asks of the compiler.
    """

    function: Callable[..., tuple[Any, ...]]
    grid: tuple[int, ...]
    operands: tuple[jax.ShapeDtypeStruct, ...]
    outputs: tuple[jax.ShapeDtypeStruct, ...]
    aliases: tuple[tuple[int, int], ...]
    again: tuple[int, ...]
    name: str
    options: dict[str, int]

    @property
    def arguments(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        """Types of the function's arguments."""
        position = jax.ShapeDtypeStruct((), jnp.int32)
        return (*[position] * len(self.grid), *self.operands, *self.outputs)


@dataclass(frozen=True)
class Block:
    """How one operand or output is cut.

    Attributes:
        source: JAX's own description.
        shape: of the block in its array.
        hidden: dimensions that the kernel does not see.
        array: type of the array, padded to whole blocks.
        depends: axes of the grid that move the block.
        distinct: axes of the grid along which no two positions have the same block.
    """

    source: Any
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
        UnsupportedError: a block pads its array or has no fixed extents, or JAX cannot write the kernel with values.
    """
    mapping = parameters["grid_mapping"]
    grid = tuple(mapping.grid)
    kernel, scratch = _pure_kernel(parameters)
    blocks = [_block(mapping, each) for each in mapping.block_mappings]
    outputs = blocks[mapping.num_inputs :]
    before = mapping.num_dynamic_grid_bounds
    aliases = tuple((before + operand, output) for operand, output in parameters["input_output_aliases"])
    hidden = before + mapping.num_index_operands
    again = tuple(
        operand
        for operand, output in aliases
        if operand < hidden or not _is_read_in_place(blocks[operand - hidden], outputs[output], grid)
    )
    parallel = parallel_axes(parameters, grid, [each.distinct for each in outputs], [each.depends for each in outputs])
    run = _Run(mapping, kernel, grid, parallel, blocks, scratch, frozenset(output for _, output in aliases), again)
    bounds = (jax.ShapeDtypeStruct((), jnp.int32),) * mapping.num_dynamic_grid_bounds
    scalars = tuple(jax.ShapeDtypeStruct(each.shape, each.dtype) for each in _scalar_types(mapping))
    operands = (*bounds, *scalars, *(each.array for each in blocks[: mapping.num_inputs]))
    return Cell(
        run.cell,
        tuple(grid[axis] for axis in parallel),
        (*operands, *(operands[number] for number in again)),
        tuple(each.array for each in outputs),
        aliases,
        again,
        parameters["name"] or "kernel",
        _options(parameters["compiler_params"]),
    )


def _options(given: Any) -> dict[str, int]:
    """Return what the kernel's author asks of code; what other compilers are asked means nothing here."""
    return given.options() if isinstance(given, Options) else {}


def _pure_kernel(parameters: Mapping[str, Any]) -> tuple[Callable[..., list[Any]], list[Any]]:
    try:
        return compat.pure_kernel(parameters)
    except NotImplementedError as error:
        raise UnsupportedError(
            message(
                "pallas_call: JAX must be able to write a kernel's references as values.",
                got=f"{str(error) or 'an access'} that its interpreter does not know either",
                want="loads and stores by pl.ds, integers, or arrays of indices along all axes",
                fix="run the call with interpret=True to see where JAX stops, and write this access differently.",
                at=parameters["name"] or "",
                stage="pallas",
            )
        ) from error


def _is_read_in_place(operand: Block, output: Block, grid: tuple[Any, ...]) -> bool:
    """Tell whether an operand may lie in an output's memory: each block is read and written in one visit, in order."""
    same_map = str(operand.source.index_map_jaxpr) == str(output.source.index_map_jaxpr)
    visited_once = all(axis in output.distinct or extent == 1 for axis, extent in enumerate(grid))
    return same_map and visited_once and operand.shape == output.shape != output.array.shape


def _scalar_types(mapping: Any) -> list[Any]:
    return list(mapping.index_map_avals[len(mapping.grid) :])


def _block(mapping: Any, block: Any) -> Block:
    _require_plain(block)
    shape, squeezed, padding = compat.block_shape(block)
    if any(pair != (0, 0) for pair in padding):
        raise UnsupportedError(
            message(
                "pallas_call: a block must not pad its array.",
                got=f"padding {padding} of {block.origin}",
                want="pl.Element without padding",
                fix="pad the array with jnp.pad before the call.",
                stage="pallas",
            )
        )
    extents = tuple(-(-extent // size) * size for extent, size in zip(block.array_aval.shape, shape, strict=True))
    counts = [
        1 if size == extent else 0 if is_moved else -(-extent // size)
        for extent, size, is_moved in zip(block.array_aval.shape, shape, compat.moved_by_elements(block), strict=True)
    ]
    depends, distinct = reached_by(block, tuple(mapping.grid), counts)
    return Block(
        source=block,
        shape=shape,
        hidden=tuple(axis for axis, is_hidden in enumerate(squeezed) if is_hidden),
        array=jax.ShapeDtypeStruct(extents, block.array_aval.dtype),
        depends=depends,
        distinct=distinct,
    )


def _require_plain(block: Any) -> None:
    """Refuse blocks whose extents or places are known only at run time.

    Raises:
        UnsupportedError: a dimension is a pl.BoundedSlice or an array of indices.
    """
    unknown = compat.unknown_dimensions(block)
    if unknown:
        raise UnsupportedError(
            message(
                "pallas_call: a block must be a rectangle of fixed extents.",
                got=f"{', '.join(unknown)} of {block.origin}",
                want="integers, None, pl.Squeezed, pl.Blocked or pl.Element",
                fix="use pl.Element and mask what is too much, or read with pl.ds inside the kernel.",
                stage="pallas",
            )
        )


@dataclass(frozen=True)
class _Run:
    """Everything that the nest of loops inside a cell needs."""

    mapping: Any
    kernel: Callable[..., list[Any]]
    grid: tuple[Any, ...]
    parallel: tuple[int, ...]
    blocks: list[Block]
    scratch: list[Any]
    aliased: frozenset[int]
    again: tuple[int, ...]

    def cell(self, *arguments: Any) -> tuple[Any, ...]:
        """Run the kernel at every position of the serial axes; see `Cell.function`."""
        rest = iter(arguments)
        position = [next(rest) if axis in self.parallel else None for axis in range(len(self.grid))]
        sizes = tuple(extent if isinstance(extent, int) else next(rest) for extent in self.grid)
        inputs = [next(rest) for _ in range(self.mapping.num_index_operands + self.mapping.num_inputs)]
        for number in self.again:
            inputs[number - self.mapping.num_dynamic_grid_bounds] = next(rest)
        serial = [axis for axis in range(len(self.grid)) if axis not in self.parallel]
        scratch = [jnp.zeros(each.shape, each.dtype) for each in self.scratch]
        run = replace(self, grid=sizes)
        outputs, _ = run._loops(serial, position, inputs, _Outputs(tuple(rest), {}), scratch)
        return outputs.arrays

    def _start(self, block: Block, position: list[Any], inputs: list[Any]) -> tuple[Any, ...]:
        """Return the first element of a block; an axis whose loop has not begun does not move it."""
        known = [jnp.int32(0) if index is None else index for index in position]
        scalars = inputs[: self.mapping.num_index_operands]
        return compat.block_start(self.mapping, block.source, known, self.grid, scalars)

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
                # A kernel knows its position in 32 bits; a loop over numbers of Python may count in 64.
                place = lax.convert_element_type(index, jnp.int32)
                here = [place if i == axis else each for i, each in enumerate(position)]
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
            block.load(array, self._start(block, position, inputs))
            for block, array in zip(self.blocks[: self.mapping.num_inputs], arrays, strict=True)
        ]
        before = [outputs.held[number] for number in range(len(self._output_blocks))]
        after = self.kernel(position, self.grid, *scalars, *loaded, *before, *scratch)
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
        return block.load(outputs.arrays[number], self._start(block, position, inputs))

    def _write_back(self, still: list[int], position: list[Any], inputs: list[Any], outputs: _Outputs) -> _Outputs:
        arrays, held = list(outputs.arrays), dict(outputs.held)
        for number in still:
            block = self._output_blocks[number]
            start = self._start(block, position, inputs)
            arrays[number] = block.store(arrays[number], start, held.pop(number))
        return _Outputs(tuple(arrays), held)


@dataclass(frozen=True)
class _Outputs:
    """The outputs inside the loops: whole arrays, and the blocks of them that are held outside memory."""

    arrays: tuple[Any, ...]
    held: dict[int, Any]
