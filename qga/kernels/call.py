"""Launch a tile kernel: one body and one grid, compiled by Pallas on the platform `vulkan`, executed here elsewhere.

    kernel = Kernel(body, grid=(tiles,), inputs=(rows of a tile, all keys), outputs=(rows of a tile,))
    launch(kernel, queries, keys)

A body is a function of its place in the grid and of references to blocks. On the CPU the grid is a loop and a
reference is a ``TileRef``, so that a body is an ordinary JAX program: it may loop over what it reads, and writes a
reference outside of loops only. Batch axes are not part of a grid: ``jax.vmap`` adds them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from math import prod
from types import EllipsisType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jaxtyping import Array

AxisIndex = int | Array | slice | pl.Slice | EllipsisType
Index = AxisIndex | tuple[AxisIndex, ...]
Place = tuple[int | Array, ...]


@dataclass(frozen=True)
class Block:
    """How an array is cut into blocks, as ``pl.BlockSpec`` says it.

    Attributes:
        shape: of a block; None for an axis of which a block has one element and its reference has no axis.
        at: place in the grid -> which block, counted along each axis.
        repeats: whether what a block has beyond the end of its array is the last of it again, and not zero.
    """

    shape: tuple[int | None, ...]
    at: Callable[..., tuple[int | Array, ...]]
    repeats: bool = False

    @property
    def sizes(self) -> tuple[int, ...]:
        """Shape of a block in its array."""
        return tuple(1 if size is None else size for size in self.shape)

    @property
    def hidden(self) -> tuple[int, ...]:
        """Axes that a reference does not have."""
        return tuple(axis for axis, size in enumerate(self.shape) if size is None)

    def start(self, place: Place) -> list[Array]:
        """Return the first element of a block along each axis."""
        return _starts([number * size for number, size in zip(self.at(*place), self.sizes, strict=True)])


@dataclass(frozen=True)
class Promise:
    """What a kernel's author promises a compiler; in the form that the platform `vulkan` reads.

    Attributes:
        nan_in_extrema: False where NaN reaches every result even if maxima and minima lose it.
        driver_exp: whether exponentials may be those of a driver, off by 3 + 2 |x| units in the last place, and
            hyperbolic tangents be made of them, off by a few units in the last place of 1.
        driver_tanh: whether hyperbolic tangents may be those of a driver for 16 bits, off by 2^-10.5.
        last_first: of how many entries programs are started together, from the last places of the grid on, since they
            take longer the later they stand there; 0 leaves the choice.
        band: rows of a tile that belong together, where the matrix units of a GPU hold tiles; 0 leaves the choice.
        subgroups: of a workgroup, a power of two, whatever their size; 0 leaves the choice.
    """

    nan_in_extrema: bool = True
    driver_exp: bool = False
    driver_tanh: bool = False
    last_first: int = 0
    band: int = 0
    subgroups: int = 0

    def options(self) -> dict[str, int]:
        """Return the promises as integers by name."""
        said = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: int(value) for name, value in said.items() if value != getattr(Promise(), name)}


@dataclass(frozen=True)
class Kernel:
    """What is launched.

    Attributes:
        body: (place in the grid, references to the blocks of inputs, then of outputs) -> nothing.
        grid: how many programs there are along each axis.
        inputs: how each operand is cut; what a block has beyond the end of its array is zero, unless it repeats.
        outputs: how each result is cut; no two programs write the same block.
        results: shape and dtype of each result.
        name: of the kernel, for people.
        promise: what a compiler may rely on.
        guard: (place, references) -> whether the program there does anything, where not all do. The last operands are
            then what the results hold already, one for each; a body has no references to them.
    """

    body: Callable[..., None]
    grid: tuple[int, ...]
    inputs: Sequence[Block]
    outputs: Sequence[Block]
    results: Sequence[jax.ShapeDtypeStruct]
    name: str
    promise: Promise = Promise()
    guard: Callable[..., Array] | None = None


def launch(kernel: Kernel, *operands: Array) -> list[Array]:
    """Run a kernel where its operands are: through Pallas on `vulkan`, by ``execute`` on any other platform.

    The choice falls when the program is lowered, so the caller is a function under ``jax.jit``. Derivatives are the
    caller's business, and batches are made by ``jax.vmap``.
    """

    def compiled(*arrays: Array) -> list[Array]:
        return call_pallas(kernel, *arrays)

    def executed(*arrays: Array) -> list[Array]:
        return execute(kernel, *arrays)

    return lax.platform_dependent(*operands, vulkan=compiled, default=executed)


def call_pallas(kernel: Kernel, *operands: Array, interpret: bool = False) -> list[Array]:
    """Run a kernel through Pallas: compiled, or by Pallas's own interpreter of JAX operations."""
    held = 0 if kernel.guard is None else len(kernel.outputs)
    first = len(kernel.inputs) - held

    def body(*refs: Any) -> None:
        place = tuple(pl.program_id(axis) for axis in range(len(kernel.grid)))
        refs = (*refs[:first], *refs[first + held :])
        if kernel.guard is None:
            kernel.body(place, *refs)
        else:
            pl.when(kernel.guard(place, *refs))(lambda: kernel.body(place, *refs))

    called = pl.pallas_call(
        body,
        grid=kernel.grid,
        in_specs=[pl.BlockSpec(block.shape, block.at) for block in kernel.inputs],
        out_specs=[pl.BlockSpec(block.shape, block.at) for block in kernel.outputs],
        out_shape=_whole_results(kernel),
        input_output_aliases={first + number: number for number in range(held)},
        interpret=interpret,
        name=kernel.name,
        compiler_params=kernel.promise,
    )
    return _cut_off(kernel, called(*_pad(kernel, operands)))


def execute(kernel: Kernel, *operands: Array) -> list[Array]:
    """Run a kernel as a loop over its grid, on any platform."""
    arrays = _pad(kernel, operands)
    results = [jnp.zeros(each.shape, each.dtype) for each in _whole_results(kernel)]
    if kernel.guard is not None:
        arrays, results = arrays[: -len(results)], arrays[-len(results) :]

    def run(place: Place, results: list[Array]) -> list[Array]:
        read = [TileRef(_load(block, place, array)) for block, array in zip(kernel.inputs, arrays, strict=False)]
        write = partial(_write, kernel, place, read)
        if kernel.guard is None:
            return write(results)
        return lax.cond(kernel.guard(place, *read), write, lambda results: results, results)

    programs = prod(kernel.grid)
    if programs == 1:
        return _cut_off(kernel, run((0,) * len(kernel.grid), results))
    return _cut_off(kernel, lax.fori_loop(0, programs, lambda i, held: run(_place(i, kernel.grid), held), results))


def _write(kernel: Kernel, place: Place, read: Sequence[TileRef], results: Sequence[Array]) -> list[Array]:
    """Run a program: return the results with its blocks in them."""
    given = zip(kernel.outputs, results, strict=True)
    written = [TileRef(_load(block, place, array)) for block, array in given]
    kernel.body(place, *read, *written)
    found = zip(kernel.outputs, results, written, strict=True)
    return [_store(block, place, array, ref.value) for block, array, ref in found]


class TileRef:
    """A block that a body reads and writes by index, as it does a reference of Pallas."""

    def __init__(self, value: Array) -> None:
        self.value = value

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the block."""
        return self.value.shape

    @property
    def dtype(self) -> jnp.dtype:
        """Dtype of the block."""
        return self.value.dtype

    def __getitem__(self, index: Index) -> Array:
        starts, sizes, dropped = _window(index, self.shape)
        if sizes == self.shape and not dropped:
            return self.value
        return lax.squeeze(lax.dynamic_slice(self.value, starts, sizes), dropped)

    def __setitem__(self, index: Index, value: Array) -> None:
        starts, sizes, dropped = _window(index, self.shape)
        window = jnp.broadcast_to(lax.expand_dims(jnp.asarray(value, self.dtype), dropped), sizes)
        is_whole = sizes == self.shape
        self.value = window if is_whole else lax.dynamic_update_slice(self.value, window, starts)


def _window(index: Index, shape: tuple[int, ...]) -> tuple[list[Array], tuple[int, ...], tuple[int, ...]]:
    """Read an index as first elements, sizes and the axes that it drops."""
    given = list(index) if isinstance(index, tuple) else [index]
    if not any(each is Ellipsis for each in given):
        given.append(Ellipsis)
    middle = next(number for number, each in enumerate(given) if each is Ellipsis)
    given[middle : middle + 1] = [slice(None)] * (len(shape) - len(given) + 1)
    pairs = [_interval(each, extent) for each, extent in zip(given, shape, strict=True)]
    dropped = tuple(axis for axis, each in enumerate(given) if not isinstance(each, slice | pl.Slice))
    return _starts([start for start, _ in pairs]), tuple(size for _, size in pairs), dropped


def _starts(numbers: Sequence[int | Array]) -> list[Array]:
    """Return first elements in the one dtype that Pallas gives them; numbers of Python may have 64 bits."""
    return [lax.convert_element_type(number, jnp.int32) for number in numbers]


def _interval(index: Any, extent: int) -> tuple[int | Array, int]:
    if isinstance(index, pl.Slice):
        return index.start, int(index.size)
    if isinstance(index, slice):
        start, stop, _ = index.indices(extent)
        return start, max(stop - start, 0)
    return index, 1


def _load(block: Block, place: Place, array: Array) -> Array:
    is_whole = block.sizes == array.shape
    return lax.squeeze(array if is_whole else lax.dynamic_slice(array, block.start(place), block.sizes), block.hidden)


def _store(block: Block, place: Place, array: Array, value: Array) -> Array:
    value = lax.expand_dims(value, block.hidden)
    return value if value.shape == array.shape else lax.dynamic_update_slice(array, value, block.start(place))


def _place(number: Array, grid: tuple[int, ...]) -> Place:
    """Return a program's place, in the dtype of a place of Pallas."""
    number = lax.convert_element_type(number, jnp.int32)
    if len(grid) == 1:
        return (number,)
    strides = [prod(grid[axis + 1 :]) for axis in range(len(grid))]
    return tuple(number // stride % extent for stride, extent in zip(strides, grid, strict=True))


def _whole(block: Block, array: jax.ShapeDtypeStruct | Array) -> jax.ShapeDtypeStruct:
    """Return the array's type, grown to whole blocks and to at least one."""
    pairs = zip(array.shape, block.sizes, strict=True)
    return jax.ShapeDtypeStruct(tuple(max(1, -(-extent // size)) * size for extent, size in pairs), array.dtype)


def _whole_results(kernel: Kernel) -> list[jax.ShapeDtypeStruct]:
    return [_whole(block, result) for block, result in zip(kernel.outputs, kernel.results, strict=True)]


def _pad(kernel: Kernel, operands: Sequence[Array]) -> list[Array]:
    padded = []
    for block, array in zip(kernel.inputs, operands, strict=True):
        missing = np.subtract(_whole(block, array).shape, array.shape)
        mode = "edge" if block.repeats and array.size else "constant"
        padded.append(jnp.pad(array, [(0, int(each)) for each in missing], mode) if missing.any() else array)
    return padded


def _cut_off(kernel: Kernel, results: Sequence[Array]) -> list[Array]:
    return [
        array if array.shape == result.shape else lax.slice(array, [0] * array.ndim, result.shape)
        for array, result in zip(results, kernel.results, strict=True)
    ]
