"""Matrix products with any dimensions, dtypes, prologues and epilogues."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax import lax

from .case import Case, complexes, integers, normal

BF16 = ml_dtypes.bfloat16


def every_axis(a: Any, b: Any) -> Any:
    return (
        jnp.einsum("ijk,kjl->jil", a, b),
        jnp.einsum("ijk,kjl->il", a, b),
        jnp.einsum("ijk,kjl->ikjl", a, b),
        jnp.einsum("ijk,mjl->imkl", a, b[:, :, :2]),
    )


def several_contracted(a: Any, b: Any) -> Any:
    return lax.dot_general(a, b, (((2, 0), (1, 2)), ((), ()))), lax.dot_general(a, b, (((0,), (2,)), ((1,), (3,))))


def wider_results(a: Any, b: Any) -> Any:
    dims = (((1,), (0,)), ((), ()))
    return (
        lax.dot_general(a, b, dims, preferred_element_type=jnp.float32),
        lax.dot_general(a, b, dims),
        lax.dot_general(a, lax.convert_element_type(b, jnp.float32), dims, preferred_element_type=jnp.float32),
    )


def integer_products(a: Any, b: Any) -> Any:
    dims = (((1,), (0,)), ((), ()))
    return lax.dot_general(a, b, dims, preferred_element_type=jnp.int32), lax.dot_general(a, b, dims)


def epilogues(a: Any, b: Any, bias: Any, residual: Any) -> Any:
    y = a @ b + bias[None, :]
    return jnp.maximum(y, 0) + residual, y.astype(jnp.bfloat16), (y > 0)


def transposed_result(a: Any, b: Any, c: Any) -> Any:
    return (a @ b).T + c, (a @ b).reshape(-1)[::2]


def prologues(a: Any, b: Any) -> Any:
    return a.T[::2] @ b[::-1].T, (a[:, None] * jnp.ones((1, 3, 1))).reshape(-1, a.shape[1]).T @ jnp.tile(b.T, (3, 1))[
        :21
    ]


def joined_heads(joined: Any, mix: Any) -> Any:
    batch, places, width = joined.shape
    heads = joined.reshape(batch, places, 3, 2, width // 6)
    queries, keys, values = heads[:, :, 0], heads[:, :, 1], heads[:, :, 2]
    weights = jnp.einsum("bqhd,bkhd->bhqk", queries, keys) / places
    return jnp.einsum("bhqk,bkhd->bqhd", weights, values).reshape(batch, places, width // 3) @ mix


def moved_operands(a: Any, b: Any) -> Any:
    turned = a.transpose(0, 2, 1, 3)
    repeated = jnp.broadcast_to(b[:, None, :24], (3, 2, 24, 32)).reshape(6, 24, 32)
    return (
        jnp.einsum("bqhd,bkhd->bhqk", turned[:, 8:24], turned[:, ::2]),
        turned.reshape(2, 40, 96) @ b.reshape(96, 32),
        jnp.einsum("ghd,sd->gsh", repeated, a[0, 1]),
    )


def one_dimension(a: Any, b: Any) -> Any:
    return a @ b, jnp.outer(a, b), jnp.vdot(a, b) * a


CASES = (
    Case(
        "product",
        lambda a, b: a @ b,
        (normal(33, 17), normal(17, 65, seed=1)),
        depth=17,
        floor=4,
        gradient=(0, 1),
        is_mapped=True,
    ),
    Case("product_tiles", lambda a, b: a @ b, (normal(64, 64), normal(64, 64, seed=1)), depth=64, floor=4),
    Case("product_long", lambda a, b: a @ b, (normal(3, 1031), normal(1031, 5, seed=1)), depth=1031, floor=4),
    Case("product_of_vectors", one_dimension, (normal(37), normal(37, seed=1)), depth=37, floor=4, gradient=(0, 1)),
    Case("product_row", lambda a, b: (a @ b, b @ a), (normal(1, 37), normal(37, 1, seed=1)), depth=37, floor=4),
    Case(
        "product_every_axis", every_axis, (normal(2, 3, 4), normal(4, 3, 5, seed=1)), depth=12, floor=4, gradient=(0, 1)
    ),
    Case(
        "product_several_contracted",
        several_contracted,
        (normal(3, 5, 7), normal(2, 7, 3, 5, seed=1)),
        depth=21,
        floor=4,
    ),
    Case(
        "product_of_nothing", lambda a, b: (a @ b, b @ a, a.T @ b.T), (normal(3, 0), normal(0, 4, seed=1).reshape(0, 3))
    ),
    Case(
        "product_bfloat16",
        wider_results,
        (normal(9, 33, dtype=BF16), normal(33, 7, seed=1, dtype=BF16)),
        depth=33,
        floor=4,
    ),
    Case(
        "product_float16",
        wider_results,
        (normal(9, 33, dtype=np.float16), normal(33, 7, seed=1, dtype=np.float16)),
        depth=33,
        floor=4,
    ),
    Case("product_integers", integer_products, (integers(9, 33), integers(33, 7, seed=1))),
    Case(
        "product_small_integers",
        integer_products,
        (integers(9, 33, dtype=np.int8), integers(33, 7, seed=1, dtype=np.int8)),
    ),
    Case("product_complex", lambda a, b: a @ b, (complexes(9, 13), complexes(13, 7, seed=3)), depth=13, floor=8),
    Case(
        "product_epilogues",
        epilogues,
        (normal(19, 33), normal(33, 7, seed=1), normal(7, seed=2), normal(19, 7, seed=3)),
        depth=33,
        floor=4,
        gradient=(0, 1, 2, 3),
        donate=(3,),
    ),
    Case(
        "product_transposed",
        transposed_result,
        (normal(19, 33), normal(33, 7, seed=1), normal(7, 19, seed=2)),
        depth=33,
        floor=4,
    ),
    Case(
        "product_joined_heads",
        joined_heads,
        (normal(2, 36, 192), normal(64, 40, seed=1)),
        depth=96,
        floor=64,
        gradient=(0, 1),
    ),
    Case(
        "product_joined_heads_float16",
        joined_heads,
        (normal(2, 40, 96, dtype=np.float16), normal(32, 40, seed=1, dtype=np.float16)),
        depth=72,
        floor=32,
        gradient=(0, 1),
    ),
    Case(
        "product_moved_operands",
        moved_operands,
        (normal(2, 3, 40, 32), normal(3, 32, 32, seed=1)),
        depth=96,
        floor=8,
    ),
    Case("product_prologues", prologues, (normal(7, 10), normal(7, 7, seed=1)), depth=21, floor=4),
)
