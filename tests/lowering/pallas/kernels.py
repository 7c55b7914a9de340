"""A table of small Pallas kernels: each is a function of its arguments and of `interpret`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

Function = Callable[..., Any]
Kernel = Callable[..., None]
F32 = jnp.float32


@dataclass(frozen=True)
class Case:
    """A kernel with its arguments.

    Attributes:
        function: of the arguments, and of `interpret` by name.
        arguments: host arrays.
        roundings: units in the last place by which two right answers may differ, for sums of `depth` terms.
        depth: of the longest sum.
    """

    function: Function
    arguments: tuple[np.ndarray, ...]
    roundings: float
    depth: int


CASES: dict[str, Case] = {}


def case(
    *arguments: np.ndarray, roundings: float = 4, depth: int = 1, table: dict[str, Case] = CASES
) -> Callable[[Function], Function]:
    """Add a function to a table under its name; `roundings` 0 asks for equality."""

    def add(function: Function) -> Function:
        table[function.__name__] = Case(function, arguments, roundings, depth)
        return function

    return add


def like(array: Any) -> jax.ShapeDtypeStruct:
    """Return an array's type."""
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


def call(kernel: Kernel, *arguments: Any, out: Any = None, **options: Any) -> Any:
    """Call a kernel whose result is like its first argument unless `out` says otherwise."""
    return pl.pallas_call(kernel, out_shape=like(arguments[0]) if out is None else out, **options)(*arguments)


def rows(height: int, width: int) -> pl.BlockSpec:
    """Return blocks of whole rows."""
    return pl.BlockSpec((height, width), lambda i: (i, 0))


def normal(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    """Return random numbers that depend on the shape alone."""
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(dtype)


def integers(low: int, high: int, *shape: int, dtype: Any = np.int32) -> np.ndarray:
    """Return random integers that depend on the shape alone."""
    return np.random.default_rng(sum(shape)).integers(low, high, shape).astype(dtype)


# -- blocks ------------------------------------------------------------------------------------------------------------


@case(normal(1000), normal(1000))
def vectors_added(x: Any, y: Any, interpret: bool) -> Any:
    def kernel(a: Any, b: Any, o: Any) -> None:
        o[...] = a[...] + b[...]

    block = pl.BlockSpec((128,), lambda i: (i,))
    return call(kernel, x, y, grid=(8,), in_specs=[block] * 2, out_specs=block, interpret=interpret)


@case(normal(60, 50), roundings=0)
def copied(x: Any, interpret: bool) -> Any:
    def kernel(a: Any, o: Any) -> None:
        o[...] = a[...]

    return call(kernel, x, interpret=interpret)


@case(normal(70, 50), roundings=0)
def transposed_blocks(x: Any, interpret: bool) -> Any:
    def kernel(a: Any, o: Any) -> None:
        o[...] = a[...].T

    specs = {
        "in_specs": [pl.BlockSpec((32, 32), lambda i, j: (i, j))],
        "out_specs": pl.BlockSpec((32, 32), lambda i, j: (j, i)),
    }
    return call(kernel, x, out=jax.ShapeDtypeStruct((50, 70), F32), grid=(3, 2), interpret=interpret, **specs)


@case(normal(64, 32), depth=8)
def revisited_output(x: Any, interpret: bool) -> Any:
    def kernel(a: Any, o: Any) -> None:
        @pl.when(pl.program_id(0) == 0)
        def _() -> None:
            o[...] = jnp.zeros_like(o)

        o[...] += a[...]

    out = jax.ShapeDtypeStruct((8, 32), F32)
    specs = {"in_specs": [rows(8, 32)], "out_specs": pl.BlockSpec((8, 32), lambda i: (0, 0))}
    return call(kernel, x, out=out, grid=(8,), interpret=interpret, **specs)


@case(normal(8, 7, 5), depth=5)
def squeezed_blocks(x: Any, interpret: bool) -> Any:
    def kernel(a: Any, o: Any) -> None:
        o[...] = a[...].sum(1)

    specs = {
        "in_specs": [pl.BlockSpec((None, 7, 5), lambda i: (i, 0, 0))],
        "out_specs": pl.BlockSpec((None, 7), lambda i: (i, 0)),
    }
    return call(kernel, x, out=jax.ShapeDtypeStruct((8, 7), F32), grid=(8,), interpret=interpret, **specs)


@case(normal(24, 16), roundings=0)
def overlapping_operand_blocks(x: Any, interpret: bool) -> Any:
    def kernel(a: Any, o: Any) -> None:
        o[...] = a[...]

    specs = {
        "in_specs": [pl.BlockSpec((pl.Element(8), pl.Element(16)), lambda i: (i * 4, 0))],
        "out_specs": rows(8, 16),
    }
    return call(kernel, x, grid=(3,), interpret=interpret, **specs)


@case(normal(16, 16), roundings=0)
def overlapping_output_blocks(x: Any, interpret: bool) -> Any:
    def kernel(a: Any, o: Any) -> None:
        o[...] = a[...] + pl.program_id(0).astype(F32)

    specs = {
        "in_specs": [pl.BlockSpec((8, 16), lambda i: (0, 0))],
        "out_specs": pl.BlockSpec((pl.Element(8), pl.Element(16)), lambda i: (i, 0)),
    }
    return call(kernel, x, grid=(9,), interpret=interpret, **specs)


@case(normal(16, 16), roundings=0)
def grid_beyond_the_array(x: Any, interpret: bool) -> Any:
    def kernel(a: Any, o: Any) -> None:
        o[...] = a[...] + pl.program_id(0).astype(F32)

    return call(kernel, x, grid=(5,), in_specs=[rows(8, 16)], out_specs=rows(8, 16), interpret=interpret)


@case(normal(64, 16), np.asarray(3, np.int32), roundings=0)
def grid_in_an_array(x: Any, n: Any, interpret: bool) -> Any:
    def kernel(a: Any, o: Any) -> None:
        o[...] = a[...] * 2

    specs = {"in_specs": [rows(8, 16)], "out_specs": rows(8, 16), "input_output_aliases": {0: 0}}
    return call(kernel, x + 1, grid=(n,), interpret=interpret, **specs)


@case(normal(64, 16), roundings=0)
def empty_grid(x: Any, interpret: bool) -> Any:
    def kernel(a: Any, o: Any) -> None:
        o[...] = a[...] * 2

    specs = {"in_specs": [rows(8, 16)], "out_specs": rows(8, 16), "input_output_aliases": {0: 0}}
    return call(kernel, x + 1, grid=(0,), interpret=interpret, **specs)


@case(np.asarray([2, 0, 1], np.int32), normal(24, 16), roundings=0)
def prefetched_places(places: Any, x: Any, interpret: bool) -> Any:
    def kernel(i: Any, a: Any, o: Any) -> None:
        o[...] = a[...] * 2 + i[0].astype(F32)

    spec = pltpu.PrefetchScalarGridSpec(
        num_scalar_prefetch=1,
        grid=(3,),
        in_specs=[pl.BlockSpec((8, 16), lambda i, s: (s[i], 0))],
        out_specs=pl.BlockSpec((8, 16), lambda i, s: (i, 0)),
    )
    return pl.pallas_call(kernel, grid_spec=spec, out_shape=like(x), interpret=interpret)(places, x)


@case(normal(64, 64), roundings=0)
def array_without_blocks(x: Any, interpret: bool) -> Any:
    def kernel(a: Any, o: Any) -> None:
        i = pl.program_id(0)
        o[...] = a[pl.ds(i * 8, 8), :] + a[pl.ds((7 - i) * 8, 8), :]

    specs = {"in_specs": [pl.BlockSpec(memory_space=pl.ANY)], "out_specs": rows(8, 64)}
    return call(kernel, x, grid=(8,), interpret=interpret, **specs)


# -- memory that is shared or written more than once -------------------------------------------------------------------


def stores(*arguments: np.ndarray, roundings: float = 4, depth: int = 1) -> Callable[[Function], Function]:
    """Add a function twice: with an output of its own, and with one that takes the memory of the first argument."""

    def add(function: Function) -> Function:
        name = function.__name__
        CASES[name] = Case(function, arguments, roundings, depth)
        shared = functools.partial(function, input_output_aliases={0: 0})
        CASES[f"{name}_in_memory"] = Case(shared, arguments, roundings, depth)
        return function

    return add


def _aliased(kernel: Kernel, x: Any, **options: Any) -> Any:
    return call(kernel, x + 1, input_output_aliases={0: 0}, **options)


@case(normal(64, 16), roundings=0)
def alias_of_blocks(x: Any, interpret: bool) -> Any:
    def kernel(a: Any, o: Any) -> None:
        o[...] = a[...] * 2

    return _aliased(kernel, x, grid=(4,), in_specs=[rows(8, 16)], out_specs=rows(8, 16), interpret=interpret)


@case(normal(64, 16), roundings=0)
def alias_of_blocks_in_reverse(x: Any, interpret: bool) -> Any:
    def kernel(a: Any, o: Any) -> None:
        o[...] = a[...] * 2

    if interpret:
        # What a later step of the grid reads of the operand's memory differs between releases of JAX.
        return jnp.flip((x + 1).reshape(8, 8, 16), 0).reshape(64, 16) * 2
    turned = pl.BlockSpec((8, 16), lambda i: (7 - i, 0))
    return _aliased(kernel, x, grid=(8,), in_specs=[turned], out_specs=rows(8, 16))


@case(normal(33, 33), roundings=0)
def alias_of_the_transpose(x: Any, interpret: bool) -> Any:
    def kernel(a: Any, o: Any) -> None:
        o[...] = a[...].T

    return _aliased(kernel, x, interpret=interpret)


@case(normal(32, 32), roundings=2)
def alias_with_a_second_output(x: Any, interpret: bool) -> Any:
    def kernel(a: Any, o: Any, p: Any) -> None:
        o[...] = a[...] * 2
        p[...] = a[...].T + 1

    return _aliased(kernel, x, out=(like(x), like(x)), interpret=interpret)


@case(normal(32, 32), roundings=0)
def alias_read_behind_the_stores(x: Any, interpret: bool) -> Any:
    def kernel(a: Any, o: Any) -> None:
        def body(i: Any, _: Any) -> Any:
            o[i, :] = a[31 - i, :]
            return 0

        lax.fori_loop(0, 32, body, 0)

    return _aliased(kernel, x, interpret=interpret)


@case(normal(32, 32), roundings=0)
def first_contents_transposed(x: Any, interpret: bool) -> Any:
    def kernel(a: Any, o: Any) -> None:
        o[...] = o[...].T + a[...]

    return _aliased(kernel, x, interpret=interpret)


@case(normal(24, 16), roundings=0)
def operand_with_a_row_replaced(x: Any, interpret: bool) -> Any:
    def kernel(a: Any, o: Any) -> None:
        o[...] = a[...].at[3].set(0.0).at[5 + lax.iota(jnp.int32, 2)].add(1.0)

    return call(kernel, x, interpret=interpret)


@stores(normal(24, 16), roundings=2)
def older_contents_kept(x: Any, interpret: bool, **options: Any) -> Any:
    def kernel(a: Any, o: Any) -> None:
        o[...] = a[...] * 2
        o[3:6, :] = jnp.zeros((3, 16), F32)
        old = o[...]
        o[10:12, :] = jnp.ones((2, 16), F32)
        o[...] += old

    return call(kernel, x, interpret=interpret, **options)


@stores(normal(24, 16), roundings=8, depth=24 * 16)
def rows_stored_and_read_back(x: Any, interpret: bool, **options: Any) -> Any:
    def kernel(a: Any, o: Any) -> None:
        o[...] = a[...] * 0.5

        def body(i: Any, total: Any) -> Any:
            o[i, :] = o[23 - i, :] + 1
            return total + o[...].mean()

        total = lax.fori_loop(0, 24, body, F32(0))
        o[0, :] = o[1, :] + total

    return call(kernel, x, interpret=interpret, **options)


@stores(normal(24, 16), roundings=16, depth=24)
def rows_stored_then_multiplied(x: Any, interpret: bool, **options: Any) -> Any:
    def kernel(a: Any, o: Any) -> None:
        def body(i: Any, carry: Any) -> Any:
            o[i, :] = jnp.exp(a[23 - i, :])
            return carry

        lax.fori_loop(0, 24, body, 0)
        o[...] = o[...] / o[...].sum(0, keepdims=True) + jnp.dot(o[...], jnp.ones((16, 16), F32))

    return call(kernel, x, interpret=interpret, **options)


@stores(normal(24, 16), roundings=0)
def stores_in_branches(x: Any, interpret: bool, **options: Any) -> Any:
    def kernel(a: Any, o: Any) -> None:
        o[...] = a[...]

        @pl.when(a[0, 0] > -10)
        def _() -> None:
            o[2, :] = o[3, :] * 2

        @pl.when(a[0, 0] < -10)
        def _() -> None:
            o[5, :] = o[3, :] * 2

        o[4, :] = o[2, :] + 1

    return call(kernel, x, interpret=interpret, **options)


@stores(normal(24, 16), np.random.default_rng(0).permutation(24).astype(np.int32), roundings=0)
def rows_scattered(x: Any, places: Any, interpret: bool, **options: Any) -> Any:
    def kernel(a: Any, i: Any, o: Any) -> None:
        o[...] = jnp.zeros_like(o)
        o[i[...], :] = a[...]

    return call(kernel, x, places, interpret=interpret, **options)


@stores(normal(48, 32), roundings=0)
def every_second_row(x: Any, interpret: bool, **options: Any) -> Any:
    def kernel(a: Any, o: Any) -> None:
        o[...] = jnp.zeros_like(o)
        o[pl.ds(0, 24, stride=2), :] = a[pl.ds(1, 24), :]

    return call(kernel, x, interpret=interpret, **options)
