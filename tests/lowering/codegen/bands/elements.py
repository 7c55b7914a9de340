"""Kernels in bands whose elements go through functions that a driver may round its own way, and places of them."""

from __future__ import annotations

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl

from ...pallas import kernels
from ...pallas.kernels import F32, Case
from .kernels import CHUNK, QUERIES, ROWS, WIDTH, chunk, in_bands, keys, multiply, queries, typed

CASES: dict[str, Case] = {}
case = functools.partial(kernels.case, table=CASES)


def raised(q: Any, k: Any, *, interpret: bool, **options: bool) -> Any:
    """Raise e, and 2, to the scores of the first chunk of keys."""

    def body(a: Any, b: Any, o: Any) -> None:
        scores = multiply(a[...], chunk(b, 0).T) * 0.125
        o[...] = jnp.exp(scores) + jnp.exp2(scores)

    return in_bands(body, q, k, out=typed(F32, QUERIES, CHUNK), interpret=interpret, **options)


@case(queries(), keys(), roundings=16, depth=WIDTH)
def exponentials_of_our_own(q: Any, k: Any, interpret: bool) -> Any:
    return raised(q, k, interpret=interpret)


@case(queries(), keys(), roundings=64, depth=WIDTH)
def exponentials_of_the_driver(q: Any, k: Any, interpret: bool) -> Any:
    return raised(q, k, interpret=interpret, driver_exp=True)


@case(queries(), keys(), roundings=64, depth=WIDTH)
def lines_through_a_tangent(q: Any, k: Any, interpret: bool) -> Any:
    def body(a: Any, b: Any, o: Any) -> None:
        scores = multiply(a[...], chunk(b, 0).T) * 0.125
        o[...] = jnp.exp(3 - (5 * jnp.tanh(scores * 0.2) - 1.5) * 0.25)

    return in_bands(body, q, k, out=typed(F32, QUERIES, CHUNK), interpret=interpret, driver_exp=True)


@case(queries(), keys(), np.linspace(0, 1, CHUNK, dtype=np.float32), roundings=64, depth=WIDTH)
def odd_polynomials_less_a_column(q: Any, k: Any, shift: Any, interpret: bool) -> Any:
    def body(a: Any, b: Any, n: Any, o: Any) -> None:
        scores = multiply(a[...], chunk(b, 0).T) * 0.125
        square = scores * scores
        odd = scores * (0.5 + 0.1 * square * (n[0] + 0.25 + 0.125 * square))
        o[...] = jnp.exp(odd - n[...][None] + 0.25 * (square - 0.5 * odd * odd))

    return in_bands(body, q, k, shift, out=typed(F32, QUERIES, CHUNK), interpret=interpret, driver_exp=True)


@case(queries(), keys(), roundings=64, depth=WIDTH)
def places_as_floats(q: Any, k: Any, interpret: bool) -> Any:
    def body(a: Any, b: Any, o: Any) -> None:
        scores = multiply(a[...], chunk(b, 0).T)
        row = pl.program_id(0) * ROWS + lax.broadcasted_iota(jnp.int32, scores.shape, 0)
        column = lax.broadcasted_iota(jnp.int32, scores.shape, 1) + 1_000_000
        distance = jnp.abs(row - jnp.minimum(column - 1_000_000, 11))
        o[...] = scores + 0.01 * distance.astype(F32) - 1e-6 * column.astype(F32)

    return in_bands(body, q, k, out=typed(F32, QUERIES, CHUNK), interpret=interpret, driver_exp=True)


@case(queries(), keys(), roundings=4, depth=WIDTH)
def places_of_columns_alone(q: Any, k: Any, interpret: bool) -> Any:
    """Multiply and add places that no other place is taken from: they are as exact as integers."""

    def body(a: Any, b: Any, o: Any) -> None:
        scores = multiply(a[...], chunk(b, 0).T)
        row, column = (lax.broadcasted_iota(jnp.int32, scores.shape, axis) for axis in (0, 1))
        start = pl.program_id(0) * ROWS
        sums = (row + column + column, 5 - column - row, start + column - 7, start + row - column)
        o[...] = scores + 0.1 * column.astype(F32) + sum(each.astype(F32) * 0.3 for each in sums)

    return in_bands(body, q, k, out=typed(F32, QUERIES, CHUNK), interpret=interpret, driver_exp=True)


@case(queries(), keys(), np.asarray([0.7], np.float32), roundings=64, depth=WIDTH)
def slopes_of_distances(q: Any, k: Any, slope: Any, interpret: bool) -> Any:
    """Raise e to a score and a distance times a slope, less the row's peak: parts of rows, columns and elements."""

    def body(a: Any, b: Any, n: Any, o: Any) -> None:
        scores = multiply(a[...], chunk(b, 0).T)
        row, column = (lax.broadcasted_iota(jnp.int32, scores.shape, axis) for axis in (0, 1))
        here, key = (pl.program_id(0) * ROWS + row).astype(F32), (column + 1_000_000).astype(F32)
        scores = scores * (n[0] * 0.2) + n[0] * (key - here - 1e6)
        o[...] = jnp.exp(scores - jnp.max(scores, axis=1)[:, None])

    return in_bands(body, q, k, slope, out=typed(F32, QUERIES, CHUNK), interpret=interpret, driver_exp=True)


FAR = np.float32(1 << 20) + np.random.default_rng(4).integers(0, 8, (2, QUERIES)).astype(np.float32)


@case(queries(), keys(), FAR[0], FAR[1][:CHUNK], roundings=64, depth=WIDTH)
def differences_of_large_numbers(q: Any, k: Any, ours: Any, theirs: Any, interpret: bool) -> Any:
    """Multiply small differences of large numbers, and not the numbers."""

    def body(a: Any, b: Any, row: Any, column: Any, o: Any) -> None:
        mine = lax.dynamic_slice(row[...], (pl.program_id(0) * ROWS,), (ROWS,))
        apart = mine[:, None] - column[...][None]
        o[...] = jnp.exp(0.3 * apart) + multiply(a[...], chunk(b, 0).T)

    return in_bands(body, q, k, ours, theirs, out=typed(F32, QUERIES, CHUNK), interpret=interpret, driver_exp=True)


@case(queries(), keys(), np.arange(CHUNK, dtype=np.float32) % 3, roundings=64, depth=WIDTH)
def hidden_by_products(q: Any, k: Any, hidden: Any, interpret: bool) -> Any:
    """Take the largest number from scores that are hidden and zero times it from the others, in units of log 2."""

    def body(a: Any, b: Any, column: Any, o: Any) -> None:
        scores = multiply(a[...], chunk(b, 0).T) * 0.125
        scores += jnp.broadcast_to(column[...][None], scores.shape) * jnp.finfo(F32).min
        o[...] = jnp.exp(scores)

    return in_bands(body, q, k, hidden, out=typed(F32, QUERIES, CHUNK), interpret=interpret, driver_exp=True)


@case(queries(), keys(), np.asarray([40, -40], np.int32), roundings=4, depth=WIDTH)
def starts_beyond_the_array(q: Any, k: Any, starts: Any, interpret: bool) -> Any:
    def kernel(a: Any, b: Any, n: Any, o: Any) -> None:
        last = lax.dynamic_slice(b[...], (n[0], 0), (CHUNK, WIDTH))
        first = lax.dynamic_slice(b[...], (n[1], 0), (CHUNK, WIDTH))
        o[...] = multiply(a[...], last.T) - multiply(a[...], first.T)

    return in_bands(kernel, q, k, starts, out=typed(F32, QUERIES, CHUNK), interpret=interpret)
