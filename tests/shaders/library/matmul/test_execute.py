"""Every kernel against float64, on whatever driver the suite runs on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lowering.runtime import Device
from shaders.library.complex import Number, is_complex, map_parts
from shaders.library.matmul import MatmulTiles, choose
from shaders.spirv import Builder
from tests.shaders.library.matmul.support import (
    Case,
    check,
    check_product,
    fragments,
    make_kernel,
    make_operands,
    product,
    registers,
    run,
    slices,
    tiled,
    vector,
)

PRIMES = product(37, 41, 53, batch=2)
EVEN = product(36, 44, 52)
LAYOUTS = [
    pytest.param(Case(PRIMES), id="plain"),
    pytest.param(Case(PRIMES, lhs_turned=True, rhs_turned=True), id="turned"),
    pytest.param(Case(EVEN, vectors=True), id="vectors"),
    pytest.param(Case(EVEN, lhs_turned=True, vectors=True), id="lhs turned, vectors"),
    pytest.param(Case(EVEN, rhs_turned=True, vectors=True), id="rhs turned, vectors"),
]


def schedules(lanes: int) -> dict[str, MatmulTiles]:
    """Return small tiles of every kernel that needs no matrix units: several tiles and ragged edges on the cases."""
    return {
        "registers": registers(4, 2, lanes),
        "registers unrolled": registers(3, 1, lanes, depth=4),
        "registers transposed": replace(registers(4, 2, lanes), transposed=True),
        "registers split": replace(registers(4, 2, lanes), splits=3),
        "tiled": replace(tiled((16, 16, 8), (4, 4)), band=2),
        "tiled transposed": replace(tiled((32, 16, 16), (8, 4)), transposed=True),
        "tiled split": replace(tiled((32, 32, 8), (4, 4)), splits=2),
        "vector": vector(2, 3, lanes),
        "vector in a workgroup": vector(1, 2, lanes, subgroups=4),
        "vector split": replace(vector(2, 2, lanes), splits=2),
        "slices": slices(2, 2, 8, 4),
        "slices transposed": replace(slices(1, 1, 16, 2), transposed=True),
    }


def matrix_lanes(device: Device, dtype: str, accumulator: str) -> tuple[int, tuple[int, int, int]]:
    """Return the subgroup size and a matrix product of the device, or skip."""
    capabilities = device.capabilities
    if capabilities.is_cpu and capabilities.subgroup_size != 8:
        # With 4 lanes the driver leaves the feature off, with 16 its compiler crashes on every product.
        pytest.skip("lavapipe has cooperative matrices at subgroup size 8 only")
    for shape in capabilities.matrices:
        if (shape.a, shape.b, shape.c, shape.scope) == (dtype, dtype, accumulator, "subgroup") and not shape.saturating:
            return capabilities.subgroup_size, (shape.m, shape.n, shape.k)
    pytest.skip(f"{capabilities.device_name} has no matrix product of {dtype} into {accumulator}")


def is_flexible(device: Device, dtype: str, fragment: tuple[int, int, int]) -> bool:
    """Tell whether a fragment is a multiple of what the device takes of any size."""
    rows = [row for row in device.capabilities.matrices_nv if (row.a, row.b, row.scope) == (dtype, dtype, "subgroup")]
    steps = [(row.m_granularity, row.n_granularity, row.k_granularity) for row in rows]
    return any(all(size % step == 0 for size, step in zip(fragment, found, strict=True)) for found in steps)


@pytest.mark.parametrize("case", LAYOUTS)
@pytest.mark.parametrize("name", schedules(1))
def test_kernel_multiplies(device: Device, name: str, case: Case) -> None:
    check(device, case, schedules(device.capabilities.subgroup_size)[name])


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f64", "i8", "u8", "i32", "i64", "c64", "c128"])
@pytest.mark.parametrize("name", ["registers", "tiled", "vector", "slices"])
def test_kernel_multiplies_dtype(device: Device, name: str, dtype: str) -> None:
    check(device, Case(product(17, 19, 23, dtype)), schedules(device.capabilities.subgroup_size)[name])


@pytest.mark.parametrize("case", LAYOUTS)
def test_matrix_multiplies(device: Device, case: Case) -> None:
    lanes, (m, n, k) = matrix_lanes(device, "f16", "f32")
    sizes = case.problem
    half = product(sizes.rows, sizes.columns, sizes.depth, "f16", batch=sizes.batch)
    tiles = fragments((2 * m, 4 * n, 2 * k), (m, 2 * n), lanes, (m, n, k))
    check(device, Case(half, case.lhs_turned, case.rhs_turned, case.vectors), tiles)


@pytest.mark.parametrize("dtype", ["i8", "u8", "f16", "bf16"])
@pytest.mark.parametrize("transposed", [False, True])
def test_matrix_multiplies_dtype(device: Device, dtype: str, transposed: bool) -> None:
    problem = product(41, 43, 67, dtype)
    lanes, (m, n, k) = matrix_lanes(device, dtype, problem.accumulator)
    tiles = replace(fragments((2 * m, 2 * n, 2 * k), (m, n), lanes, (m, n, k)), transposed=transposed)
    check(device, Case(problem), tiles)


@pytest.mark.parametrize(
    ("dtype", "fragment"),
    [("f16", (16, 16, 16)), ("f16", (16, 8, 16)), ("f16", (8, 16, 8)), ("i8", (16, 16, 32))],
    ids=str,
)
def test_matrix_multiplies_by_fragments_of_other_devices(
    device: Device, dtype: str, fragment: tuple[int, int, int]
) -> None:
    # Flexible sizes let a driver whose own fragments are small stand in for a GPU with larger ones.
    problem = product(36, 36, 68, dtype)
    lanes, native = matrix_lanes(device, dtype, problem.accumulator)
    if native != fragment and not is_flexible(device, dtype, fragment):
        pytest.skip(f"{device.capabilities.device_name} multiplies no fragments of {fragment}")
    case, tiles = Case(problem, vectors=True), fragments((32, 32, 32), (16, 16), lanes, fragment)
    lhs, rhs = make_operands(problem)
    got = run(device, case, tiles, (lhs, rhs), make_kernel(case, tiles))
    check_product(got, case, tiles, (lhs, rhs))


@pytest.mark.parametrize("buffers", [1, 2])
@pytest.mark.parametrize("shape", [(128, 128, 128), (128, 128, 16), (104, 136, 88)], ids=str)
@pytest.mark.parametrize("turned", [(False, False), (True, True)], ids=str)
def test_matrix_multiplies_whole_groups_of_plain_memory(
    device: Device, turned: tuple[bool, bool], shape: tuple[int, int, int], buffers: int
) -> None:
    # Tiles of eight fragments a side: invocations copy several groups each, a fixed number of lines apart.
    lanes, (m, n, k) = matrix_lanes(device, "f16", "f32")
    tile = (8 * m, 8 * n, 4 * k if buffers == 1 else 2 * k)
    tiles = replace(fragments(tile, (4 * m, 2 * n), lanes, (m, n, k)), buffers=buffers)
    check(device, Case(product(*shape, "f16", batch=2), *turned, vectors=True), tiles)


def test_matrix_multiplies_split_depth(device: Device) -> None:
    lanes, (m, n, k) = matrix_lanes(device, "f16", "f32")
    tiles = replace(fragments((2 * m, 2 * n, 2 * k), (2 * m, 2 * n), lanes, (m, n, k)), splits=2)
    check(device, Case(product(33, 35, 5 * k + 3, "f16")), tiles)


@pytest.mark.parametrize(
    "shape",
    [(1, 1, 1), (1, 1, 257), (1, 67, 33), (67, 1, 33), (3, 5, 7), (2, 2, 500), (127, 129, 1), (64, 65, 63), (5, 2, 3)],
)
def test_chosen_schedule_multiplies(device: Device, shape: tuple[int, int, int]) -> None:
    problem = product(*shape)
    check(device, Case(problem), choose(problem, device.capabilities))


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "i8", "f64", "c64"])
def test_chosen_schedule_multiplies_dtype(device: Device, dtype: str) -> None:
    problem = product(65, 70, 130, dtype, batch=2)
    check(device, Case(problem), choose(problem, device.capabilities))


def test_result_narrower_than_sum_is_rounded_once(device: Device) -> None:
    problem = product(9, 10, 11, "f16", result="f16")
    check(device, Case(problem), choose(problem, device.capabilities))


@pytest.mark.parametrize("name", ["registers", "tiled", "vector", "slices"])
def test_padding_never_meets_infinity(device: Device, name: str) -> None:
    # Were a depth beyond the end multiplied at all, 0 * inf would make the sum NaN.
    case = Case(product(5, 5, 9))
    lhs, rhs = make_operands(case.problem)
    lhs[:, :, -1], rhs[:, -1, :] = np.inf, 1
    tiles = schedules(device.capabilities.subgroup_size)[name]
    got = run(device, case, tiles, (lhs, rhs), make_kernel(case, tiles))
    assert np.isposinf(got).all()


@pytest.mark.parametrize("name", ["registers", "tiled", "vector", "slices"])
def test_epilogue_sees_every_sum(device: Device, name: str) -> None:
    case = Case(product(17, 19, 23, "i32"))
    lhs, rhs = make_operands(case.problem)

    def twice_plus_one(_: Builder, value: Number) -> Number:
        return map_parts(lambda part: part * 2 + 1, value)

    tiles = schedules(device.capabilities.subgroup_size)[name]
    got = run(device, case, tiles, (lhs, rhs), make_kernel(case, tiles, epilogue=twice_plus_one))
    np.testing.assert_array_equal(got, lhs @ rhs * 2 + 1)


def test_same_inputs_give_the_same_bits(device: Device) -> None:
    case = Case(product(30, 31, 200))
    tiles = choose(case.problem, device.capabilities)
    operands, kernel = make_operands(case.problem), make_kernel(case, tiles)
    first = run(device, case, tiles, operands, kernel)
    assert first.tobytes() == run(device, case, tiles, operands, kernel).tobytes()


def test_complex_dtypes_are_known() -> None:
    assert is_complex("c64")
    assert not is_complex("f32")
