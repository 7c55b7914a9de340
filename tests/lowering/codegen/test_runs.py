"""Runs of neighbours by one lane: every dtype, arrays that lie along, across or elsewhere, rows that end anywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax import lax

from lowering import reference
from lowering.choices import choose
from lowering.compiler import compile_graph, optimise
from lowering.graph import Graph
from lowering.neighbours import neighbours
from lowering.runtime import Device
from lowering.runtime.hazard import check_hazards
from lowering.schedule import WIDE, Schedule

from ..plan.support import machine
from ..programs import graph_of
from ..running import run, styled

LARGE = WIDE * 1024
BF16 = ml_dtypes.bfloat16
GENERATOR = np.random.default_rng(5)


def numbers(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    if np.dtype(dtype).kind == "b":
        return GENERATOR.random(shape) < 0.5
    return (GENERATOR.standard_normal(shape) * 40).astype(dtype)


def schedules_of(graph: Graph, device: Device) -> list[Schedule]:
    capabilities = styled(device.capabilities, "gpu")
    return [choose(n, capabilities) for n in optimise(graph, capabilities).nodes if n.op == "fusion"]


def check(function: Callable[..., Any], arrays: tuple[np.ndarray, ...], device: Device, expected: int) -> None:
    """Compile as for a GPU, require the width of a run, and compare with the reference."""
    graph = graph_of(function, *arrays)
    assert [schedule.run for schedule in schedules_of(graph, device)] == [expected]
    program = check_hazards(compile_graph(graph, styled(device.capabilities, "gpu")))
    for got, want in zip(run(device, program, arrays), reference.run(graph, *arrays), strict=True):
        if got.dtype.kind in "iub":
            np.testing.assert_array_equal(got, want)
            continue
        tolerance = 8 * float(ml_dtypes.finfo(got.dtype).eps)
        np.testing.assert_allclose(got.astype(np.complex128), want.astype(np.complex128), tolerance, tolerance)


SHAPE = (LARGE // 512, 512)
WIDTHS = {
    BF16: 8, np.float16: 8, np.float32: 4, np.int8: 8, np.uint8: 8, np.int16: 8, np.uint16: 8, np.int32: 4, np.bool_: 8,
    np.complex64: 1,
}  # fmt: skip


@pytest.mark.parametrize("dtype", WIDTHS)
def test_every_dtype_moves_together(dtype: Any, device: Device) -> None:
    def function(x: Any, y: Any) -> Any:
        return jnp.where(x > y, x, y) if x.dtype != np.complex64 else x + y

    check(function, (numbers(*SHAPE, dtype=dtype), numbers(*SHAPE, dtype=dtype)), device, WIDTHS[dtype])


MAPS: dict[str, tuple[Callable[..., Any], tuple[np.ndarray, ...], int]] = {
    "along and across": (
        lambda x, row, column: x * row[None] + column[:, None],
        (numbers(*SHAPE, dtype=BF16), numbers(512, dtype=BF16), numbers(SHAPE[0], dtype=BF16)),
        8,
    ),
    "places": (
        lambda x: jnp.where(jnp.tril(jnp.ones((512, 512), bool))[None], x, -1),
        (numbers(LARGE // 512**2, 512, 512, dtype=BF16),),
        8,
    ),
    "a matrix for each entry": (lambda x, m: x + m[None], (numbers(LARGE // 4096, 64, 64), numbers(64, 64)), 4),
    "rows of ten": (lambda x: x + 1, (numbers(LARGE // 10 + 1, 10),), 2),
    "rows of eleven": (lambda x: x + 1, (numbers(LARGE // 11 + 1, 11),), 1),
    "two widths": (lambda x, y: x.astype(jnp.float32) * y, (numbers(*SHAPE, dtype=BF16), numbers(*SHAPE)), 8),
    "slices": (lambda x, y: x[:, 3:515] + y, (numbers(SHAPE[0], 520), numbers(*SHAPE)), 4),
    "padded rows": (
        lambda x, y: jnp.pad(x, ((1, 2), (0, 0))) + jnp.pad(y, ((2, 1), (0, 0))) * 2,
        (numbers(*SHAPE, dtype=BF16), numbers(*SHAPE, dtype=BF16)),
        8,
    ),
    "padded along rows": (lambda x: jnp.pad(x, ((0, 0), (3, 5))) + 1, (numbers(SHAPE[0], 504, dtype=BF16),), 8),
    "shifted along rows": (
        lambda x: lax.pad(x, x[0, 0], ((0, 0, 0), (1, -1, 0))) + x,
        (numbers(*SHAPE, dtype=BF16),),
        8,
    ),
    "put together": (
        lambda x, y: jnp.concatenate([x, y, x * 2]) + 1,
        (numbers(*SHAPE, dtype=BF16), numbers(3, 512, dtype=BF16)),
        8,
    ),
    "put together along rows": (
        lambda x, y: jnp.concatenate([x, y], 1) + 1,
        (numbers(SHAPE[0], 300), numbers(SHAPE[0], 212)),
        4,
    ),
    "a pad of a pad": (
        lambda x: jnp.pad(jnp.pad(x * 2, ((0, 1), (1, 0), (0, 0))) + 1, ((2, 0), (0, 3), (0, 0))) + 1,
        (numbers(16, LARGE // 1024, 64, dtype=BF16),),
        8,
    ),
    "a last workgroup that is not full": (lambda x: x * 2, (numbers(LARGE // 8 + 3, 8, dtype=BF16),), 8),
}


@pytest.mark.parametrize("name", MAPS)
def test_maps(name: str, device: Device) -> None:
    check(*MAPS[name][:2], device, MAPS[name][2])


def normalised(x: Any, gain: Any) -> Any:
    wide = x.astype(jnp.float32)
    centred = wide - wide.mean(-1, keepdims=True)
    return (centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1)).astype(x.dtype) * gain[None]


@pytest.mark.parametrize(
    ("length", "dtype", "expected"),
    [
        (1024, BF16, 8),
        (2056, BF16, 8),
        (1028, np.float32, 4),
        (1000, BF16, 8),
        (68, BF16, 4),
        (1002, BF16, 2),
        (997, BF16, 1),
        (1000, np.float32, 4),
        (16, BF16, 8),
    ],
)
def test_rows_end_anywhere(length: int, dtype: Any, expected: int, device: Device) -> None:
    arrays = (numbers(6, length, dtype=dtype), numbers(length, dtype=dtype))
    (schedule,) = schedules_of(graph_of(normalised, *arrays), device)
    while expected > 1 and length < schedule.lanes * expected:
        expected //= 2
    check(normalised, arrays, device, expected)


def test_long_rows_are_walked_in_loops(device: Device) -> None:
    check(lambda x: jax.nn.softmax(x.astype(jnp.float32) / 64), (numbers(256, 8200, dtype=BF16),), device, 8)


def test_long_expressions_take_fewer_neighbours() -> None:
    def function(x: Any) -> Any:
        for _ in range(6):
            x = jnp.tan(x)
        return x

    def width(rounds: Callable[[Any], Any]) -> int:
        graph = graph_of(rounds, jax.ShapeDtypeStruct(SHAPE, jnp.bfloat16))
        (fusion,) = (n for n in optimise(graph, machine("h100")).nodes if n.op == "fusion")
        return neighbours(fusion)

    assert width(jnp.tan) == 8
    assert width(function) == 4


@pytest.mark.parametrize(("rows", "lanes"), [(1 << 15, 4), (1 << 10, 8)])
def test_rows_shorter_than_a_subgroup_reads_share_one_where_there_are_many(
    rows: int, lanes: int, device: Device
) -> None:
    if device.capabilities.subgroup_size != 8:
        pytest.skip("subgroups of other sizes share other rows")
    arrays = numbers(rows + 3, 32, dtype=np.float16), numbers(32, dtype=np.float16)
    assert [each.lanes for each in schedules_of(graph_of(normalised, *arrays), device)] == [lanes]
    check(normalised, arrays, device, 32 // lanes)
