"""The rules that let two clusters become one kernel, each with a pair that fits and one that does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from lowering.compiler import clean, compile_graph, optimise
from lowering.passes.fuse import fuse
from lowering.passes.merge import ENOUGH_ROWS, MOST_ROOTS, SHORT_ROW, SMALL
from lowering.runtime import Device
from lowering.runtime.hazard import check_hazards

from ..programs import graph_of
from ..running import run, styled

Shape = tuple[int, ...]
GENERATOR = np.random.default_rng(7)


def kinds(function: Callable[..., Any], *shapes: Shape) -> list[str]:
    arguments = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
    return [n.attributes["kind"] for n in fuse(clean(graph_of(function, *arguments))).nodes if n.op == "fusion"]


def deviations(x: Any) -> Any:
    return x - x.max(1, keepdims=True)


def normalised(x: Any) -> Any:
    return x / jnp.abs(x).sum()


@pytest.mark.parametrize(
    ("function", "shape", "expected"),
    [
        (deviations, (ENOUGH_ROWS, 70000), ["rows"]),
        (deviations, (2, SHORT_ROW), ["rows"]),
        (deviations, (2, SHORT_ROW + 1), ["rows", "map"]),
        (normalised, (100, 100), ["rows"]),
        (normalised, (1000, 1000), ["rows", "map"]),
    ],
)
def test_rows_take_full_size_neighbours_in_where_they_fill_a_device(
    function: Callable[..., Any], shape: Shape, expected: list[str]
) -> None:
    assert kinds(function, shape) == expected


def test_map_and_map_over_one_space() -> None:
    assert kinds(lambda x: (jnp.tan(jnp.tan(x)), jnp.sin(jnp.tan(jnp.tan(x)))), (8, 6)) == ["map"]


def test_map_and_map_over_a_space_with_axes_of_one() -> None:
    assert kinds(lambda x: (jnp.tan(x), jnp.sin(jnp.tan(x))[:, None]), (8, 6)) == ["map"]


def test_map_and_map_over_other_spaces() -> None:
    assert len(kinds(lambda x: (jnp.tan(x), jnp.sin(jnp.tan(x))[:3]), (8, 6))) == 2


def test_rows_and_rows_over_the_same_rows() -> None:
    assert kinds(lambda x: (deviations(x) ** 2).sum(1), (8, 6)) == ["rows"]


def test_rows_and_rows_over_other_rows() -> None:
    assert kinds(lambda x: (deviations(x) ** 2).sum(0), (8, 6)) == ["rows", "rows"]


def test_rows_and_an_epilogue_on_their_results() -> None:
    assert kinds(lambda x, y: jnp.sin(x.sum(2)) * y, (3, 4, 5), (3, 4)) == ["rows"]


def test_rows_and_a_transposed_epilogue() -> None:
    assert kinds(lambda x, y: jnp.sin(x.sum(2)).T + y, (3, 4, 5), (4, 3)) == ["rows"]


def test_rows_and_a_shuffled_epilogue_stay_apart() -> None:
    assert kinds(lambda x: jnp.sin(x.sum(2))[::-1], (3, 4, 5)) == ["rows", "map"]


def test_a_product_takes_a_small_epilogue_in() -> None:
    assert kinds(lambda x, w, b: jnp.maximum(x @ w + b[None], 0), (8, 6), (6, 5), (5,)) == ["dot"]


def test_a_product_leaves_a_large_epilogue_to_others() -> None:
    assert kinds(lambda x, w: jnp.tan(jnp.tan(x @ w)), (8, 6), (6, 5)) == ["dot", "map"]


def test_a_product_and_a_reduction_of_its_rows_stay_apart() -> None:
    assert kinds(lambda x, w: (x @ w).sum(1), (8, 6), (6, 5)) == ["dot", "rows"]


def test_a_kernel_has_a_limited_number_of_roots() -> None:
    found = kinds(lambda x: tuple(jnp.sin(x + i) for i in range(2 * MOST_ROOTS + 2)), (8, 6))
    assert len(found) == 3


def test_a_user_rule_takes_producers_in_and_nothing_along() -> None:
    def norm(a: Any, b: Any) -> Any:
        return jnp.sqrt(a * a + b * b)

    assert kinds(lambda x: lax.reduce(jnp.abs(x), np.float32(0), norm, (1,)) * 2, (8, 6)) == ["serial", "map"]


def test_small_results_over_one_space_whatever_they_read() -> None:
    def apart(x: Any, y: Any) -> Any:
        return jnp.tan(x), jnp.sin(y)

    assert kinds(apart, (8, 6), (8, 6)) == ["map"]
    assert kinds(apart, (8, 6), (6, 8)) == ["map", "map"]
    assert kinds(apart, (SMALL + 1,), (SMALL + 1,)) == ["map", "map"]


def test_small_arrays_that_others_wait_for_are_made_alone() -> None:
    def waited_for(x: Any, y: Any) -> Any:
        return jnp.tan(x) @ jnp.tan(x), jnp.sin(y)

    assert sorted(kinds(waited_for, (8, 8), (8, 8))) == ["dot", "map", "map"]


def test_parts_of_sums_over_one_array_are_one_kernel(device: Device) -> None:
    def two(x: Any, y: Any) -> Any:
        return x.sum(0), (x * y).sum(0), y.sum(1)

    arrays = [GENERATOR.standard_normal((8192, 96)).astype(np.float32) for _ in range(2)]
    graph, capabilities = graph_of(two, *arrays), styled(device.capabilities, "gpu")
    fusions = [node for node in optimise(graph, capabilities).nodes if node.op == "fusion"]
    assert [len(node.outputs) for node in fusions if node.attributes["kind"] == "partial"] == [2]
    program = check_hazards(compile_graph(graph, capabilities))
    for got, want in zip(run(device, program, arrays), two(*(each.astype(np.float64) for each in arrays)), strict=True):
        np.testing.assert_allclose(got, want, 1e-5, 1e-3)


def test_small_sums_that_nobody_reads_are_one_kernel(device: Device) -> None:
    arrays = [GENERATOR.standard_normal((40, 8)).astype(np.float32) for _ in range(4)]

    def four(*given: Any) -> Any:
        return tuple(each.sum(1) * (place + 1) for place, each in enumerate(given))

    graph, capabilities = graph_of(four, *arrays), styled(device.capabilities, "gpu")
    fusions = [node for node in optimise(graph, capabilities).nodes if node.op == "fusion"]
    assert [len(node.outputs) for node in fusions] == [4]
    for place, got in enumerate(run(device, compile_graph(graph, capabilities), arrays)):
        np.testing.assert_allclose(got, arrays[place].sum(1) * (place + 1), 1e-5, 1e-5)
