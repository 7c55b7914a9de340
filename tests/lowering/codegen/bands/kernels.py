"""A table of kernels whose tiles can live in bands, small enough for a driver that compiles slowly."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl

from lowering.pallas import CompilerParams

from ...pallas import kernels
from ...pallas.kernels import F32, Case, normal

F16 = jnp.float16
QUERIES, ROWS, KEYS, CHUNK, WIDTH = 32, 16, 32, 16, 16
# Results of f32 differ by the device's own exponential function, those of f16 by the rounding of weights to f16.
F32_ROUNDINGS, F16_ROUNDINGS = 64, 4

CASES: dict[str, Case] = {}
# What bands may refuse: the kernel is then written another way, and must be as right.
REFUSABLE: dict[str, Case] = {}
case = functools.partial(kernels.case, table=CASES)
refusable = functools.partial(kernels.case, table=REFUSABLE)
queries = functools.partial(normal, QUERIES, WIDTH, dtype=np.float16)
keys = functools.partial(normal, KEYS, WIDTH, dtype=np.float16)


def in_bands(kernel: Any, *arguments: Any, out: Any, interpret: bool, is_whole: bool = False, **options: bool) -> Any:
    """Call a kernel for each block of rows of the first argument, and ask for bands, which a CPU gets only so."""
    params = CompilerParams(bands=True, **options)
    if is_whole:
        return kernels.call(kernel, *arguments, out=out, interpret=interpret, compiler_params=params)
    specs = [_rows(arguments[0]), *(_whole(each) for each in arguments[1:])]
    grid, written = (arguments[0].shape[0] // ROWS,), _rows(out)
    return kernels.call(
        kernel, *arguments, out=out, interpret=interpret, compiler_params=params, grid=grid, in_specs=specs,
        out_specs=written,
    )  # fmt: skip


def _rows(array: Any) -> pl.BlockSpec:
    return pl.BlockSpec((ROWS, *array.shape[1:]), lambda i: (i, *(0 for _ in array.shape[1:])))


def _whole(array: Any) -> pl.BlockSpec:
    return pl.BlockSpec(array.shape, lambda _: tuple(0 for _ in array.shape))


def typed(dtype: Any, *shape: int) -> jax.ShapeDtypeStruct:
    """Return the type of an array."""
    return jax.ShapeDtypeStruct(shape, dtype)


def multiply(left: Any, right: Any) -> Any:
    """Multiply with sums in f32."""
    return jnp.dot(left, right, preferred_element_type=F32)


def chunk(ref: Any, number: Any) -> Any:
    """Read a chunk of rows."""
    return ref[pl.ds(number * CHUNK, CHUNK), :]


def attend(state: Any, scores: Any, values: Any) -> Any:
    """Add a chunk of keys to the peak, the mass and the total of every row."""
    peak, mass, total = state
    new = jnp.maximum(peak, scores.max(1))
    weights, decay = jnp.exp(scores - new[:, None]), jnp.exp(peak - new)
    return new, mass * decay + weights.sum(1), total * decay[:, None] + multiply(weights.astype(F16), values)


def nothing() -> Any:
    """Return the state of no keys."""
    return jnp.full(ROWS, -1e30, F32), jnp.zeros(ROWS, F32), jnp.zeros((ROWS, WIDTH), F32)


# -- loops -------------------------------------------------------------------------------------------------------------


@case(queries(), keys(), roundings=F16_ROUNDINGS)
def loop_over_chunks_of_keys(q: Any, k: Any, interpret: bool) -> Any:
    def kernel(a: Any, b: Any, o: Any) -> None:
        def step(number: Any, state: Any) -> Any:
            tile = chunk(b, number)
            return attend(state, multiply(a[...], tile.T), tile)

        _, mass, total = lax.fori_loop(0, KEYS // CHUNK, step, nothing())
        o[...] = (total / mass[:, None]).astype(F16)

    return in_bands(kernel, q, k, out=typed(F16, QUERIES, WIDTH), interpret=interpret)


@case(queries(), keys(), np.asarray([1], np.int32), roundings=F16_ROUNDINGS)
def two_loops_in_a_row(q: Any, k: Any, opened: Any, interpret: bool) -> Any:
    def kernel(a: Any, b: Any, n: Any, o: Any) -> None:
        def plainly(number: Any, state: Any) -> Any:
            tile = chunk(b, number)
            return attend(state, multiply(a[...], tile.T), tile)

        def halved(number: Any, state: Any) -> Any:
            tile = chunk(b, number)
            return attend(state, multiply(a[...], tile.T) * 0.5, tile)

        state = lax.fori_loop(0, n[0], plainly, nothing())
        _, mass, total = lax.fori_loop(n[0], KEYS // CHUNK, halved, state)
        o[...] = (total / mass[:, None]).astype(F16)

    return in_bands(kernel, q, k, opened, out=typed(F16, QUERIES, WIDTH), interpret=interpret)


@case(queries(), keys(), roundings=F16_ROUNDINGS)
def sums_relative_to_the_first_chunk(q: Any, k: Any, interpret: bool) -> Any:
    def kernel(a: Any, b: Any, o: Any) -> None:
        peak = multiply(a[...], chunk(b, 0).T).max(1) * 0.125

        def step(number: Any, state: Any) -> Any:
            mass, total = state
            weights = jnp.exp(multiply(a[...], chunk(b, number).T) * 0.125 - peak[:, None])
            return mass + weights.sum(1), total + multiply(weights.astype(F16), chunk(b, number))

        mass, total = lax.fori_loop(0, KEYS // CHUNK, step, nothing()[1:])
        o[...] = (total / mass[:, None]).astype(F16)

    return in_bands(kernel, q, k, out=typed(F16, QUERIES, WIDTH), interpret=interpret)


@case(queries(), keys(), roundings=F32_ROUNDINGS, depth=KEYS)
def sum_is_read_in_its_loop(q: Any, k: Any, interpret: bool) -> Any:
    def kernel(a: Any, b: Any, o: Any) -> None:
        def step(number: Any, mass: Any) -> Any:
            scores = multiply(a[...], chunk(b, number).T)
            return mass * 0.5 + jnp.abs(scores / (1 + jnp.abs(mass)[:, None])).sum(1)

        o[...] = jnp.log(lax.fori_loop(0, KEYS // CHUNK, step, jnp.full(ROWS, 3.0, F32)))

    return in_bands(kernel, q, k, out=typed(F32, QUERIES), interpret=interpret)


@case(queries(), normal(64, WIDTH, dtype=np.float16), roundings=F32_ROUNDINGS, depth=64)
def loop_in_a_loop(q: Any, k: Any, interpret: bool) -> Any:
    def kernel(a: Any, b: Any, o: Any) -> None:
        def outer(number: Any, total: Any) -> Any:
            def inner(place: Any, total: Any) -> Any:
                return total + jnp.abs(multiply(a[...], chunk(b, number * 2 + place).T))

            return lax.fori_loop(0, 2, inner, total) * 0.5

        o[...] = lax.fori_loop(0, 2, outer, jnp.zeros((ROWS, CHUNK), F32))

    return in_bands(kernel, q, k, out=typed(F32, QUERIES, CHUNK), interpret=interpret)


@case(queries(), keys(), roundings=F32_ROUNDINGS, depth=KEYS)
def product_after_a_loop(q: Any, k: Any, interpret: bool) -> Any:
    def kernel(a: Any, b: Any, o: Any) -> None:
        def step(number: Any, total: Any) -> Any:
            return total + multiply(a[...], chunk(b, number).T)

        total = lax.fori_loop(0, KEYS // CHUNK, step, jnp.zeros((ROWS, CHUNK), F32))
        o[...] = total * multiply(a[...], chunk(b, 1).T)

    return in_bands(kernel, q, k, out=typed(F32, QUERIES, CHUNK), interpret=interpret)


@case(queries(), keys(), normal(KEYS, 2 * WIDTH, dtype=np.float16), roundings=F32_ROUNDINGS, depth=KEYS)
def loops_with_windows_of_other_shapes(q: Any, k: Any, v: Any, interpret: bool) -> Any:
    def kernel(a: Any, b: Any, c: Any, o: Any) -> None:
        def tall(_: Any, total: Any) -> Any:
            return total + multiply(a[...], b[pl.ds(0, KEYS), :].T)

        def flat(number: Any, total: Any) -> Any:
            return total + multiply(a[...], chunk(c, number))

        total = lax.fori_loop(0, pl.program_id(0) + 1, tall, jnp.zeros((ROWS, KEYS), F32))
        o[...] = lax.fori_loop(0, KEYS // CHUNK, flat, total)

    return in_bands(kernel, q, k, v, out=typed(F32, QUERIES, KEYS), interpret=interpret)


# -- what is read and written ------------------------------------------------------------------------------------------


@case(queries(), keys(), roundings=F32_ROUNDINGS, depth=KEYS)
def column_is_written(q: Any, k: Any, interpret: bool) -> Any:
    def kernel(a: Any, b: Any, o: Any) -> None:
        scores = multiply(a[...], b[...].T)
        peak = scores.max(1)
        o[...] = peak + jnp.log(jnp.exp(scores - peak[:, None]).sum(1))

    return in_bands(kernel, q, k, out=typed(F32, QUERIES), interpret=interpret)


@case(queries(), keys(), normal(QUERIES), roundings=F32_ROUNDINGS, depth=WIDTH)
def column_is_read(q: Any, k: Any, peak: Any, interpret: bool) -> Any:
    def kernel(a: Any, b: Any, c: Any, o: Any) -> None:
        o[...] = jnp.exp(multiply(a[...], b[...].T) * 0.125 - c[pl.ds(pl.program_id(0) * ROWS, ROWS)][:, None])

    return in_bands(kernel, q, k, peak, out=typed(F32, QUERIES, KEYS), interpret=interpret)


@case(queries(), keys(), normal(KEYS), roundings=F32_ROUNDINGS, depth=WIDTH)
def number_for_each_key_is_read(q: Any, k: Any, bias: Any, interpret: bool) -> Any:
    def kernel(a: Any, b: Any, c: Any, o: Any) -> None:
        def step(number: Any, total: Any) -> Any:
            scores = multiply(a[...], chunk(b, number).T)
            return total + jnp.abs(scores + c[pl.ds(number * CHUNK, CHUNK)][None, :])

        o[...] = lax.fori_loop(0, KEYS // CHUNK, step, jnp.zeros((ROWS, CHUNK), F32))

    return in_bands(kernel, q, k, bias, out=typed(F32, QUERIES, CHUNK), interpret=interpret)


@case(queries(), keys(), roundings=F32_ROUNDINGS, depth=WIDTH)
def mask_made_of_places(q: Any, k: Any, interpret: bool) -> Any:
    def kernel(a: Any, b: Any, o: Any) -> None:
        first = pl.program_id(0) * ROWS
        row = lax.broadcasted_iota(jnp.int32, (ROWS, KEYS), 0) + first
        column = lax.broadcasted_iota(jnp.int32, (ROWS, KEYS), 1)
        o[...] = jnp.where(column <= row, multiply(a[...], b[...].T), -1.0)

    return in_bands(kernel, q, k, out=typed(F32, QUERIES, KEYS), interpret=interpret)


# -- reductions --------------------------------------------------------------------------------------------------------


def reduced(kernel: Any, q: Any, k: Any, *, interpret: bool, **options: bool) -> Any:
    """Reduce scores along keys, to a number for each query."""

    def body(a: Any, b: Any, o: Any) -> None:
        o[...] = kernel(multiply(a[...], b[...].T))

    return in_bands(body, q, k, out=typed(F32, QUERIES), interpret=interpret, **options)


@case(queries(), keys(), roundings=4, depth=WIDTH)
def maximum_with_a_start(q: Any, k: Any, interpret: bool) -> Any:
    return reduced(lambda scores: jnp.max(scores, 1, initial=8.0), q, k, interpret=interpret)


@case(queries(), keys(), roundings=4, depth=WIDTH)
def minimum_with_a_start(q: Any, k: Any, interpret: bool) -> Any:
    return reduced(lambda scores: jnp.min(scores, 1, initial=-8.0), q, k, interpret=interpret)


@case(queries(), keys(), roundings=16, depth=KEYS * WIDTH)
def sum_with_a_start(q: Any, k: Any, interpret: bool) -> Any:
    return reduced(lambda scores: jnp.sum(scores, 1, initial=3.0), q, k, interpret=interpret)


@case(queries(), keys(), roundings=4, depth=WIDTH * CHUNK)
def sum_that_is_scaled_once(q: Any, k: Any, interpret: bool) -> Any:
    return reduced(lambda scores: jnp.sum(scores, 1) * jnp.max(scores, 1), q, k, interpret=interpret)


def with_nan(array: np.ndarray) -> np.ndarray:
    """Return an array whose fourth row begins with NaN."""
    found = array.copy()
    found[3, 0] = np.nan
    return found


@case(with_nan(queries()), keys(), roundings=4, depth=WIDTH)
def maximum_of_nan(q: Any, k: Any, interpret: bool) -> Any:
    return reduced(lambda scores: jnp.max(scores, 1), q, k, interpret=interpret, nan_in_extrema=True)


@case(with_nan(queries()), keys(), roundings=4, depth=WIDTH)
def minimum_of_nan(q: Any, k: Any, interpret: bool) -> Any:
    return reduced(lambda scores: jnp.min(scores, 1), q, k, interpret=interpret, nan_in_extrema=True)


# -- what bands may refuse ---------------------------------------------------------------------------------------------


def combined(kernel: Any, *arguments: Any, dtype: Any = F32, interpret: bool) -> Any:
    """Combine the scores of the first chunk of keys with a third argument."""

    def body(a: Any, b: Any, *rest: Any) -> None:
        o = rest[-1]
        o[...] = kernel(multiply(a[...], chunk(b, 0).T), a, b, *rest[:-1])

    return in_bands(body, *arguments, out=typed(dtype, QUERIES, CHUNK), interpret=interpret)


@refusable(queries(), keys(), normal(CHUNK), roundings=4, depth=WIDTH)
def whole_vector_is_read(q: Any, k: Any, bias: Any, interpret: bool) -> Any:
    return combined(lambda s, a, b, c: s + c[...][None, :], q, k, bias, interpret=interpret)


@refusable(queries(), keys(), normal(ROWS, CHUNK), roundings=4, depth=WIDTH)
def whole_tile_is_read(q: Any, k: Any, bias: Any, interpret: bool) -> Any:
    return combined(lambda s, a, b, c: s + c[...], q, k, bias, interpret=interpret)


@refusable(queries(), keys(), normal(CHUNK, 4), roundings=4, depth=WIDTH)
def numbers_for_keys_apart_in_memory(q: Any, k: Any, bias: Any, interpret: bool) -> Any:
    return combined(lambda s, a, b, c: s + c[:, 1][None, :], q, k, bias, interpret=interpret)


@refusable(queries(), keys(), normal(ROWS, 4), roundings=4, depth=WIDTH)
def numbers_for_queries_apart_in_memory(q: Any, k: Any, bias: Any, interpret: bool) -> Any:
    return combined(lambda s, a, b, c: s + c[:, 1][:, None], q, k, bias, interpret=interpret)


@refusable(queries(), keys(), normal(ROWS, CHUNK, 4), roundings=4, depth=WIDTH)
def tile_apart_in_memory(q: Any, k: Any, bias: Any, interpret: bool) -> Any:
    return combined(lambda s, a, b, c: s + c[:, :, 1], q, k, bias, interpret=interpret)


@refusable(queries(), keys(), normal(ROWS, CHUNK + 8), roundings=4, depth=WIDTH)
def tile_that_starts_between_groups(q: Any, k: Any, bias: Any, interpret: bool) -> Any:
    return combined(lambda s, a, b, c: s + c[:, 3 : 3 + CHUNK], q, k, bias, interpret=interpret)


@refusable(queries(), keys(), roundings=4, depth=WIDTH)
def second_factor_is_read_by_elements(q: Any, k: Any, interpret: bool) -> Any:
    return combined(lambda s, a, b: s + chunk(b, 0).astype(F32), q, k, interpret=interpret)


@refusable(queries(), keys(), roundings=4, depth=WIDTH)
def one_window_is_both_factors(q: Any, k: Any, interpret: bool) -> Any:
    return combined(lambda s, a, b: s + jnp.abs(multiply(a[...], a[...].T)), q, k, interpret=interpret)


@refusable(queries(), keys(), roundings=4, depth=WIDTH)
def first_factor_is_arithmetic_of_f16(q: Any, k: Any, interpret: bool) -> Any:
    return combined(lambda s, a, b: multiply(a[...] * F16(0.5) + a[...], chunk(b, 1).T) - s, q, k, interpret=interpret)


@refusable(queries(), keys(), roundings=4, depth=4)
def result_is_arithmetic_of_f16(q: Any, k: Any, interpret: bool) -> Any:
    return combined(lambda s, a, b: s.astype(F16) * F16(3), q, k, dtype=F16, interpret=interpret)


@refusable(queries(), keys(), roundings=4, depth=4)
def column_of_f16_is_written(q: Any, k: Any, interpret: bool) -> Any:
    def kernel(a: Any, b: Any, o: Any) -> None:
        o[...] = multiply(a[...], b[...].T).max(1).astype(F16)

    return in_bands(kernel, q, k, out=typed(F16, QUERIES), interpret=interpret)


@refusable(queries(), keys(), roundings=F32_ROUNDINGS, depth=KEYS)
def window_of_a_loop_that_may_not_run(q: Any, k: Any, interpret: bool) -> Any:
    def kernel(a: Any, b: Any, o: Any) -> None:
        tile = chunk(b, 1)
        step = lambda _, total: total + multiply(a[...], tile.T)  # noqa: E731
        total = lax.fori_loop(0, pl.program_id(0), step, jnp.zeros((ROWS, CHUNK), F32))
        o[...] = total + jnp.abs(multiply(a[...], tile.T))

    return in_bands(kernel, q, k, out=typed(F32, QUERIES, CHUNK), interpret=interpret)


@refusable(normal(ROWS, WIDTH, dtype=np.float16), keys(), roundings=4, depth=WIDTH)
def whole_arrays_at_once(q: Any, k: Any, interpret: bool) -> Any:
    def kernel(a: Any, b: Any, o: Any) -> None:
        o[...] = multiply(a[...], b[...].T)

    return in_bands(kernel, q, k, out=typed(F32, ROWS, KEYS), interpret=interpret, is_whole=True)


@case(queries(), keys(), roundings=4, depth=WIDTH)
def number_is_added_to_a_product(q: Any, k: Any, interpret: bool) -> Any:
    return combined(lambda s, a, b: s + pl.program_id(0).astype(F32), q, k, interpret=interpret)


@refusable(queries(), keys(), roundings=8, depth=WIDTH)
def element_of_a_tile_is_read(q: Any, k: Any, interpret: bool) -> Any:
    return combined(lambda s, a, b: s * s[0, 0], q, k, interpret=interpret)


@refusable(queries(), keys(), roundings=4, depth=WIDTH)
def column_of_f16_is_spread(q: Any, k: Any, interpret: bool) -> Any:
    def spread(s: Any, a: Any, b: Any) -> Any:
        column = a[...].astype(F32).max(1).astype(F16)
        return s * jax.lax.broadcast_in_dim(column, s.shape, (0,)).astype(F32)

    return combined(spread, q, k, interpret=interpret)


@refusable(queries(), keys(), roundings=16, depth=KEYS)
def first_factor_is_carried(q: Any, k: Any, interpret: bool) -> Any:
    def carried(s: Any, a: Any, b: Any) -> Any:
        def step(number: Any, carry: Any) -> Any:
            left, total = carry
            product = multiply(left, chunk(b, number).T)
            return (product[:, :WIDTH] * 0.25).astype(F16), total + product

        rounds = 1 + (pl.program_id(0) >= 0).astype(jnp.int32)
        return jax.lax.fori_loop(0, rounds, step, (a[...], jnp.zeros_like(s)))[1]

    return combined(carried, q, k, interpret=interpret)
