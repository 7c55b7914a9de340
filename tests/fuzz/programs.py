"""Random JAX programs from a seed: chains of operations over a pool of arrays, with loops, branches and updates inside.

Numbers stay small and conditions depend on integers only, so that rounding cannot grow or change the way taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

EXTENTS = (1, 2, 3, 5, 8, 17)
MOST_ELEMENTS = 4000
LARGEST_WHOLE = 1000

Pool = list[jax.Array]
Step = Callable[["Author", Pool], "jax.Array | None"]


class Author:
    """Writes one program: every choice comes from a seeded generator, so that tracing twice gives the same program."""

    def __init__(self, seed: int, *, depth: int = 2) -> None:
        self.random = np.random.default_rng(seed)
        self.depth = depth

    def number(self, low: int, high: int) -> int:
        """Return an integer from [low, high)."""
        return int(self.random.integers(low, high))

    def pick(self, items: Sequence[Any]) -> Any:
        """Return one of the items, later ones more often: chains grow deep."""
        return items[max(self.number(0, len(items)), self.number(0, len(items)))]

    def any_of(self, items: Sequence[Any]) -> Any:
        """Return one of the items."""
        return items[self.number(0, len(items))]

    def shape(self) -> tuple[int, ...]:
        """Return a shape of up to four axes."""
        return tuple(self.any_of(EXTENTS) for _ in range(self.number(0, 5)))

    def arrays(self, count: int) -> list[np.ndarray]:
        """Return arguments: i32 and f32 arrays that share some of their shapes."""
        shapes: list[tuple[int, ...]] = []
        result: list[np.ndarray] = []
        for _ in range(count):
            fresh = self.shape()
            shape = self.any_of(shapes) if shapes and self.number(0, 2) else fresh
            shape = shape if np.prod(shape) <= MOST_ELEMENTS else shape[:2]
            shapes.append(shape)
            is_whole = bool(self.number(0, 2))
            whole = self.random.integers(-9, 9, shape).astype(np.int32)
            decimal = self.random.normal(size=shape).astype(np.float32)
            result.append(np.asarray(whole if is_whole else decimal))
        return result

    def write(self, pool: Pool, steps: int) -> Pool:
        """Return the pool with the results of random operations behind its own arrays."""
        for _ in range(steps):
            made = self.any_of(STEPS)(self, pool)
            if made is not None and made.size <= MOST_ELEMENTS:
                pool = [*pool, tamed(made)]
        return pool

    def fit(self, pool: Pool, like: jax.Array) -> jax.Array:
        """Return something made from the pool that has the type of `like`."""
        same = [value for value in pool if value.shape == like.shape and value.dtype == like.dtype]
        if same and self.number(0, 4):
            return self.pick(same)
        value = self.pick(pool)
        total = value.sum() if value.dtype == like.dtype else jnp.sign(value).sum().astype(like.dtype)
        return tamed(jnp.broadcast_to(total, like.shape) + like)


def tamed(value: jax.Array) -> jax.Array:
    """Keep numbers small: integers by their remainder, floats by the hyperbolic tangent where they are large."""
    if value.dtype == jnp.bool_:
        return value.astype(jnp.int32)
    if value.dtype == jnp.int32:
        return lax.rem(value, np.int32(LARGEST_WHOLE))
    return value / (1 + jnp.abs(value))


def unary(author: Author, pool: Pool) -> jax.Array:
    value = author.pick(pool)
    if value.dtype == jnp.int32:
        return author.any_of([lambda x: -x, lambda x: ~x, jnp.abs, lambda x: x * 3 + 1, lambda x: x >> 1, jnp.sign])(
            value
        )
    return author.any_of([jnp.sin, jnp.tanh, jnp.exp, lambda x: x * x, lambda x: -x, jax.nn.sigmoid, jnp.abs])(value)


def cast(author: Author, pool: Pool) -> jax.Array:
    value = author.pick(pool)
    if value.dtype == jnp.int32:
        return value.astype(author.any_of([np.float32, np.int8, np.uint8, np.bool_])).astype(jnp.float32) * np.float32(
            0.01
        )
    # Whole numbers from floats only by a wide step, far from where rounding decides.
    return jnp.ones_like(value, dtype=jnp.int32)


def binary(author: Author, pool: Pool) -> jax.Array:
    left, right = broadcast_pair(author, pool)
    if left.dtype == jnp.int32:
        rules = [lax.add, lax.sub, lax.mul, lax.max, lax.min, lax.bitwise_xor, lax.bitwise_and, lax.rem, lax.div]
    else:
        rules = [lax.add, lax.sub, lax.mul, lax.max, lax.min, lambda a, b: a / (2 + b * b)]
    return author.any_of(rules)(left, right)


def broadcast_pair(author: Author, pool: Pool) -> tuple[jax.Array, jax.Array]:
    """Return two arrays of one type: same ones, a row or a column beside its matrix, or a scalar."""
    left = author.pick(pool)
    others = [value for value in pool if value.dtype == left.dtype]
    right = author.any_of(others)
    if right.shape == left.shape:
        return left, right
    for axes in ((left.ndim - 1,), (0,), tuple(range(left.ndim))):
        if left.ndim and right.shape == tuple(n for axis, n in enumerate(left.shape) if axis in axes):
            return left, lax.broadcast_in_dim(right, left.shape, axes)
    return left, jnp.broadcast_to(right.sum(), left.shape)


def choose(author: Author, pool: Pool) -> jax.Array:
    left, right = broadcast_pair(author, pool)
    whole = [value for value in pool if value.dtype == jnp.int32 and value.shape == left.shape]
    test = (
        author.any_of(whole) > 0 if whole else lax.broadcasted_iota(jnp.int32, (*left.shape, 1), left.ndim)[..., 0] >= 0
    )
    return jnp.where(test, left, right)


def reduced(author: Author, pool: Pool) -> jax.Array:
    value = author.pick(pool)
    axes = tuple(axis for axis in range(value.ndim) if author.number(0, 2))
    keeps = bool(author.number(0, 2))
    rule = author.any_of([jnp.sum, jnp.max, jnp.min, jnp.sum])
    return rule(value, axis=axes, keepdims=keeps) if value.size else value


def normalised(author: Author, pool: Pool) -> jax.Array | None:
    value = author.pick(pool)
    if value.dtype != jnp.float32 or value.ndim == 0:
        return None
    axis = author.number(0, value.ndim)
    centred = value - value.mean(axis, keepdims=True)
    return author.any_of(
        [lambda: jax.nn.softmax(value, axis), lambda: centred * lax.rsqrt((centred**2).mean(axis, keepdims=True) + 0.1)]
    )()


def best(author: Author, pool: Pool) -> jax.Array | None:
    value = author.pick(pool)
    if value.dtype != jnp.int32 or value.ndim == 0:
        return None
    return author.any_of([jnp.argmax, jnp.argmin])(value, axis=author.number(0, value.ndim)).astype(jnp.int32)


def moved(author: Author, pool: Pool) -> jax.Array:
    value = author.pick(pool)
    order = tuple(int(axis) for axis in author.random.permutation(value.ndim))
    axis = author.number(0, max(value.ndim, 1))
    cut = tuple(slice(author.number(0, n), None, author.number(1, 3)) for n in value.shape)
    ways: list[Callable[[], jax.Array]] = [
        lambda: value.transpose(order),
        lambda: value.reshape(-1),
        lambda: value[..., None],
        lambda: value[cut],
        lambda: jnp.flip(value),
        lambda: (
            jnp.concatenate([value, value[cut] if value[cut].shape == value.shape else -value], axis)
            if value.ndim
            else value
        ),
        lambda: (
            jnp.pad(value, [(author.number(0, 3), author.number(0, 2)) for _ in value.shape]) if value.ndim else -value
        ),
        lambda: jnp.broadcast_to(value, (author.number(1, 4), *value.shape)),
        lambda: value.reshape(value.shape[::-1]),
    ]
    return author.any_of(ways)()


def product(author: Author, pool: Pool) -> jax.Array | None:
    left = author.pick(pool)
    others = [value for value in pool if value.dtype == left.dtype and value.ndim and left.ndim]
    pairs = [(o, i, j) for o in others for i in range(left.ndim) for j in range(o.ndim) if left.shape[i] == o.shape[j]]
    pairs = [pair for pair in pairs if left.size * pair[0].size <= MOST_ELEMENTS * left.shape[pair[1]] ** 2]
    if not pairs:
        return None
    other, i, j = author.any_of(pairs)
    return jnp.tensordot(left, other, ((i,), (j,)))


def place(author: Author, pool: Pool) -> jax.Array:
    """Return a scalar that may lie anywhere, also outside an array."""
    whole = [value for value in pool if value.dtype == jnp.int32 and value.size]
    return author.any_of(whole).reshape(-1)[0] % 19 - 1 if whole else jnp.int32(author.number(-2, 9))


def updated(author: Author, pool: Pool) -> jax.Array | None:
    value = author.pick(pool)
    if value.ndim == 0:
        return None
    spot = place(author, pool)
    rows = jnp.stack([spot, spot + 1, spot])
    row = author.fit(pool, value[0])
    window = tuple(author.number(1, n + 1) for n in value.shape)
    patch = lax.dynamic_slice(author.fit(pool, value), (0,) * value.ndim, window)
    zeros = (jnp.int32(0),) * (value.ndim - 1)
    ways: list[Callable[[], jax.Array]] = [
        lambda: value.at[spot].set(row),
        lambda: value.at[rows].add(row),
        lambda: value.at[rows].max(row, mode="drop"),
        lambda: lax.dynamic_update_slice(value, patch, (spot, *zeros)),
        lambda: lax.dynamic_slice(value, (spot, *zeros), window),
        lambda: jnp.take(value, rows, axis=author.number(0, value.ndim), mode="clip"),
        lambda: value[rows],
        lambda: value.at[..., 0].set(value[..., -1]),
    ]
    return author.any_of(ways)()


def running(author: Author, pool: Pool) -> jax.Array | None:
    value = author.pick(pool)
    if value.ndim == 0:
        return None
    rule = author.any_of([lax.cumsum, lax.cummax, lax.cummin])
    return rule(value, axis=author.number(0, value.ndim), reverse=bool(author.number(0, 2)))


def inner(author: Author) -> Author:
    """Return the author of a region."""
    return Author(author.number(0, 2**31), depth=author.depth - 1)


def looped(author: Author, pool: Pool) -> jax.Array | None:
    if author.depth == 0:
        return None
    carry = tuple(author.pick(pool) for _ in range(author.number(1, 4)))
    seed, steps = author.number(0, 2**31), author.number(1, 5)
    captured = [author.any_of(pool)]

    def body(count: jax.Array, values: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        writer = Author(seed, depth=author.depth - 1)
        made = writer.write([*captured, count + jnp.int32(0), *values], steps)
        return tuple(writer.fit(made, value) for value in values)

    rounds = author.number(0, 5)
    start = jnp.int32(0)
    if author.number(0, 2):
        results = lax.fori_loop(0, rounds, body, carry)
    else:
        limit = jnp.abs(place(author, pool)) % 6
        results = lax.while_loop(lambda c: c[0] < limit, lambda c: (c[0] + 1, body(*c)), (start, carry))[1]
    return author.any_of(results)


def scanned(author: Author, pool: Pool) -> jax.Array | None:
    items = author.pick(pool)
    if author.depth == 0 or items.ndim == 0:
        return None
    carry = tuple(author.pick(pool) for _ in range(author.number(1, 3)))
    seed, steps = author.number(0, 2**31), author.number(1, 4)

    def body(values: tuple[jax.Array, ...], item: jax.Array) -> tuple[tuple[jax.Array, ...], jax.Array]:
        writer = Author(seed, depth=author.depth - 1)
        made = writer.write([item, *values], steps)
        return tuple(writer.fit(made, value) for value in values), writer.fit(made, item)

    results, outputs = lax.scan(body, carry, items, reverse=bool(author.number(0, 2)))
    return author.any_of([*results, outputs])


def branched(author: Author, pool: Pool) -> jax.Array | None:
    if author.depth == 0:
        return None
    values = tuple(author.pick(pool) for _ in range(author.number(1, 4)))
    seeds = [author.number(0, 2**31) for _ in range(author.number(1, 4))]

    def branch(seed: int) -> Callable[..., tuple[jax.Array, ...]]:
        def run(*given: jax.Array) -> tuple[jax.Array, ...]:
            writer = Author(seed, depth=author.depth - 1)
            made = writer.write(list(given), 3)
            return tuple(writer.fit(made, value) for value in given)

        return run

    return author.any_of(lax.switch(place(author, pool), [branch(seed) for seed in seeds], *values))


STEPS: tuple[Step, ...] = (
    unary, unary, cast, binary, binary, binary, choose, reduced, reduced, normalised, best, moved, moved, product,
    updated, updated, running, looped, scanned, branched,
)  # fmt: skip


def program(seed: int, steps: int = 10) -> tuple[Callable[..., Any], list[np.ndarray]]:
    """Return a function of a few arrays, and the arrays; some results have the type of an argument, for donation."""
    arguments = Author(seed).arrays(3)

    def function(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        author = Author(seed + 1)
        pool = author.write(list(arrays), steps)
        outputs = [author.fit(pool, array) for array in arrays if author.number(0, 3)]
        outputs += [author.pick(pool) for _ in range(author.number(1, 4))]
        return tuple(outputs[int(place)] for place in author.random.permutation(len(outputs)))

    return function, arguments
