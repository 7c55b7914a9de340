from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from lowering import dtypes, reference
from lowering.stablehlo import import_module

from ..programs import graph_of

_FLOATS = ["f16", "bf16", "f32", "f64", "c64", "c128"]


def imported(array: np.ndarray) -> np.ndarray:
    """Return what a constant of a program becomes."""
    with jax.enable_x64(True):
        return reference.run(graph_of(lambda: jnp.asarray(array)))[0]


def same_bits(got: np.ndarray, want: np.ndarray) -> bool:
    return got.dtype == want.dtype and got.shape == want.shape and got.tobytes() == want.tobytes()


@pytest.mark.parametrize("dtype", dtypes.NUMPY)
@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (40, 5), (0, 3)])
def test_decode_keeps_every_bit(dtype: str, shape: tuple[int, ...]) -> None:
    # 40 * 5 elements are printed as one hexadecimal string, fewer as numbers.
    random = np.random.default_rng(0).integers(-100, 100, shape)
    array = np.asarray(random).astype(dtypes.NUMPY[dtype])
    assert same_bits(imported(array), array)


@pytest.mark.parametrize("dtype", dtypes.NUMPY)
def test_decode_fills_a_splat_from_one_element(dtype: str) -> None:
    array = np.ones((3, 4), dtypes.NUMPY[dtype])
    with jax.enable_x64(True):
        (node,) = [node for node in graph_of(lambda: jnp.asarray(array)).nodes if node.op == "constant"]
    assert node.attributes["value"].ndim == 0
    assert node.attributes["value"] == 1


@pytest.mark.parametrize("dtype", _FLOATS)
def test_decode_keeps_special_numbers(dtype: str) -> None:
    numbers = [np.inf, -np.inf, np.nan, -0.0, 0.1, 1e-7]
    array = np.array(numbers).astype(dtypes.NUMPY[dtype])
    assert same_bits(imported(array), array)


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f32", "f64"])
def test_decode_keeps_extreme_and_subnormal_numbers(dtype: str) -> None:
    info: Any = ml_dtypes.finfo(dtypes.NUMPY[dtype])
    array = np.array([info.max, info.min, info.tiny, info.smallest_subnormal, info.eps], dtypes.NUMPY[dtype])
    assert same_bits(imported(array), array)


@pytest.mark.parametrize("dtype", ["i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64"])
def test_decode_keeps_the_ends_of_integers(dtype: str) -> None:
    limits = np.iinfo(dtypes.NUMPY[dtype])
    array = np.array([limits.min, limits.max, 0], dtypes.NUMPY[dtype])
    assert same_bits(imported(array), array)


def test_decode_reads_bits_in_text() -> None:
    text = """
      module @m { func.func public @main() -> tensor<3xbf16> {
        %0 = stablehlo.constant dense<[0xFF80, 0x7FC1, 1.5]> : tensor<3xbf16>
        return %0 : tensor<3xbf16> } }"""
    (node,) = import_module(text.encode()).nodes
    assert node.attributes["value"].view(np.uint16).tolist() == [0xFF80, 0x7FC1, 0x3FC0]
