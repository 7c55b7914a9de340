"""Single integers of 64 bits become 32 where nothing can differ, and stay where something could."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from lowering import reference
from lowering.graph import Graph, regions, verify
from lowering.ops import verify_types
from lowering.passes.normalise import normalise
from lowering.passes.simplify import simplify

from ..programs import graph_of

X = np.arange(4, dtype=np.float32)
LIMITS = np.iinfo(np.int32)


def simplified(function: Callable[..., Any], *arguments: Any) -> Graph:
    """Return the simplified graph after checking that it gives what the graph gives."""
    graph = graph_of(function, *arguments)
    found = verify_types(verify(simplify(normalise(graph))))
    for got, want in zip(reference.run(found, *arguments), reference.run(graph, *arguments), strict=True):
        np.testing.assert_array_equal(got, want)
    return found


def dtypes_of(graph: Graph) -> Iterator[str]:
    """Yield the dtype of every single number that a graph or a region of it computes."""
    for node in graph.nodes:
        yield from (value.dtype for value in node.outputs if not value.shape)
        for region in regions(node):
            yield from dtypes_of(region)


def is_narrow(function: Callable[..., Any], *arguments: Any) -> bool:
    return "i64" not in set(dtypes_of(simplified(function, *arguments)))


@pytest.fixture(autouse=True)
def wide() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


# -- counters ----------------------------------------------------------------------------------------------------------


def counted(start: int, stop: int, use: Callable[[Any], Any] = lambda number: number) -> Callable[[Any], Any]:
    """Return a loop that adds up elements at places that depend on a counter; it is too long to be written out."""

    def function(x: Any) -> Any:
        def step(number: Any, total: Any) -> Any:
            for _ in range(20):
                total = jnp.sin(total + x[use(number).astype(np.int32)])
            return total

        return lax.fori_loop(start, stop, step, jnp.float32(0))

    return function


@pytest.mark.parametrize(("start", "stop"), [(0, 30), (-7, 23), (LIMITS.max - 30, LIMITS.max)])
def test_counter_within_32_bits_is_one_of_32(start: int, stop: int) -> None:
    assert is_narrow(counted(start, stop), X)


@pytest.mark.parametrize(("start", "stop"), [(LIMITS.max - 29, LIMITS.max + 1), (LIMITS.min - 1, LIMITS.min + 29)])
def test_counter_that_leaves_32_bits_stays(start: int, stop: int) -> None:
    assert not is_narrow(counted(start, stop), X)


def test_last_value_of_a_counter_is_one_of_64_bits() -> None:
    def function(x: Any) -> Any:
        def step(carry: Any) -> Any:
            number, total = carry
            for _ in range(20):
                total = jnp.sin(total + x[number.astype(np.int32)])
            return number + 3, total

        return lax.while_loop(lambda carry: carry[0] < 90, step, (jnp.int64(0), jnp.float32(0)))

    (last, _) = simplified(function, X).outputs
    assert last.dtype == "i64"


# -- arithmetic --------------------------------------------------------------------------------------------------------


USES: dict[str, Callable[[Any], Any]] = {
    "sum": lambda n: n + 3,
    "product": lambda n: 5 * n - n,
    "negative": lambda n: 1 - (-n),
    "choice": lambda n: jnp.where(n > 10, n, 2 * n),
    "least": lambda n: jnp.minimum(n, 3),
    "quotient": lambda n: n // 4,
    "remainder": lambda n: n % 3,
}


@pytest.mark.parametrize("name", USES)
def test_place_computed_from_a_counter_has_32_bits(name: str) -> None:
    assert is_narrow(counted(-5, 25, USES[name]), X)


@pytest.mark.parametrize("number", [LIMITS.min, -1, 0, 1, LIMITS.max])
@pytest.mark.parametrize("divisor", [-1, 1, 7, LIMITS.max, LIMITS.max + 1])
def test_quotients_are_those_of_64_bits(number: int, divisor: int) -> None:
    def function(x: Any) -> Any:
        x = x.astype(np.int64)
        return lax.div(x, np.int64(divisor)), lax.rem(x, np.int64(divisor)), lax.max(x, np.int64(divisor)), x < divisor

    simplified(function, np.asarray(number, np.int32))


@pytest.mark.parametrize("number", [-128, -1, 0, 127])
def test_negative_numbers_are_large_without_a_sign(number: int) -> None:
    def function(x: Any) -> Any:
        wide = lax.convert_element_type(x, np.uint64)
        return lax.max(wide, np.uint64(5)), lax.div(wide, np.uint64(3)), wide < 7

    simplified(function, np.asarray(number, np.int8))


@pytest.mark.parametrize("number", [LIMITS.min, -1, 0, 1, LIMITS.max])
def test_lower_halves_are_those_of_64_bits(number: int) -> None:
    def function(x: Any) -> Any:
        wide = x.astype(np.int64)
        return (wide * wide * 3 - 5).astype(np.int32), (-wide + 1).astype(np.uint32)

    assert is_narrow(function, np.asarray(number, np.int32))


def test_unread_upper_half_is_the_only_one_that_is_left_out() -> None:
    def function(x: Any) -> Any:
        return (x.astype(np.int64) * 3).astype(np.float32)

    assert not is_narrow(function, np.asarray(LIMITS.max, np.int32))


# -- windows -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [LIMITS.min, 0, 2, LIMITS.max])
def test_window_starts_at_numbers_of_32_bits(number: int) -> None:
    def function(x: Any, start: Any) -> Any:
        wide = start.astype(np.int64)
        part = lax.dynamic_slice(x, [wide], (2,), allow_negative_indices=False)
        return lax.dynamic_update_slice(x, part, [wide], allow_negative_indices=False)

    assert is_narrow(function, X, np.asarray(number, np.int32))
