"""jax and jax.lax: loops, branches, transformations of transformations, rules of one's own."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from .case import Program, normal, positive


def _collatz(start: Any) -> Any:
    def length(n: Any) -> Any:
        halve_or_grow = lambda carry: (carry[0] + 1, jnp.where(carry[1] % 2 == 0, carry[1] // 2, 3 * carry[1] + 1))  # noqa: E731
        return lax.while_loop(lambda carry: carry[1] != 1, halve_or_grow, (0, n))[0]

    return jax.vmap(length)(start)


def _branches(index: Any, x: Any) -> Any:
    choices = (jnp.sin, lambda v: v**3, lambda v: jnp.zeros_like(v), lambda v: jnp.cumsum(v))
    one = jax.grad(lambda v, i: lax.switch(i, choices, v).sum())
    gated = lax.cond(index[0] > 1, lambda v: v.sum(), lambda v: v.prod(), x[0])
    return jax.vmap(one)(x, index), gated


def _recurrence(x: Any, weights: Any) -> Any:
    def step(state: Any, value: Any) -> Any:
        state = jnp.tanh(weights @ state + value)
        return state, {"state": state, "largest": state.max()}

    def loss(w: Any) -> Any:
        final, trace = lax.scan(jax.checkpoint(step), jnp.ones(w.shape[0]), x, reverse=True, unroll=2)
        return final.sum() + trace["largest"].mean(), trace

    return jax.value_and_grad(loss, has_aux=True)(weights)


def _associative(gates: Any, values: Any) -> Any:
    def combine(left: Any, right: Any) -> Any:
        return left[0] * right[0], right[0] * left[1] + right[1]

    scan = lambda g, v: lax.associative_scan(combine, (g, v), axis=0)[1]  # noqa: E731
    return scan(gates, values), jax.grad(lambda g: scan(g, values).sum())(gates)


def _second_order(x: Any) -> Any:
    def energy(v: Any) -> Any:
        return (jnp.sin(v) * v[::-1] ** 2).sum() + jax.nn.logsumexp(v)

    value, product = jax.jvp(jax.grad(energy), (x,), (jnp.ones_like(x),))
    _, linear = jax.linearize(energy, x)
    return jax.hessian(energy)(x), jax.jacrev(jax.grad(energy))(x), value, product, linear(x)


@jax.custom_vjp
def _clipped(x: Any) -> Any:
    return x * 2


_clipped.defvjp(lambda x: (x * 2, x), lambda x, g: (jnp.clip(g, -0.5, 0.5) * jnp.sign(x),))


def _own_rules(x: Any) -> Any:
    total = lambda v: (_clipped(v) * jax.nn.relu6(v) * jax.nn.silu(v)).sum()  # noqa: E731
    return jax.grad(total)(x), jax.vmap(jax.grad(lambda v: _clipped(v) * v))(x)


def _in_place(x: Any) -> Any:
    def body(i: Any, state: Any) -> Any:
        grid, total = state
        row = lax.dynamic_slice_in_dim(grid, i, 1)
        grid = lax.dynamic_update_slice_in_dim(grid, row * 2 + total, (i + 1) % grid.shape[0], axis=0)
        return grid.at[i, 0].add(1.0), total + row.mean()

    return lax.fori_loop(0, x.shape[0], body, (x, jnp.float32(0)))


def _bounded_by_data(x: Any, count: Any) -> Any:
    return lax.fori_loop(0, count, lambda i, v: v + jnp.roll(v, 1) / (i + 2).astype(v.dtype), x)


def _sieve(limit: Any) -> Any:
    numbers = jnp.arange(200)

    def strike(i: Any, alive: Any) -> Any:
        return jnp.where((numbers % i == 0) & (numbers > i), False, alive)

    primes = lax.fori_loop(2, limit, strike, numbers > 1)
    return primes.sum(), jnp.nonzero(primes, size=50, fill_value=-1)[0]


def _mapped(x: Any) -> Any:
    batched = lax.map(lambda row: row @ row.T, x, batch_size=2)
    inner = jax.vmap(jax.vmap(jnp.dot, (0, None)), (0, 0), 1)(x, x[:, 0])
    return batched, inner, jax.vmap(lambda row, axis: row.sum() + axis, (0, None))(x, 3.0)


def _cellular(cells: Any) -> Any:
    def step(state: Any, _: None) -> Any:
        neighbours = sum(jnp.roll(state, (dy, dx), (0, 1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)) - state
        state = ((neighbours == 3) | ((state == 1) & (neighbours == 2))).astype(state.dtype)
        return state, state.sum()

    return lax.scan(step, cells, length=20)


X = normal(5, 7)

PROGRAMS = [
    Program("lax_collatz", _collatz, (jnp.arange(1, 30),)),
    Program("lax_branches", _branches, (jnp.array([3, 0, 2, 1, 0]), X), depth=7),
    Program("lax_recurrence", _recurrence, (X, normal(7, 7, seed=1) / 3), depth=64),
    Program("lax_associative_scan", _associative, (positive(33, 4), normal(33, 4)), depth=33),
    Program("jax_second_order", _second_order, (normal(9),), depth=9),
    Program("jax_own_rules", _own_rules, (normal(40),)),
    Program("lax_in_place", _in_place, (X,), depth=32),
    Program("lax_bounded_by_data", _bounded_by_data, (normal(12), jnp.int32(9)), depth=16),
    Program("lax_sieve", _sieve, (jnp.int32(15),)),
    Program("jax_mapped", _mapped, (normal(4, 3, 5),), depth=5),
    Program("lax_cellular", _cellular, ((normal(16, 16) > 0).astype("int32"),)),
]
