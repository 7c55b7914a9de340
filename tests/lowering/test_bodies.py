from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from .programs import graph_of, normal


def kind_of(function: Any, *arguments: Any, op: str = "reduce") -> str | None:
    (node,) = [node for node in graph_of(function, *arguments).nodes if node.op == op]
    return node.attributes["kind"]


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (jnp.sum, "add"),
        (jnp.prod, "mul"),
        (jnp.max, "max"),
        (jnp.min, "min"),
        (jnp.argmax, "argmax"),
        (jnp.argmin, "argmin"),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.uint8])
def test_reduction_kind_of_a_jax_reduction(function: Any, kind: str, dtype: Any) -> None:
    assert kind_of(function, np.ones(4, dtype)) == kind


@pytest.mark.parametrize(("function", "kind"), [(jnp.all, "and"), (jnp.any, "or")])
def test_reduction_kind_of_a_logical_reduction(function: Any, kind: str) -> None:
    assert kind_of(function, np.ones(4, bool)) == kind


@pytest.mark.parametrize(
    "body",
    [lambda a, b: a + 2 * b, lambda a, b: a - b, lambda a, b: a + a, lambda a, b: jnp.maximum(a, -b)],
)
def test_reduction_kind_of_another_body_is_none(body: Any) -> None:
    assert kind_of(lambda x: lax.reduce(x, jnp.float32(0), body, (0,)), normal(4)) is None


def test_reduction_kind_of_a_comparator_without_tie_rule_is_none() -> None:
    def body(left: Any, right: Any) -> Any:
        wins = left[0] > right[0]
        return jnp.where(wins, left[0], right[0]), jnp.where(wins, left[1], right[1])

    def run(x: Any) -> Any:
        return lax.reduce((x, jnp.arange(4)), (-jnp.inf, jnp.int32(0)), body, (0,))

    assert kind_of(run, normal(4)) is None


@pytest.mark.parametrize(
    ("method", "kind"), [("set", "set"), ("add", "add"), ("mul", "mul"), ("max", "max"), ("min", "min")]
)
def test_scatter_kind_of_an_indexed_update(method: str, kind: str) -> None:
    index = np.array([1, 3], np.int32)
    assert kind_of(lambda x, i: getattr(x.at[i], method)(2.0), normal(5), index, op="scatter") == kind


def test_scatter_kind_of_another_body_is_none() -> None:
    index = np.array([1, 3], np.int32)
    assert kind_of(lambda x, i: x.at[i].apply(jnp.sin), normal(5), index, op="scatter") is None
