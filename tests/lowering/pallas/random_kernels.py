"""Random kernels: a list of small operations over tiles whose extents are drawn, written as a Pallas kernel.

Every value stays below a few units and no comparison looks at a rounded number, so that two right answers differ by
roundings only. A kernel keeps a pool of tiles by name of their shape:

    mn, nm, mm, nn    m and n rows and columns
    m, n              vectors
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from jax import lax
from jax.experimental import pallas as pl

EXTENTS = (1, 2, 3, 5, 7, 8, 9, 16, 17, 31, 32, 33)
Pool = dict[str, list[jax.Array]]
Operation = Callable[[Pool, int, int], None]


@dataclass(frozen=True)
class RandomKernel:
    """A drawn kernel: its operations with their numbers, the extents of its tiles and how many blocks it runs over."""

    m: int
    n: int
    operations: tuple[tuple[str, int], ...]
    blocks: int
    loop: tuple[tuple[str, int], ...]
    rounds: int

    def arguments(self) -> tuple[np.ndarray, ...]:
        """Return x f32[blocks * m, n], y f32[n, m] and z i32[m]."""
        random = np.random.default_rng(self.m * 100 + self.n)
        x = random.uniform(-1, 1, (self.blocks * self.m, self.n)).astype(np.float32)
        y = random.uniform(-1, 1, (self.n, self.m)).astype(np.float32)
        return x, y, random.integers(0, self.m, self.m).astype(np.int32)

    def call(self, x: Any, y: Any, z: Any, *, interpret: bool = False) -> Any:
        """Run the kernel."""
        rows = pl.BlockSpec((self.m, self.n), lambda i: (i, 0))
        whole = pl.BlockSpec((self.n, self.m), lambda i: (0, 0))
        return pl.pallas_call(
            self.kernel,
            out_shape=(jax.ShapeDtypeStruct(x.shape, x.dtype), jax.ShapeDtypeStruct((x.shape[0],), jnp.float32)),
            grid=(self.blocks,),
            in_specs=[rows, whole, pl.BlockSpec((self.m,), lambda i: (0,))],
            out_specs=[rows, pl.BlockSpec((self.m,), lambda i: (i,))],
            interpret=interpret,
        )(x, y, z)

    def kernel(self, x: Any, y: Any, z: Any, out: Any, sums: Any) -> None:
        """Apply the operations, then add up everything that they made."""
        first = x[...]
        pool: Pool = {
            "mn": [first],
            "nm": [y[...]],
            "mm": [],
            "nn": [],
            "m": [jnp.tanh(z[...].astype(jnp.float32) * 0.1)],
            "n": [],
        }
        indices = z[...]
        for name, number in self.operations:
            OPERATIONS[name](pool, indices, number)

        def one_round(count: Any, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            inner = {**{key: list(values) for key, values in pool.items()}, "mn": [carry[0]], "m": [carry[1]]}
            for name, number in self.loop:
                OPERATIONS[name](inner, indices, number)
            return jnp.tanh(inner["mn"][-1] + x[...]), jnp.tanh(
                inner["m"][-1] + lax.convert_element_type(count, jnp.float32) * 0.125
            )

        start = (pool["mn"][-1], pool["m"][-1])
        wide, narrow = lax.fori_loop(0, self.rounds, one_round, start) if self.rounds else start
        out[...] = wide + _total(pool, first.shape)
        sums[...] = narrow + pool["m"][-1]


def _total(pool: Pool, shape: tuple[int, int]) -> Any:
    total = jnp.zeros(shape, jnp.float32)
    for value in pool["mn"]:
        total += value
    for value in pool["nm"]:
        total += value.T
    for value in pool["m"]:
        total += value[:, None]
    for value in pool["n"]:
        total += value[None, :]
    for value in pool["mm"]:
        total += value.sum(0)[:, None]
    for value in pool["nn"]:
        total += value[:1, :]
    return total


def _pick(pool: Pool, key: str, number: int) -> jax.Array:
    values = pool[key]
    return values[number % len(values)]


def _add(kind: str) -> Callable[[Callable[[Any, Any, int], Any]], Operation]:
    """Make an operation of a function of one wide tile: `kind` names the shape of its result."""

    def decorate(function: Callable[[Any, Any, int], Any]) -> Operation:
        def operation(pool: Pool, indices: Any, number: int) -> None:
            pool[kind].append(jnp.tanh(function(_pick(pool, "mn", number), indices, number)))

        OPERATIONS[function.__name__] = operation
        return operation

    return decorate


OPERATIONS: dict[str, Any] = {}


@_add("mn")
def exponential(x: Any, z: Any, number: int) -> Any:
    return jnp.exp(x) * float(0.25 + number % 3)


@_add("mn")
def less_its_largest(x: Any, z: Any, number: int) -> Any:
    return x - x.max(number % 2, keepdims=True)


@_add("mn")
def over_its_sum(x: Any, z: Any, number: int) -> Any:
    return x / (4 + jnp.abs(x).sum(number % 2, keepdims=True))


@_add("mn")
def chosen(x: Any, z: Any, number: int) -> Any:
    place = lax.broadcasted_iota(jnp.int32, x.shape, number % 2)
    return jnp.where(place % 3 == 0, x, -x.mean())


@_add("mn")
def turned(x: Any, z: Any, number: int) -> Any:
    return jnp.flip(jnp.sin(x), number % 2)


@_add("mn")
def rolled(x: Any, z: Any, number: int) -> Any:
    return jnp.roll(x, number % 5, number % 2) + x


@_add("mn")
def shifted(x: Any, z: Any, number: int) -> Any:
    return jnp.pad(x[1:, :], ((0, 1), (0, 0)), constant_values=0.5) if x.shape[0] > 1 else x * 2


@_add("mn")
def running(x: Any, z: Any, number: int) -> Any:
    return jnp.cumsum(x, number % 2) / 8


@_add("mn")
def rows_taken(x: Any, z: Any, number: int) -> Any:
    return jnp.cos(x)[z]


@_add("mn")
def rows_added(x: Any, z: Any, number: int) -> Any:
    return x.at[z].add(jnp.cos(x))


@_add("mn")
def rows_set(x: Any, z: Any, number: int) -> Any:
    return x.at[jnp.arange(x.shape[0])[::-1]].set(jnp.cos(x))


@_add("mn")
def one_row_set(x: Any, z: Any, number: int) -> Any:
    return lax.dynamic_update_slice(x, x[:1] * 0.5, (z[0], 0))


@_add("mn")
def whole_branch(x: Any, z: Any, number: int) -> Any:
    return lax.switch(z[0] % 3, [lambda: x + 1, lambda: jnp.flip(jnp.sin(x), 0), lambda: x - x.sum(1, keepdims=True)])


@_add("mn")
def while_below(x: Any, z: Any, number: int) -> Any:
    largest = z.max()

    def go_on(carry: Any) -> Any:
        return carry[0] < largest // 4 + 1

    return lax.while_loop(
        go_on, lambda carry: (carry[0] + 1, jnp.sin(carry[1]) + carry[1].sum(0, keepdims=True) / 64), (0, x)
    )[1]


@_add("nm")
def transposed(x: Any, z: Any, number: int) -> Any:
    return jnp.sin(x).T


@_add("nm")
def reshaped(x: Any, z: Any, number: int) -> Any:
    return jnp.sin(x).reshape(x.shape[1], x.shape[0])


@_add("mm")
def gram(x: Any, z: Any, number: int) -> Any:
    return x @ x.T / 4


@_add("mm")
def gram_of_sine(x: Any, z: Any, number: int) -> Any:
    y = jnp.sin(x) @ x.T
    return (y + y.T) / 8


@_add("nn")
def other_gram(x: Any, z: Any, number: int) -> Any:
    return jnp.sin(x).T @ x / 4


@_add("m")
def row_sums(x: Any, z: Any, number: int) -> Any:
    return x.sum(1) / 4


@_add("m")
def row_places(x: Any, z: Any, number: int) -> Any:
    place = lax.broadcasted_iota(jnp.int32, x.shape, 1)
    return jnp.argmax(place * 7 % 5, 1).astype(jnp.float32) * 0.125


@_add("n")
def column_sums(x: Any, z: Any, number: int) -> Any:
    return x.min(0) - x.sum(0) / 8


@_add("n")
def one_row(x: Any, z: Any, number: int) -> Any:
    return lax.dynamic_slice(jnp.sin(x), (z[0], 0), (1, x.shape[1]))[0]


def product(pool: Pool, indices: Any, number: int) -> None:
    """Multiply a tile by one of the other shape, twice."""
    square = _pick(pool, "mn", number) @ _pick(pool, "nm", number // 3)
    pool["mm"].append(jnp.tanh(square / 4))
    pool["mn"].append(jnp.tanh(pool["mm"][-1] @ _pick(pool, "mn", number // 5) / 4))


OPERATIONS["product"] = product
STEPS = st.tuples(st.sampled_from(sorted(OPERATIONS)), st.integers(0, 30))


@st.composite
def kernels(draw: st.DrawFn) -> RandomKernel:
    """Draw a kernel."""
    return RandomKernel(
        m=draw(st.sampled_from(EXTENTS)),
        n=draw(st.sampled_from(EXTENTS)),
        operations=tuple(draw(st.lists(STEPS, min_size=1, max_size=5))),
        blocks=draw(st.sampled_from((1, 1, 3))),
        loop=tuple(draw(st.lists(STEPS, max_size=2))),
        rounds=draw(st.sampled_from((0, 1, 3))),
    )
