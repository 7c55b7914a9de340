"""Loops and branches, nested in each other, with carries of every kind."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .case import Case, normal

# A loop over elementwise operations alone is written out round by round: the bodies here reduce, gather or update.


def counted(rounds: int) -> Any:
    return lambda x: lax.fori_loop(0, rounds, lambda i, c: c.at[i % 4].add(c.sum() * 0.1), x)


def swapped(x: Any, y: Any, z: Any) -> Any:
    return lax.fori_loop(0, 5, lambda i, c: (c[1], c[0], c[2] - c[2].max()), (x, y, z))


def rotated(x: Any, y: Any, z: Any) -> Any:
    return lax.fori_loop(0, 4, lambda i, c: (c[1], c[2], c[0] - c[0].max()), (x, y, z))


def doubled(x: Any) -> Any:
    """Start two carries from one array, and give one result twice."""
    a, b = lax.fori_loop(0, 3, lambda i, c: (c[1] * 2, c[1] - c[1].min()), (x, x))
    return a, b, a


def unchanged(x: Any, y: Any) -> Any:
    return lax.while_loop(
        lambda c: c[0].sum() < 50, lambda c: (c[0] + c[1], c[1], c[2] * 1), (jnp.abs(x), jnp.abs(y), x)
    )


def captured(x: Any, table: Any) -> Any:
    constant = jnp.arange(12.0).reshape(3, 4)
    return lax.fori_loop(0, 3, lambda i, c: jnp.sin(c) + table[i] + constant[i] * 0.1, x)


def while_rounds(x: Any, n: Any) -> Any:
    return lax.while_loop(
        lambda c: (c[0] < n) & (c[1].sum() < 1e3), lambda c: (c[0] + 1, c[1] * 1.5 + x), (jnp.int32(0), x)
    )


def while_in_while(x: Any, n: Any) -> Any:
    def outer(carry: Any) -> Any:
        k, v = carry
        _, v = lax.while_loop(lambda c: c[0] < k, lambda c: (c[0] + 1, c[1] + 1.0), (jnp.int32(0), v))
        return k + 1, v * 0.5

    return lax.while_loop(lambda c: c[0] < n, outer, (jnp.int32(0), x))


def while_in_branch(x: Any, index: Any) -> Any:
    def loop(v: Any) -> Any:
        return lax.while_loop(lambda c: jnp.abs(c).sum() < 100, lambda c: c * 2 + 1, v)

    def fixed(v: Any) -> Any:
        return lax.fori_loop(0, 3, lambda i, c: c - c.max() * i.astype(jnp.float32), v)

    return lax.switch(index, [loop, fixed, lambda v: v], x)


def branch_in_scan(x: Any, choices: Any) -> Any:
    def step(carry: Any, choice: Any) -> Any:
        new = lax.switch(choice, [jnp.sin, lambda v: v * x, lambda v: v.at[0].set(0.0)], carry)
        return new, new.sum()

    return lax.scan(step, x, choices)


def nested_branches(x: Any, i: Any, j: Any) -> Any:
    def inner(v: Any) -> Any:
        return lax.switch(j, [lambda: v + 1, lambda: v * 2, lambda: x[::-1]])

    return lax.cond(i > 0, inner, lambda v: lax.cond(j > 1, inner, lambda w: -w, v), x)


def branch_results(x: Any, y: Any, i: Any) -> Any:
    """Give out captured arrays as they are, swapped, and constants."""
    return lax.switch(i, [lambda: (x, y), lambda: (y, x), lambda: (x, x), lambda: (jnp.zeros_like(x), y + x)])


def scan_stack(x: Any, xs: Any) -> Any:
    def step(carry: Any, row: Any) -> Any:
        new = jnp.tanh(carry + row)
        return new, (new * 2, carry.sum())

    return lax.scan(step, x, xs)


def scan_product(w: Any, xs: Any) -> Any:
    carry, sums = lax.scan(lambda c, x: (jnp.tanh(c + x @ w), c.sum()), jnp.zeros(w.shape[1]), xs)
    return carry, sums


def empty_carry(x: Any, y: Any) -> Any:
    return lax.fori_loop(0, 2, lambda i, c: (c[0] * 2, c[1] + c[0].sum()), (x, y))


def updates_in_loop(x: Any, u: Any) -> Any:
    """Read the old array after it was updated in place, round after round."""

    def step(i: Any, c: Any) -> Any:
        table, total = c
        new = lax.dynamic_update_slice(table, u + total[:2], (i,))
        return new, total + table[:4]

    return lax.fori_loop(0, 4, step, (x, x[:4] * 0))


def loop_after_update(x: Any) -> Any:
    y = x.at[0].set(1.0)
    return lax.fori_loop(0, 3, lambda i, c: c - c.max(), y), y.sum()


def condition_is_a_carry(x: Any, go: Any) -> Any:
    return lax.while_loop(lambda c: c[1], lambda c: (c[0] + 1, c[0].sum() < 20), (x, go))


CASES = (
    Case("counted_9", counted(9), (normal(4),), depth=9, floor=4, gradient=(0,), is_mapped=True, donate=(0,)),
    Case("counted_1", counted(1), (normal(4),)),
    Case("counted_0", counted(0), (normal(4),), donate=(0,)),
    Case("swapped", swapped, (normal(4), normal(4, seed=1), normal(4, seed=2)), donate=(0, 1)),
    Case("rotated", rotated, (normal(4), normal(4, seed=1), normal(4, seed=2)), donate=(0, 1, 2)),
    Case("doubled", doubled, (normal(4),), donate=(0,)),
    Case("unchanged", unchanged, (normal(4), normal(4, seed=1)), donate=(0, 1)),
    Case(
        "captured", captured, (normal(4), normal(3, 4, seed=1)), roundings=16, floor=1, gradient=(0, 1), is_mapped=True
    ),
    Case("while", while_rounds, (normal(5), np.int32(7)), depth=7, floor=4, is_mapped=True),
    Case("while_0", while_rounds, (normal(5), np.int32(0))),
    Case("while_1", while_rounds, (normal(5), np.int32(1))),
    Case("while_in_while", while_in_while, (normal(5), np.int32(4)), floor=1),
    Case("while_in_branch", while_in_branch, (normal(5), np.int32(0)), roundings=64, floor=1),
    Case("counted_in_branch", while_in_branch, (normal(5), np.int32(1)), floor=1),
    Case("branch_beside_loops", while_in_branch, (normal(5), np.int32(2))),
    Case(
        "branch_in_scan",
        branch_in_scan,
        (normal(5), np.array([0, 2, 1, 1, 9, -4], np.int32)),
        roundings=32,
        floor=4,
        gradient=(0,),
    ),
    *(
        Case(f"nested_branches_{i}_{j}", nested_branches, (normal(5), np.int32(i), np.int32(j)), gradient=(0,))
        for i, j in ((0, 0), (0, 2), (1, 0), (1, 1), (1, 7))
    ),
    *(
        Case(f"branch_results_{i}", branch_results, (normal(5), normal(5, seed=1), np.int32(i)), donate=(0, 1))
        for i in (-1, 0, 1, 2, 3, 9)
    ),
    Case(
        "scan_stack",
        scan_stack,
        (normal(5), normal(6, 5, seed=1)),
        roundings=32,
        depth=6,
        floor=4,
        gradient=(0, 1),
        is_mapped=True,
    ),
    Case(
        "scan_product",
        scan_product,
        (normal(3, 4), normal(6, 3, seed=1)),
        roundings=32,
        depth=18,
        floor=4,
        gradient=(0, 1),
    ),
    Case("scan_of_nothing", scan_stack, (normal(5), normal(0, 5))),
    Case("empty_carry", empty_carry, (normal(0, 3), normal(4))),
    Case(
        "updates_in_loop",
        updates_in_loop,
        (normal(8), normal(2, seed=1)),
        depth=4,
        floor=4,
        donate=(0,),
        gradient=(0, 1),
    ),
    Case("loop_after_update", loop_after_update, (normal(8),), floor=4, donate=(0,)),
    Case("condition_is_a_carry", condition_is_a_carry, (normal(5), np.bool_(True)), depth=9, floor=4),
    Case("condition_is_false", condition_is_a_carry, (normal(5), np.bool_(False))),
    Case(
        "vmapped_while", jax.vmap(while_rounds, (0, 0)), (normal(3, 5), np.array([2, 0, 5], np.int32)), depth=7, floor=4
    ),
)
