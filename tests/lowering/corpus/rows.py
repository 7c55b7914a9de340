"""Reductions with what surrounds them: rows, columns, planes, several phases, argmax, user rules."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax import lax

from .case import Case, complexes, integers, normal

BF16 = ml_dtypes.bfloat16


def kinds(x: Any) -> Any:
    return x.sum(1), x.max(0), x.min(), jnp.prod(x * 0.3 + 1, 1), (x > 0).all(0), (x > 1).any()


def axes(x: Any) -> Any:
    return x.sum(0), x.sum(1), x.sum(2), x.max((0, 2)), x.sum((1, 2)), x.sum((0, 1)), x.sum()


def phases(x: Any) -> Any:
    mean = x.mean(1, keepdims=True)
    deviation = jnp.sqrt(((x - mean) ** 2).mean(1, keepdims=True) + 1e-5)
    return (x - mean) / deviation, deviation[:, 0], mean[:, 0] * 2


def column_phases(x: Any) -> Any:
    mean = x.mean(0, keepdims=True)
    return (x - mean) * 2, ((x - mean) ** 2).sum(0), mean[0] + 1


def extremes(x: Any) -> Any:
    return jnp.argmax(x, 1), jnp.argmin(x, 0), jnp.argmax(x), jnp.argmax(lax.convert_element_type(x * 3, jnp.int32), 0)


def with_nan(x: Any) -> Any:
    return x.max(1), x.min(0), jnp.argmax(x, 1), jnp.argmin(x, 1), x.sum(0)


def initial_values(x: Any) -> Any:
    five = jnp.float32(5)
    return (
        lax.reduce(x, five, lax.add, (1,)),
        lax.reduce(x, jnp.float32(1.5), lax.max, (0, 1)),
        lax.reduce(x, five, lax.add, (0, 1)),
        lax.reduce(x * 0.01 + 1, five, lax.mul, (0,)),
    )


def own_rule(x: Any) -> Any:
    def pair(left: Any, right: Any) -> Any:
        return left[0] + right[0], jnp.maximum(left[1], right[1])

    def norm(left: Any, right: Any) -> Any:
        return jnp.sqrt(left * left + right * right)

    both = lax.reduce((x, x * x), (jnp.float32(0), jnp.float32(-1)), pair, (1,))
    return (
        both,
        lax.reduce(jnp.abs(x), jnp.float32(0), norm, (0,)),
        lax.reduce(jnp.abs(x), jnp.float32(2), norm, (0, 1)),
    )


def half_used_rule(x: Any) -> Any:
    """Compose affine maps and use the shift alone, which needs the slopes."""

    def compose(left: Any, right: Any) -> Any:
        return left[0] * right[0], left[0] * right[1] + left[1]

    return lax.reduce((x, x * x), (jnp.float32(1), jnp.float32(0)), compose, (1,))[1]


def narrow_sums(x: Any) -> Any:
    zero = jnp.zeros((), x.dtype)
    return lax.reduce(x, zero, lax.add, (1,)), x.sum(0), x.max(1), (x * x).mean()


def bits(x: Any) -> Any:
    zero, ones = jnp.int32(0), jnp.int32(-1)
    return (
        lax.reduce(x, zero, lax.bitwise_or, (1,)),
        lax.reduce(x, ones, lax.bitwise_and, (0,)),
        lax.reduce(x, zero, lax.bitwise_xor, (0, 1)),
        x.sum(1),
        x.max(0),
    )


def complex_sums(x: Any) -> Any:
    return x.sum(1), x.sum(), jnp.prod(x, 0), x - x.mean(1, keepdims=True)


def between(x: Any, scale: Any, shift: Any) -> Any:
    """Reduce rows, scale them by small arrays, spread them again, and give out every step."""
    norm = jnp.sqrt((x * x).sum(2))
    gain = norm * scale[None, :] + shift[:, None]
    return x * gain[:, :, None], gain, norm.sum(1)


def siblings(x: Any, y: Any) -> Any:
    return x.sum(1), (x * x).sum(1), (x * y).sum(1), jnp.abs(x).max(1), y.sum(0), (x + y).sum(0)


CASES = (
    Case("kinds", kinds, (normal(7, 13),), depth=13, floor=4, is_mapped=True),
    Case("axes", axes, (normal(3, 5, 7),), depth=105, floor=4, gradient=(0,), is_mapped=True),
    Case("axes_with_ones", axes, (normal(1, 5, 1),), depth=5, floor=4),
    Case("rows_of_one", phases, (normal(9, 1),), floor=1),
    Case("one_row", phases, (normal(1, 37),), depth=37, floor=1, gradient=(0,)),
    Case("no_rows", lambda x: (x.sum(1), x - x.max(1, keepdims=True, initial=0.0)), (normal(0, 5),)),
    Case("rows_of_nothing", lambda x: (x.sum(1), x.max(1, initial=-2.0), x.sum()), (normal(5, 0),)),
    Case("short_rows", phases, (normal(300, 7),), depth=7, floor=1),
    Case("tile_minus_one", phases, (normal(5, 255),), depth=255, floor=1),
    Case("tile", phases, (normal(5, 256),), depth=256, floor=1),
    Case("tile_plus_one", phases, (normal(5, 257),), depth=257, floor=1),
    # Longer than the registers of a subgroup hold: a loop on a CPU, a whole workgroup with shared memory on a GPU.
    Case("long_rows", phases, (normal(3, 2503),), depth=2503, floor=1, gradient=(0,), donate=(0,)),
    Case("long_rows_argmax", extremes, (normal(3, 2503),)),
    Case("columns", column_phases, (normal(13, 300),), depth=13, floor=1, gradient=(0,), donate=(0,)),
    Case("long_columns", column_phases, (normal(131, 5),), depth=131, floor=4),
    # Its gradient adds up 41 terms.
    Case(
        "middle_axis",
        lambda x: x - x.max(1, keepdims=True),
        (normal(3, 41, 5),),
        depth=41,
        gradient=(0,),
        is_mapped=True,
    ),
    Case("outer_and_inner_axes", lambda x: x / jnp.abs(x).sum((0, 2), keepdims=True), (normal(3, 11, 5),), depth=15),
    Case("extremes", extremes, (normal(5, 11),), is_mapped=True),
    Case("ties", extremes, (np.array([[1, 3, 3, 0], [3, 3, 1, 1], [0, 0, 0, 0]], np.float32),)),
    Case(
        "nan_and_infinity",
        with_nan,
        (np.array([[3, np.nan, 1, np.nan], [2, np.inf, 5, -1], [-np.inf] * 4], np.float32),),
    ),
    Case("initial_values", initial_values, (normal(6, 11),), depth=66, floor=4),
    Case("initial_values_in_parts", initial_values, (normal(3, 40000),), depth=120000, floor=4),
    Case("own_rule", own_rule, (normal(6, 11),), depth=66, floor=4),
    Case("half_used_rule", half_used_rule, (normal(6, 11),), depth=11, floor=4),
    Case("bfloat16_sums", narrow_sums, (normal(5, 67, dtype=BF16),), depth=67, floor=1),
    Case("float16_sums", narrow_sums, (normal(5, 67, dtype=np.float16),), depth=67, floor=1),
    Case("bfloat16_sums_in_parts", narrow_sums, (normal(2, 40000, dtype=BF16),), depth=4, floor=300),
    Case("integer_sums", bits, (integers(5, 67),), is_mapped=True),
    Case(
        "small_integer_sums",
        lambda x: (x.max(1), lax.reduce(x, jnp.int8(3), lax.add, (0,))),
        (integers(5, 67, dtype=np.int8),),
    ),
    Case("complex_sums", complex_sums, (complexes(5, 13),), depth=65, floor=4, roundings=16),
    Case(
        "between",
        between,
        (normal(4, 5, 9), normal(5, seed=1), normal(4, seed=2)),
        depth=9,
        floor=4,
        gradient=(0, 1, 2),
    ),
    Case("siblings", siblings, (normal(9, 21), normal(9, 21, seed=1)), depth=21, floor=4, gradient=(0, 1)),
    Case("row_parts", lambda x: (x.sum(), (x * x).sum(1), jnp.argmax(x)), (normal(2, 50021),), depth=100042, floor=4),
    Case("column_parts", lambda x: (x.sum(0), x.max(0), jnp.argmin(x, 0)), (normal(20011, 3),), depth=20011, floor=4),
    Case("softmax", jax.nn.softmax, (normal(7, 33),), depth=33, gradient=(0,), is_mapped=True),
)
