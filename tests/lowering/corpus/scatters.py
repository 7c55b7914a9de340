"""Scatter in its four modes, updates in place, windows."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax import lax

from .case import Case, integers, normal

# Duplicates, negative numbers and places out of bounds.
PLACES = np.array([0, 4, 4, -1, 9, 4, 2, 0], np.int32)


def single_places(x: Any, i: Any, u: Any) -> Any:
    column = x.at[i, 2]
    return column.add(u), column.set(u), column.min(u), column.max(u)


def whole_rows(x: Any, i: Any, u: Any) -> Any:
    return x.at[i].add(u), x.at[i].set(u, mode="drop"), x.at[:, i[:5] % 3].add(u[:6, :5])


def integer_places(x: Any, i: Any, u: Any) -> Any:
    return x.at[i].add(u), x.at[i].max(u), x.at[i].min(u), x.at[i].set(u), x.at[i].mul(u)


def bit_places(x: Any, i: Any, u: Any) -> Any:
    dims = lax.ScatterDimensionNumbers((), (0,), (0,))
    index = i[:, None]
    return lax.scatter_add(x, index, u, dims), lax.scatter_max(x, index, u, dims, mode="clip")


def unique_places(x: Any, i: Any, u: Any) -> Any:
    return x.at[i].set(u, unique_indices=True), x.at[i].add(u, unique_indices=True, mode="drop")


def overlapping_windows(x: Any, i: Any, u: Any) -> Any:
    dims = lax.ScatterDimensionNumbers((1,), (), (0,))
    return lax.scatter_add(x, i[:, None], u, dims), lax.scatter(x, i[:, None], u, dims, mode="clip")


def batched_scatter(x: Any, i: Any, u: Any) -> Any:
    dims = lax.ScatterDimensionNumbers((), (1,), (1,), (0,), (0,))
    return lax.scatter_add(x, i, u, dims), lax.scatter(x, i, u, dims, mode="drop")


def own_function(x: Any, i: Any) -> Any:
    dims = lax.ScatterDimensionNumbers((), (0,), (0,))
    return lax.scatter_apply(x, i[:, None], lambda v: v * v + 1, dims, update_shape=i.shape)


def indexed_by_itself(x: Any) -> Any:
    """Take indices and updates from the array that is overwritten."""
    dims = lax.ScatterDimensionNumbers((), (0,), (0,))
    mode = lax.GatherScatterMode.PROMISE_IN_BOUNDS
    return lax.scatter_add(x, x[:, None], x[::-1] * 2, dims, mode=mode)


def updated_by_its_view(x: Any, i: Any) -> Any:
    dims = lax.ScatterDimensionNumbers((), (0,), (0,))
    return lax.scatter(x, i[:, :, None], x.reshape(i.shape), dims)


def updated_by_itself(x: Any, i: Any) -> Any:
    dims = lax.ScatterDimensionNumbers((), (0,), (0,))
    return lax.scatter_add(x, i[:, None], x, dims)


def swapped_by_update(x: Any) -> Any:
    return lax.dynamic_update_slice(x, x[1:] * 2, (0,)), lax.dynamic_update_slice(x, x, (0,))


def read_later(x: Any, i: Any, u: Any) -> Any:
    """Use the operand and the result after the update, and update the result again."""
    y = x.at[i].add(u)
    z = y.at[0].set(-1.0)
    return y * 2, z, x.sum() + z.sum()


def slices_in_place(x: Any, u: Any, i: Any) -> Any:
    return (
        lax.dynamic_update_slice(x, u, (i, i)),
        lax.dynamic_update_slice(x * 2, u + 1, (jnp.int32(99), -i)),
        x.at[1:3, 2:4].set(0.5),
        lax.dynamic_update_slice(x, x[1:3, 1:3] * 2, (i, jnp.int32(0))),
    )


def nothing_to_write(x: Any, u: Any) -> Any:
    return (
        x.at[jnp.zeros((0,), jnp.int32)].set(u[:0]),
        lax.dynamic_update_slice(x, u[:0, :0], (0, 0)),
        x.at[2:2].set(1.0),
    )


def runs(x: Any) -> Any:
    return jnp.cumsum(x, 1), jnp.cumprod(x, 0), lax.cummax(x, 1, reverse=True), lax.cumsum(x, 0, reverse=True)


def windows(x: Any) -> Any:
    low, zero = -jnp.inf, jnp.float32(0)
    return (
        lax.reduce_window(x, zero, lax.add, (3, 2), (2, 1), "SAME"),
        lax.reduce_window(x, low, lax.max, (2, 3), (1, 2), "VALID", window_dilation=(2, 1)),
        lax.reduce_window(x, zero, lax.add, (2, 2), (1, 1), ((1, 2), (0, 3)), base_dilation=(2, 3)),
        lax.reduce_window(x, zero, lax.add, (2, 2), (1, 1), ((-1, 1), (2, -2))),
    )


def window_pairs(x: Any) -> Any:
    def pair(left: Any, right: Any) -> Any:
        return left[0] + right[0], jnp.minimum(left[1], right[1])

    return lax.reduce_window((x, x * 2), (jnp.float32(0), jnp.float32(7)), pair, (2, 3), (1, 2), "SAME")


def pooling(x: Any) -> Any:
    return lax.reduce_window(x, jnp.zeros((), x.dtype), lax.add, (3, 5), (1, 1), "SAME"), lax.cumsum(x, 1)


IMAGE = normal(6, 7)
LINE = normal(9, seed=4)
CASES = (
    Case(
        "scatter_places",
        single_places,
        (normal(6, 5), PLACES, normal(8, seed=3)),
        gradient=(0, 2),
        donate=(0,),
        roundings=16,
    ),
    Case("scatter_rows", whole_rows, (normal(6, 5), PLACES, normal(8, 5, seed=3)), roundings=16, floor=2),
    Case("scatter_integers", integer_places, (integers(6), PLACES, integers(8, seed=3)), donate=(0,)),
    Case(
        "scatter_unsigned",
        integer_places,
        (integers(6, low=0, dtype=np.uint32), PLACES, integers(8, low=0, seed=3, dtype=np.uint32)),
    ),
    Case(
        "scatter_small_integers",
        integer_places,
        (integers(6, dtype=np.int8), PLACES, integers(8, seed=3, dtype=np.int8)),
    ),
    Case("scatter_bits", bit_places, (integers(6), PLACES, integers(8, seed=3))),
    Case(
        "scatter_bfloat16",
        single_places,
        (normal(6, 5, dtype=ml_dtypes.bfloat16), PLACES, normal(8, seed=3, dtype=ml_dtypes.bfloat16)),
        roundings=16,
        floor=1,
    ),
    Case(
        "scatter_unique", unique_places, (LINE, np.array([3, 0, 8, 17], np.int32), normal(4, seed=3)), gradient=(0, 2)
    ),
    Case(
        "scatter_windows",
        overlapping_windows,
        (LINE, np.array([0, 2, 1, 6, 7, -1], np.int32), normal(6, 3, seed=3)),
        floor=2,
        donate=(0,),
    ),
    Case(
        "scatter_integer_windows",
        overlapping_windows,
        (integers(9), np.array([0, 2, 1, 6, 7], np.int32), integers(5, 3, seed=3)),
    ),
    Case("scatter_batched", batched_scatter, (normal(3, 5), np.array([[1], [7], [-1]], np.int32), normal(3, seed=3))),
    Case(
        "scatter_index_u8",
        single_places,
        (normal(6, 5), np.array([5, 255, 0, 3], np.uint8), normal(4, seed=3)),
        roundings=16,
    ),
    Case(
        "scatter_index_i8",
        single_places,
        (normal(6, 5), np.array([5, -1, 0, -128], np.int8), normal(4, seed=3)),
        roundings=16,
    ),
    Case("scatter_function", own_function, (LINE, np.array([3, 3, 8], np.int32)), donate=(0,)),
    Case("scatter_indexed_by_itself", indexed_by_itself, (np.array([3, 1, 1, 0, 2], np.int32),), donate=(0,)),
    Case(
        "scatter_updated_by_its_view",
        updated_by_its_view,
        (normal(6), np.array([[5, 4, 3], [2, 1, 0]], np.int32)),
        donate=(0,),
    ),
    Case(
        "scatter_updated_by_itself",
        updated_by_itself,
        (normal(6), np.array([5, 0, 0, 2, 1, 5], np.int32)),
        floor=1,
        donate=(0,),
    ),
    Case("update_by_itself", swapped_by_update, (normal(6),), donate=(0,)),
    Case(
        "scatter_products",
        lambda x, i, u: (x.at[i].mul(u), x.at[i, 1].mul(u[:, 0])),
        (normal(6, 5), PLACES, normal(8, 5, seed=3)),
        roundings=16,
        donate=(0,),
    ),
    Case(
        "scatter_read_later",
        read_later,
        (normal(6), PLACES[:3], normal(3, seed=3)),
        floor=4,
        donate=(0,),
        gradient=(0, 2),
    ),
    Case("scatter_mapped", lambda x, i: x.at[i].add(1.0), (normal(6), PLACES), is_mapped=True),
    Case(
        "slices_in_place",
        slices_in_place,
        (IMAGE, normal(2, 2, seed=1), np.int32(3)),
        gradient=(0, 1),
        donate=(0,),
        is_mapped=True,
    ),
    Case("nothing_to_write", nothing_to_write, (normal(4, 3), normal(2, 3, seed=1))),
    Case("running", runs, (IMAGE,), depth=7, floor=4, gradient=(0,), is_mapped=True),
    Case("running_long", runs, (normal(3, 1301) * 0.05 + 1,), depth=1301, floor=64),
    Case("running_integers", lambda x: (jnp.cumsum(x, 1), lax.cummin(x, 0, reverse=True)), (integers(3, 1301),)),
    Case("running_over_one", runs, (normal(1, 1),)),
    Case("windows", windows, (IMAGE,), depth=6, floor=2),
    Case("window_pairs", window_pairs, (IMAGE,), depth=6, floor=2),
    Case(
        "window_gradient", lambda x: lax.reduce_window(x, 0.0, lax.add, (2, 3), (2, 1), "SAME"), (IMAGE,), gradient=(0,)
    ),
    Case("window_bfloat16", pooling, (normal(6, 7, dtype=ml_dtypes.bfloat16),), depth=15, floor=1, roundings=2),
    Case("log_cumsum", lambda x: lax.cumlogsumexp(x, 1), (IMAGE,), depth=7, floor=1, gradient=(0,)),
)
