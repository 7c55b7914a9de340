"""A second table of small kernels: what kernels do with the tiles that they have loaded."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.experimental.pallas import triton as plt

from . import kernels
from .kernels import F32, Case, call, integers, like, normal, rows

CASES: dict[str, Case] = {}
case = functools.partial(kernels.case, table=CASES)


def typed(dtype: Any, *shape: int) -> jax.ShapeDtypeStruct:
    """Return the type of an array."""
    return jax.ShapeDtypeStruct(shape, dtype)


# -- layouts and reductions --------------------------------------------------------------------------------------------


@case(normal(64, 64), roundings=16)
def plus_its_transpose(x: Any, interpret: bool) -> Any:
    def kernel(a: Any, o: Any) -> None:
        y = jnp.exp(a[...])
        o[...] = y + y.T

    return call(kernel, x, interpret=interpret)


@case(normal(33), roundings=16)
def outer_product_of_a_vector_with_itself(x: Any, interpret: bool) -> Any:
    def kernel(a: Any, o: Any) -> None:
        y = jnp.exp(a[...])
        o[...] = y[:, None] * y[None, :] + y[None, :]

    return call(kernel, x, out=typed(F32, 33, 33), interpret=interpret)


@case(normal(64, 48), roundings=8, depth=64)
def reduced_both_ways(x: Any, interpret: bool) -> Any:
    def kernel(a: Any, o: Any) -> None:
        o[...] = a[...] / (jnp.abs(a[...]).sum(0)[None, :] + a[...].max(1)[:, None] + 9)

    return call(kernel, x, interpret=interpret)


@case(normal(50, 20), roundings=0)
def places_of_extremes(x: Any, interpret: bool) -> Any:
    def kernel(a: Any, o: Any, p: Any) -> None:
        o[...] = jnp.argmin(a[...], 0).astype(jnp.int32)
        p[...] = jnp.argmax(jnp.abs(a[...]), 1).astype(jnp.int32)

    return call(kernel, x, out=(typed(jnp.int32, 20), typed(jnp.int32, 50)), interpret=interpret)


@case(normal(5, 6, 7, 8), roundings=32, depth=40)
def four_axes(x: Any, interpret: bool) -> Any:
    def kernel(a: Any, o: Any) -> None:
        y = jnp.tanh(a[...])
        o[...] = jnp.transpose(y, (3, 1, 0, 2)) * y.sum((0, 3))[None, :, None, :]

    return call(kernel, x, out=typed(F32, 8, 6, 5, 7), interpret=interpret)


@case(normal(33, 17), roundings=16)
def pieces(x: Any, interpret: bool) -> Any:
    def kernel(a: Any, o: Any) -> None:
        y = jnp.exp(a[...])
        turned = jnp.concatenate([y[5:, :], y[:5, :]], 0)
        o[...] = turned * jnp.pad(y[:, 3:], ((0, 0), (0, 3)), constant_values=2.0) + y[::-1] + pltpu.roll(y, 2, 0)

    return call(kernel, x, interpret=interpret)


@case(normal(20, 61), roundings=8, depth=61)
def running_sums(x: Any, interpret: bool) -> Any:
    def kernel(a: Any, o: Any) -> None:
        o[...] = jnp.cumsum(a[...], 1) + jnp.flip(jnp.cumsum(jnp.flip(a[...], 0), 0), 0)

    return call(kernel, x, interpret=interpret)


@case(normal(64, 16), roundings=8, depth=1024)
def one_number(x: Any, interpret: bool) -> Any:
    def kernel(a: Any, o: Any) -> None:
        o[...] = jnp.exp(a[...]).sum()

    return call(kernel, x, out=typed(F32), interpret=interpret)


# -- loops and branches ------------------------------------------------------------------------------------------------


@case(normal(33, 17), roundings=0)
def loop_that_starts_with_an_array(x: Any, interpret: bool) -> Any:
    def kernel(a: Any, o: Any) -> None:
        o[...] = lax.fori_loop(0, 5, lambda _, y: y * 2 + 1, a[...])

    return call(kernel, x, interpret=interpret)


@case(normal(32, 32), roundings=32)
def loop_that_transposes(x: Any, interpret: bool) -> Any:
    def kernel(a: Any, o: Any) -> None:
        o[...] = lax.fori_loop(0, 3, lambda _, y: jnp.sin(y.T) + a[...], a[...] * 2)

    return call(kernel, x, interpret=interpret)


@case(normal(16, 16), roundings=16)
def loop_that_swaps(x: Any, interpret: bool) -> Any:
    def kernel(a: Any, o: Any) -> None:
        y = jnp.exp(a[...])
        first, second = lax.fori_loop(0, 3, lambda _, pair: (pair[1], pair[0] + 1), (y, y * 2))
        o[...] = first - second

    return call(kernel, x, interpret=interpret)


@case(normal(33, 17), normal(17, 33), roundings=4, depth=33)
def scan_over_rows(x: Any, y: Any, interpret: bool) -> Any:
    def kernel(a: Any, b: Any, o: Any) -> None:
        def step(carry: Any, i: Any) -> Any:
            carry = carry * 0.5 + a[i, :]
            return carry, carry

        _, found = lax.scan(step, jnp.zeros(17, F32), jnp.arange(33))
        o[...] = found + b[...].T

    return call(kernel, x, y, interpret=interpret)


@case(normal(33, 5), roundings=64, depth=16)
def while_its_sum_is_small(x: Any, interpret: bool) -> Any:
    def kernel(a: Any, o: Any) -> None:
        start = (jnp.int32(0), jnp.abs(a[...]) + 1)

        def body(state: Any) -> Any:
            i, y = state
            y = lax.cond(i % 2 == 0, lambda: y * 1.5 + y.mean(1, keepdims=True), lambda: (y.T * 2).T + 1)
            return i + 1, y

        o[...] = lax.while_loop(lambda state: jnp.max(state[1]) < 50, body, start)[1]

    return call(kernel, x, interpret=interpret)


@case(normal(33), roundings=8, depth=33)
def branches_of_arrays(x: Any, interpret: bool) -> Any:
    def kernel(a: Any, o: Any) -> None:
        branches = [lambda: a[...].sum() + a[...], lambda: a[...][::-1], lambda: jnp.cumsum(a[...])]
        for place in range(3):
            o[place, :] = lax.switch(jnp.clip(a[0], -1, 1).astype(jnp.int32) + place, branches)

    return call(kernel, x, out=typed(F32, 3, 33), interpret=interpret)


# -- products ----------------------------------------------------------------------------------------------------------


@case(normal(130, 70), normal(70, 90), roundings=4, depth=70)
def ragged_product(x: Any, y: Any, interpret: bool) -> Any:
    def kernel(a: Any, b: Any, o: Any, total: Any) -> None:
        k = pl.program_id(2)

        @pl.when(k == 0)
        def _() -> None:
            total[...] = jnp.zeros_like(total)

        valid = lax.broadcasted_iota(jnp.int32, (1, 32), 1) + k * 32 < 70
        left, right = jnp.where(valid, a[...], 0), jnp.where(valid.T, b[...], 0)
        total[...] += jnp.dot(left, right)

        @pl.when(k == 2)
        def _() -> None:
            o[...] = jax.nn.relu(total[...])

    specs = {
        "in_specs": [pl.BlockSpec((64, 32), lambda i, j, k: (i, k)), pl.BlockSpec((32, 64), lambda i, j, k: (k, j))],
        "out_specs": pl.BlockSpec((64, 64), lambda i, j, k: (i, j)),
        "scratch_shapes": [pltpu.VMEM((64, 64), F32)],
    }
    return call(kernel, x, y, out=typed(F32, 130, 90), grid=(3, 2, 3), interpret=interpret, **specs)


@case(normal(40, 24, dtype=ml_dtypes.bfloat16), normal(24, 33, dtype=ml_dtypes.bfloat16), roundings=4, depth=24)
def product_of_bf16(x: Any, y: Any, interpret: bool) -> Any:
    def kernel(a: Any, b: Any, o: Any) -> None:
        o[...] = jnp.dot(a[...], b[...], preferred_element_type=F32)

    return call(kernel, x, y, out=typed(F32, 40, 33), interpret=interpret)


@case(normal(40, 24, dtype=np.float16), normal(24, 33, dtype=np.float16), roundings=2, depth=4)
def product_of_f16(x: Any, y: Any, interpret: bool) -> Any:
    def kernel(a: Any, b: Any, o: Any) -> None:
        o[...] = jnp.dot(a[...], b[...], preferred_element_type=F32).astype(jnp.float16)

    return call(kernel, x, y, out=typed(jnp.float16, 40, 33), interpret=interpret)


@case(integers(-128, 128, 20, 31, dtype=np.int8), integers(-128, 128, 31, 21, dtype=np.int8), roundings=0)
def product_of_i8(x: Any, y: Any, interpret: bool) -> Any:
    def kernel(a: Any, b: Any, o: Any) -> None:
        o[...] = jnp.dot(a[...], b[...], preferred_element_type=jnp.int32)

    return call(kernel, x, y, out=typed(jnp.int32, 20, 21), interpret=interpret)


@case(normal(3, 17, 9), roundings=4, depth=9)
def batched_product(x: Any, interpret: bool) -> Any:
    def kernel(a: Any, o: Any) -> None:
        o[...] = jnp.einsum("bij,bkj->bik", a[...], a[...])

    return call(kernel, x, out=typed(F32, 3, 17, 17), interpret=interpret)


@case(normal(32, 32), normal(32, 32), roundings=4, depth=32)
def product_through_scoped_memory(x: Any, y: Any, interpret: bool) -> Any:
    def kernel(a: Any, b: Any, o: Any) -> None:
        def body(s: Any) -> None:
            s[...] = a[...] * 2
            o[...] = jnp.dot(s[...], b[...])

        pl.run_scoped(body, pltpu.VMEM((32, 32), F32))

    return call(kernel, x, y, interpret=interpret)


# -- gathers, scatters, masks ------------------------------------------------------------------------------------------


@case(normal(24, 16), integers(0, 24, 24), roundings=16)
def rows_gathered(x: Any, places: Any, interpret: bool) -> Any:
    def kernel(a: Any, i: Any, o: Any) -> None:
        o[...] = jnp.exp(a[...])[i[...]] + a[i[...], :]

    return call(kernel, x, places, interpret=interpret)


@case(normal(24, 16), integers(0, 24, 24), roundings=4, depth=24)
def rows_added_up(x: Any, places: Any, interpret: bool) -> Any:
    def kernel(a: Any, i: Any, o: Any) -> None:
        o[...] = jnp.zeros((24, 16), F32).at[i[...]].add(a[...])

    return call(kernel, x, places, interpret=interpret)


@case(integers(0, 24, 240), roundings=0)
def histogram(places: Any, interpret: bool) -> Any:
    def kernel(i: Any, o: Any) -> None:
        o[...] = jnp.zeros(24, jnp.int32).at[i[...]].add(1)

    return call(kernel, places, out=typed(jnp.int32, 24), interpret=interpret)


@case(normal(24, 16), roundings=16, depth=24)
def places_counted_and_added_to(x: Any, interpret: bool) -> Any:
    def kernel(a: Any, o: Any) -> None:
        y = jnp.exp(a[...])
        total = y.sum(0)
        o[...] = total.at[jnp.arange(16)].add(total)[None, :] + y

    return call(kernel, x, interpret=interpret)


@case(normal(24, 16), roundings=16, depth=3)
def scattered_tile_still_read(x: Any, interpret: bool) -> Any:
    def kernel(a: Any, o: Any) -> None:
        y = jnp.exp(a[...])
        z = y.at[lax.iota(jnp.int32, 3) // 2].add(y[:3])
        o[...] = z + y[::-1] + z[:, ::-1]

    return call(kernel, x, interpret=interpret)


@case(normal(24, 16), roundings=16, depth=4)
def scattered_tile_in_a_loop(x: Any, interpret: bool) -> Any:
    def kernel(a: Any, o: Any) -> None:
        y = jnp.exp(a[...])
        o[...] = lax.fori_loop(0, 4, lambda i, total: total + y.at[i].set(0.0) + y[::-1], y)

    return call(kernel, x, interpret=interpret)


@case(normal(64, 16), roundings=0)
def masked_loads_and_stores(x: Any, interpret: bool) -> Any:
    def kernel(a: Any, o: Any) -> None:
        mask = lax.broadcasted_iota(jnp.int32, (8, 16), 1) < 5
        y = plt.load(a.at[:, :], mask=mask, other=7.0)
        plt.store(o.at[...], y, mask=mask)
        plt.store(o.at[...], y + 1, mask=~mask)

    specs = {"in_specs": [rows(8, 16)], "out_specs": rows(8, 16), "compiler_params": plt.CompilerParams(num_warps=4)}
    return call(kernel, x, grid=(8,), interpret=interpret, **specs)


@case(normal(64, 16), roundings=4, depth=64)
def atomic_sums(x: Any, interpret: bool) -> Any:
    def kernel(a: Any, _: Any, o: Any) -> None:
        plt.atomic_add(o, (slice(None),), a[...].sum(0))

    whole = pl.BlockSpec((16,), lambda i: (0,))
    specs = {"in_specs": [rows(8, 16), whole], "out_specs": whole, "compiler_params": plt.CompilerParams()}
    start = jnp.zeros(16, F32)
    return call(kernel, x, start, out=like(start), grid=(8,), input_output_aliases={1: 0}, interpret=interpret, **specs)


# -- dtypes ------------------------------------------------------------------------------------------------------------


@case(integers(0, 2, 20, 30, dtype=np.bool_), roundings=0)
def booleans(x: Any, interpret: bool) -> Any:
    def kernel(a: Any, o: Any, p: Any) -> None:
        o[...] = ~a[...] & a[...].any(1)[:, None]
        p[...] = a[...].all(0)

    return call(kernel, x, out=(like(x), typed(jnp.bool_, 30)), interpret=interpret)


@case(integers(-100, 100, 20, 30, dtype=np.int16), integers(0, 60000, 20, 30, dtype=np.uint16), roundings=0)
def narrow_integers(x: Any, y: Any, interpret: bool) -> Any:
    def kernel(a: Any, b: Any, o: Any, p: Any) -> None:
        o[...] = a[...] * a[...].sum(0, keepdims=True, dtype=jnp.int16)
        p[...] = b[...] // jnp.uint16(7) + jnp.max(b[...], 1, keepdims=True)

    return call(kernel, x, y, out=(like(x), like(y)), interpret=interpret)


@case(normal(20, 30, dtype=np.float16), roundings=8, depth=4)
def half_floats(x: Any, interpret: bool) -> Any:
    def kernel(a: Any, o: Any) -> None:
        y = jnp.exp(a[...].astype(F32))
        o[...] = (y / y.sum(1, keepdims=True) + y.T.reshape(20, 30)).astype(jnp.float16)

    return call(kernel, x, interpret=interpret)


@case(normal(20, 12).astype(np.complex64) * (1 + 2j), roundings=8, depth=12)
def complex_numbers(x: Any, interpret: bool) -> Any:
    def compute(a: Any) -> Any:
        return a * jnp.conj(a).sum(1, keepdims=True) + (a * 2).T.reshape(20, 12)

    def kernel(a: Any, o: Any) -> None:
        o[...] = compute(a[...])

    # The interpreter has no complex number for memory that nobody has written.
    return compute(x) if interpret else call(kernel, x)
