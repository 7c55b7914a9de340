"""Functions of pairs are cut: what is made once for a head, a query or a key, and what is left for a kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qga import attention
from qga.exact import forward
from qga.kernels.attention import average_kernel
from qga.kernels.modify import Cut, Extents, cut_function
from tests.qga.tolerances import assert_close, assert_far

EXTENTS = Extents(2, 3, 5, 7)
Mod = Callable[..., tuple[Any, ...]]


def cut(function: Mod) -> Cut:
    return cut_function(function, EXTENTS, [], [], jnp.float32)


def shapes(found: Cut) -> dict[str, list[tuple[int, ...]]]:
    return {name: [each.shape for each in part] for name, part in found.given._asdict().items() if part}


def tables(random: np.random.Generator) -> dict[str, jax.Array]:
    sizes = {"batch": 2, "head": 3, "query": 5, "key": 7, "far": (3, 12), "pairs": (5, 7), "rows": (5, 4)}
    return {name: jnp.asarray(random.normal(size=size), jnp.float32) for name, size in sizes.items()}


CUTS: list[tuple[str, Callable[[dict[str, jax.Array]], Mod], dict[str, list[tuple[int, ...]]]]] = [
    ("places", lambda t: lambda s, b, h, i, j: (jnp.where(i - j > 3, s * 2 - i.astype(s.dtype), s),), {}),
    ("head", lambda t: lambda s, b, h, i, j: (s * t["head"][h],), {"numbers": [(3,)]}),
    ("batch", lambda t: lambda s, b, h, i, j: (s + t["batch"][b] * t["head"][h],), {"numbers": [(2, 3)]}),
    ("query", lambda t: lambda s, b, h, i, j: (s + jnp.exp(t["query"][i]),), {"by_query": [(5,)]}),
    ("key", lambda t: lambda s, b, h, i, j: (s + t["key"][j] * t["batch"][b],), {"by_key": [(2, 7)]}),
    ("query of head", lambda t: lambda s, b, h, i, j: (s + t["query"][i] * t["head"][h],), {"by_query": [(3, 5)]}),
    ("query and key", lambda t: lambda s, b, h, i, j: (s + t["query"][i] * t["key"][j],),
     {"by_query": [(5,)], "by_key": [(7,)]}),
    ("rows", lambda t: lambda s, b, h, i, j: (s + jnp.dot(t["rows"][i], t["rows"][j % 5]),),
     {"by_query": [(5, 4)], "by_key": [(7, 4)]}),
    ("distance", lambda t: lambda s, b, h, i, j: (s + t["far"][h, i + j],), {"numbers": [(3,)], "tables": [(3, 12)]}),
    ("both", lambda t: lambda s, b, h, i, j: (s + t["pairs"][i, j],), {"tables": [(5, 7)]}),
    ("number", lambda t: lambda s, b, h, i, j: (s * jnp.sum(t["key"]),), {"numbers": [()]}),
    ("called", lambda t: lambda s, b, h, i, j: jax.jit(lambda s, i, j: (s + t["query"][i] - t["key"][j],))(s, i, j),
     {"by_query": [(5,)], "by_key": [(7,)]}),
    ("factor", lambda t: lambda s, b, h, i, j: (s, t["key"][j]), {"by_key": [(7,)]}),
    ("loop", lambda t: lambda s, b, h, i, j: (jax.lax.fori_loop(0, 3, lambda n, x: x * t["query"][i], s),),
     {"tables": [(5,)]}),
]  # fmt: skip


@pytest.mark.parametrize(("mod", "want"), [each[1:] for each in CUTS], ids=[each[0] for each in CUTS])
def test_what_is_read_is_given_by_where_it_is_read(
    mod: Callable[[dict[str, jax.Array]], Mod], want: dict[str, Any], random: np.random.Generator
) -> None:
    assert shapes(cut(mod(tables(random)))) == want


def whole(function: Mod, scores: jax.Array) -> Any:
    """Apply a function to every pair of every head, one by one."""
    places = [jnp.arange(size, dtype=jnp.int32) for size in EXTENTS]
    for axis in range(4):
        over = tuple(0 if place == 3 - axis else None for place in range(4))
        function = jax.vmap(function, (0, *over))
    return function(scores, *places)


def in_tiles(found: Cut, scores: jax.Array, *, by_rows: bool) -> Any:
    """Apply what was cut to the scores of every head as one tile."""
    queries, keys = (jnp.broadcast_to(each, scores.shape[2:]) for each in jnp.indices(scores.shape[2:], jnp.int32))

    def one(scores: jax.Array, given: Any) -> Any:
        turned = [each if by_rows else each.T for each in (scores, queries, keys)]
        results = [each for each in found.modifier(*turned, given, by_rows=by_rows) if each is not None]
        return tuple(each if by_rows else each.T for each in results)

    function = one
    for number in (1, 0):
        axes = jax.tree.map(lambda flag, n=number: 0 if flag[n] else None, found.axes, is_leaf=_is_flag)
        function = jax.vmap(function, (0, axes))
    return function(scores, found.given)


def _is_flag(each: Any) -> bool:
    return isinstance(each, tuple) and len(each) == 2 and isinstance(each[0], bool)


@pytest.mark.parametrize("by_rows", [True, False])
@pytest.mark.parametrize("mod", [each[1] for each in CUTS], ids=[each[0] for each in CUTS])
def test_what_is_cut_computes_what_the_function_does(
    mod: Callable[[dict[str, jax.Array]], Mod], by_rows: bool, random: np.random.Generator
) -> None:
    function, scores = mod(tables(random)), jnp.asarray(random.normal(size=EXTENTS), jnp.float32)
    got, want = in_tiles(cut(function), scores, by_rows=by_rows), whole(function, scores)
    for one, other in zip(got, want, strict=True):
        assert_close(one, other, depth=4, scale=10.0)
        assert_far(one, jnp.flip(other, axis=3) + 0.1)


SAME: list[Callable[[], Mod]] = [
    lambda: lambda s, b, h, i, j: (jnp.where(i > j, s, 2 * s),),
    lambda: lambda s, b, h, i, j: (jax.jit(lambda s, i: s + i.astype(s.dtype))(s, i),),
    lambda: lambda s, b, h, i, j: (jax.lax.fori_loop(0, 3, lambda n, x: x * s, s),),
    lambda: lambda s, b, h, i, j: (jax.nn.silu(s) + jnp.arange(7.0)[j],),
    lambda: lambda s, b, h, i, j: (jax.nn.relu(s),),
    lambda: lambda s, b, h, i, j: (jax.nn.softplus(s),),
]


@pytest.mark.parametrize("make", SAME)
def test_two_tracings_of_equal_functions_are_equal(make: Callable[[], Mod]) -> None:
    one, other = cut(make()).modifier, cut(make()).modifier
    assert one == other
    assert hash(one) == hash(other)


@pytest.mark.parametrize(
    "other",
    [
        lambda s, b, h, i, j: (s * 2.5,),
        lambda s, b, h, i, j: (s + 2.0,),
        lambda s, b, h, i, j: (s * i.astype(s.dtype),),
        lambda s, b, h, i, j: (s * jnp.arange(5.0)[i],),
        lambda s, b, h, i, j: (s * 2.0, s),
    ],
)
def test_functions_that_differ_are_told_apart(other: Mod) -> None:
    assert cut(lambda s, b, h, i, j: (s * 2.0,)).modifier != cut(other).modifier


def test_values_of_arrays_are_no_part_of_a_modifier() -> None:
    one, other = (cut(lambda s, b, h, i, j, t=t: (s * t[i],)) for t in (jnp.arange(5.0), jnp.ones(5)))
    assert one.modifier == other.modifier
    assert_far(one.given.by_query[0], other.given.by_query[0])


def test_a_function_that_is_written_again_makes_no_kernel_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr(forward, "average_kernel", lambda *each: made.append(each) or average_kernel(*each))
    rows, counts = jnp.ones((1, 6, 2, 4)), [0]
    for cap in (3.0, 3.0, 4.0):
        attention(rows, rows, rows, score_mod=lambda s, *places, cap=cap: cap * jnp.tanh(s / cap))
        counts.append(len(made))
    assert 0 == counts[0] < counts[1] == counts[2] < counts[3]


def test_what_may_move_is_known() -> None:
    def moves(weights: jax.Array) -> bool:
        return cut(lambda s, b, h, i, j: (s * weights[i],)).modifier.moves

    found: list[bool] = []
    jax.grad(lambda weights: found.append(moves(weights)) or jnp.sum(weights))(jnp.ones(5))
    assert found == [True]
    assert not moves(jnp.ones(5))


def test_a_rule_of_ones_own_for_a_derivative_is_kept(random: np.random.Generator) -> None:
    @jax.custom_vjp
    def twice(score: jax.Array) -> jax.Array:
        return 2 * score

    twice.defvjp(lambda score: (2 * score, None), lambda _, bar: (5 * bar,))
    rows = jnp.asarray(random.normal(size=(1, 6, 2, 4)), jnp.float32)

    def gradient(scale: float, **options: Any) -> jax.Array:
        return jax.grad(lambda query: jnp.sum(jnp.sin(attention(query, rows, rows, scale=scale, **options))))(rows)

    assert_close(gradient(1.0, score_mod=lambda s, *places: twice(s)), 2.5 * gradient(2.0), depth=6, scale=10.0)
