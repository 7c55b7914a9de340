"""Kernels in bands whose second factors lie in memory as integers of 8 bits."""

from __future__ import annotations

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from ...pallas import kernels
from ...pallas.kernels import F32, Case
from .kernels import CHUNK, F16, KEYS, QUERIES, ROWS, WIDTH, chunk, in_bands, multiply, queries, typed

CASES: dict[str, Case] = {}
REFUSABLE: dict[str, Case] = {}
case = functools.partial(kernels.case, table=CASES)
refusable = functools.partial(kernels.case, table=REFUSABLE)


def widened(q: Any, k: Any, *, interpret: bool) -> Any:
    """Multiply by rows of integers, turned and as they lie, in a loop and after it."""
    dtype = q.dtype

    def kernel(a: Any, b: Any, o: Any) -> None:
        def step(number: Any, total: Any) -> Any:
            rows = chunk(b, number).astype(dtype)
            return total + multiply(a[...], rows.T) + multiply(a[...], rows)

        total = lax.fori_loop(0, KEYS // CHUNK, step, jnp.zeros((ROWS, WIDTH), F32))
        o[...] = total + multiply(a[...], b[...].astype(dtype)[:WIDTH])

    return in_bands(kernel, q, k, out=typed(F32, QUERIES, WIDTH), interpret=interpret)


def integers(dtype: Any) -> np.ndarray:
    """Return rows that have every number of 8 bits."""
    return np.arange(KEYS * WIDTH).reshape(KEYS, WIDTH).astype(dtype)


@case(queries(), integers(np.int8), roundings=4, depth=KEYS)
def second_factor_of_signed_integers(q: Any, k: Any, interpret: bool) -> Any:
    return widened(q, k, interpret=interpret)


@case(queries(), integers(np.uint8), roundings=4, depth=KEYS)
def second_factor_of_unsigned_integers(q: Any, k: Any, interpret: bool) -> Any:
    return widened(q, k, interpret=interpret)


@refusable(queries(), integers(np.int8), roundings=4, depth=KEYS)
def integers_that_are_both_factors(q: Any, k: Any, interpret: bool) -> Any:
    def kernel(a: Any, b: Any, o: Any) -> None:
        rows = b[...].astype(F16)
        o[...] = multiply(a[...], rows[:WIDTH].T) + multiply(rows[:ROWS], rows[:WIDTH])

    return in_bands(kernel, q, k, out=typed(F32, QUERIES, WIDTH), interpret=interpret)
