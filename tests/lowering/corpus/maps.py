"""Elementwise expressions and moves: one kernel each."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax import lax

from .case import Case, complexes, integers, normal

BF16 = ml_dtypes.bfloat16


def several_outputs(x: Any, y: Any) -> Any:
    return x + y, jnp.where(x > y, x, y), (x > 0) & (y > 0), lax.convert_element_type(x * 8, jnp.int8)


def transposes(x: Any, y: Any) -> Any:
    return x.T + y, (x * 2).T, jnp.swapaxes(y, 0, 1)


def crossed_pair(x: Any, y: Any, z: Any) -> Any:
    """Read two arrays across the results' order and one along it: several squares of shared memory."""
    return jnp.exp(x.T * 0.1) + y.T.astype(jnp.float32) + z, z < x.T


def crossed_batches(x: Any) -> Any:
    return jnp.transpose(x, (0, 2, 1)) + 1, jnp.transpose(x, (1, 2, 0)) * 2


def pads(x: Any) -> Any:
    nine = jnp.asarray(9, x.dtype)
    return (
        lax.pad(x, nine, ((1, 2, 0), (0, 1, 0))),
        lax.pad(x, nine, ((-1, 2, 0), (3, -2, 0))),
        lax.pad(x, nine, ((-1, -1, 2), (1, 0, 1))),
        lax.pad(x, nine, ((2, -3, 1), (-2, 4, 3))),
    )


def joins(x: Any, y: Any) -> Any:
    return (
        jnp.concatenate([x, y, x[:0], x[1:2]]),
        jnp.concatenate([x[:, :0], x, x[:, 3:1:-1]], axis=1),
        jnp.stack([x[0], y[0], x[1]]),
        jnp.concatenate([x, y])[2:5, ::2],
    )


def reversals(x: Any) -> Any:
    return jnp.flip(x), jnp.flip(x, 1)[:, ::3], jnp.roll(x, 3, 0), lax.rev(x, (0,)).T


def dynamic_slices(x: Any, i: Any, j: Any) -> Any:
    return (
        lax.dynamic_slice(x, (i, j), (2, 3)),
        lax.dynamic_slice(x, (j, i), (1, 5)),
        lax.dynamic_slice(x, (i, i), (5, 7)),
    )


def narrow_slices(x: Any, i: Any, j: Any) -> Any:
    return lax.dynamic_slice(x, (i,), (5,)), lax.dynamic_slice(x, (j,), (300,)), lax.dynamic_index_in_dim(x, i, 0)


def gathers(x: Any, i: Any) -> Any:
    return (
        x[i],
        x[i[:, 0], 1:4],
        jnp.take(x, i, axis=1, mode="clip"),
        jnp.take(x, i, axis=0, mode="fill"),
        jnp.take_along_axis(x, i[:, :1], 1, mode="clip"),
        x.at[i[:, 0], i[:, 1]].get(mode="promise_in_bounds", unique_indices=True) * 0,
    )


def narrow_gathers(x: Any, i: Any, j: Any) -> Any:
    return x[i], x[j], jnp.take(x, i, mode="fill"), jnp.take(x, j, mode="clip")


def byte_gathers(x: Any, i: Any, j: Any) -> Any:
    """Gather with indices too narrow to reach the end; JAX itself cannot wrap an i8 at an extent beyond 127."""
    dims = lax.GatherDimensionNumbers((), (0,), (0,))
    return tuple(
        lax.gather(x, k[:, None], dims, (1,), mode=mode) for k in (i, j) for mode in ("clip", "promise_in_bounds")
    )


def batched_gather(x: Any, i: Any) -> Any:
    dims = lax.GatherDimensionNumbers((1,), (1,), (1,), (0,), (0,))
    return lax.gather(x, i, dims, (1, 1, 3), mode="clip")


def reshapes(x: Any) -> Any:
    return (
        x.reshape(7, 5) * 2,
        (x + 1).reshape(-1)[3:],
        x.reshape(1, 35, 1)[:, ::-1],
        lax.bitcast_convert_type(x, jnp.int32),
    )


def bitcasts(x: Any, y: Any) -> Any:
    return (
        lax.bitcast_convert_type(x, jnp.uint8),
        lax.bitcast_convert_type(y, jnp.int16),
        lax.bitcast_convert_type(lax.bitcast_convert_type(x + 1, jnp.uint16), jnp.float32),
    )


def iotas(x: Any) -> Any:
    return (
        lax.broadcasted_iota(jnp.int32, (3, 5), 1) + x,
        lax.broadcasted_iota(jnp.complex64, (3, 2), 0),
        jnp.arange(300, dtype=jnp.uint8),
        jnp.eye(4, k=1) * 2,
    )


def infinite_magnitudes(x: Any) -> Any:
    """Take signs from values that have no finite number of one sign, but the infinity of that sign."""
    low = jnp.where(x > 0, x * x, -jnp.inf)
    high = jnp.where(x > 0, -x * x, jnp.inf)
    return 2 * jnp.abs(low), lax.logistic(low), jnp.expm1(low), 2 * jnp.abs(high), jnp.tanh(high)


def sixteen_bits(x: Any, y: Any) -> Any:
    return x * y + x, jnp.exp(x), x / y, jnp.where(x < y, x, y)


CASES = (
    Case("one_element", lambda x: jnp.sin(x) + 1, (normal(),), is_mapped=True),
    Case("no_elements", lambda x, y: (x * 2, y + y, x.T), (normal(0, 3), normal(0)), is_mapped=True),
    Case("prime_sizes", several_outputs, (normal(17, 31), normal(17, 31, seed=1)), is_mapped=True),
    # 4 elements a lane start at 262144; one more than that makes the last workgroup ragged.
    Case(
        "four_a_lane", lambda x, y: (x * y + 1, x - y), (normal(262144), normal(262144, seed=1)), floor=1, donate=(0,)
    ),
    Case("four_a_lane_ragged", lambda x: jnp.maximum(x, 0) * 3, (normal(262147),)),
    Case(
        "small_integers",
        lambda x, y: (x + y, x * y, x // 3, x ^ y),
        (integers(37, dtype=np.int8), integers(37, seed=1, dtype=np.int8)),
    ),
    Case("bfloat16", sixteen_bits, (normal(41, dtype=BF16), normal(41, seed=1, dtype=BF16) + BF16(4)), floor=1.0),
    Case(
        "float16",
        sixteen_bits,
        (normal(41, dtype=np.float16), normal(41, seed=1, dtype=np.float16) + np.float16(4)),
        floor=1.0,
    ),
    Case(
        "complex",
        lambda x, y: (x * y, jnp.exp(x), x / (y + 5), x.real, jnp.conj(x)),
        (complexes(23), complexes(23, seed=5)),
        roundings=32,
    ),
    Case("transposes", transposes, (normal(5, 7), normal(7, 5)), gradient=(0, 1), is_mapped=True),
    Case(
        "crossed_pair",
        crossed_pair,
        (normal(37, 65), normal(37, 65, seed=1, dtype=BF16), normal(65, 37, seed=2)),
        floor=1,
        gradient=(0, 2),
    ),
    Case("crossed_exact_tiles", lambda x: (x.T * 2, x.T + 1), (normal(64, 32),)),
    Case("crossed_batches", crossed_batches, (normal(33, 3, 40),)),
    Case("crossed_complex", lambda x: x.T * 2, (complexes(33, 34),)),
    Case("pads", pads, (normal(4, 5),), gradient=(0,), is_mapped=True),
    Case("joins", joins, (normal(3, 4), normal(2, 4, seed=1)), gradient=(0, 1), is_mapped=True),
    Case("reversals", reversals, (normal(5, 7),), gradient=(0,)),
    Case("dynamic_slices", dynamic_slices, (normal(5, 7), np.int32(9), np.int32(-3)), gradient=(0,)),
    Case(
        "dynamic_slices_inside", dynamic_slices, (normal(5, 7), np.int32(1), np.int32(2)), gradient=(0,), is_mapped=True
    ),
    Case("index_u8", narrow_slices, (normal(700), np.uint8(250), np.uint8(3))),
    Case("index_i8", narrow_slices, (normal(700), np.int8(-5), np.int8(120))),
    Case("index_i16", narrow_slices, (normal(700), np.int16(-300), np.int16(399))),
    Case("index_u32", narrow_slices, (normal(700), np.uint32(2**32 - 1), np.uint32(17))),
    Case(
        "gathers",
        gathers,
        (normal(6, 5), np.array([[0, 4], [5, -7], [9, 2], [-1, -1], [3, 3], [2, 0]], np.int32)),
        gradient=(0,),
    ),
    Case(
        "gather_u8", byte_gathers, (normal(300), np.array([0, 255, 7], np.uint8), np.array([3, -1, 127, -128], np.int8))
    ),
    Case(
        "gather_u32",
        narrow_gathers,
        (normal(30), np.array([0, 2**32 - 1, 29], np.uint32), np.array([3, -1, 30], np.int16)),
    ),
    Case("gather_batched", batched_gather, (normal(3, 4, 6), np.array([[[1]], [[9]], [[-2]]], np.int32).reshape(3, 1))),
    Case("reshapes", reshapes, (normal(5, 7),)),
    Case("bitcasts", bitcasts, (normal(3, 5), normal(6, dtype=np.float32).view(np.int8).reshape(12, 2))),
    Case("iotas", iotas, (np.int32(3),)),
    Case("infinite_magnitudes", infinite_magnitudes, (normal(41),)),
    Case("pad_of_nothing", lambda x: (jnp.pad(x, ((1, 2), (0, 1)), constant_values=3.0), x.sum(0)), (normal(0, 3),)),
)
