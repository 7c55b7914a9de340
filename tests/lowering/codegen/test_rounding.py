"""Rounding to bf16: the bits of ml_dtypes for every kind of tie and every NaN, and never a device's own conversion."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from lowering.compiler import compile_graph
from lowering.runtime import Device
from lowering.schedule import WIDE
from shaders.functions.split import Split

from ..plan.support import machine
from ..programs import graph_of
from ..running import run, styled

LOWER = np.array([0, 1, 0x4000, 0x7FFE, 0x7FFF, 0x8000, 0x8001, 0xC000, 0xFFFF], np.uint32)
"""What is cut off: nothing, little, ties and their neighbours."""


def patterns() -> np.ndarray:
    """Every upper half of an f32 with each lower one; subnormal numbers, which devices may flush, are zeros here."""
    x = ((np.arange(1 << 16, dtype=np.uint32) << 16)[:, None] | LOWER[None]).view(np.float32).reshape(-1, 64)
    return np.where(np.abs(x) < np.finfo(np.float32).tiny, np.float32(0), x)


def same(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    bits = f"u{got.itemsize}"
    return (got.view(bits) == want.view(bits)) | (np.isnan(got) & np.isnan(want))


@pytest.mark.parametrize("style", ["cpu", "gpu"])
def test_every_number_is_rounded_to_the_nearest(style: Any, device: Device) -> None:
    x = patterns()

    def function(value: Any) -> Any:
        narrow = value.astype(jnp.bfloat16)
        return narrow, narrow.astype(jnp.float32), (value.astype(jnp.bfloat16) * 3).astype(jnp.float32)

    got = run(device, compile_graph(graph_of(function, x), styled(device.capabilities, style)), [x])
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = x.astype(ml_dtypes.bfloat16)
        tripled = (narrow.astype(np.float32) * np.float32(3)).astype(ml_dtypes.bfloat16).astype(np.float32)
    for left, right in zip(got, (narrow, narrow.astype(np.float32), tripled), strict=True):
        assert same(left, right).all()


def test_a_number_that_is_cut_is_not_rounded() -> None:
    x = patterns()
    cut = (x.view(np.uint32) & 0xFFFF0000).view(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        assert not same(cut, x.astype(ml_dtypes.bfloat16).astype(np.float32)).all()


def polynomial(x: Any) -> Any:
    """A function that is rounded five times."""
    return (x * x + x) * 3 - x / 7


def rounded_five_times(x: np.ndarray) -> np.ndarray:
    def narrow(value: np.ndarray) -> np.ndarray:
        return value.astype(ml_dtypes.bfloat16).astype(np.float32)

    three, seven = np.float32(3), np.float32(7)
    with np.errstate(over="ignore", invalid="ignore"):
        return (narrow(narrow(narrow(narrow(x * x) + x) * three) - narrow(x / seven))).astype(ml_dtypes.bfloat16)


def guessed(device: Device, x: np.ndarray) -> np.ndarray:
    (got,) = run(device, compile_graph(graph_of(polynomial, x), styled(device.capabilities, "gpu")), [x])
    return got


def every_bf16(*, in_order: bool) -> np.ndarray:
    """All bf16, in order (runs of numbers of one size) or not (runs with some that are too large)."""
    bits = np.arange(1 << 16, dtype=np.uint16)
    x = (bits if in_order else np.random.default_rng(0).permutation(bits)).view(ml_dtypes.bfloat16)
    tiny = np.abs(x.astype(np.float32)) < 2.0**-60
    return np.tile(np.where(tiny, ml_dtypes.bfloat16(0), x), 4 * WIDE // 64).reshape(-1, 512)


@pytest.mark.parametrize("in_order", [True, False])
def test_guesses_have_the_bits_of_every_rounding(in_order: bool, device: Device) -> None:
    x = every_bf16(in_order=in_order)
    assert same(guessed(device, x), rounded_five_times(x.astype(np.float32))).all()


def test_guesses_that_nobody_checks_are_wrong(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Split, "is_good", lambda self: self.builder.const("bool", True))
    x = every_bf16(in_order=False)
    assert not same(guessed(device, x), rounded_five_times(x.astype(np.float32))).all()


def test_splitting_rounds_every_mantissa_to_nearest_even() -> None:
    x = np.arange(0x3F800000, 0x40000000, dtype=np.uint32).view(np.float32)
    large = x * np.float32(65537)
    np.testing.assert_array_equal(large - (large - x), x.astype(ml_dtypes.bfloat16).astype(np.float32))


def test_a_gpu_guesses_where_it_rounds_often() -> None:
    """By splitting, an element takes no integer beyond loads and stores; a second body has the integers."""
    large = jax.ShapeDtypeStruct((4096, 4096), jnp.bfloat16)
    (kernel,) = compile_graph(graph_of(polynomial, large), machine("h100")).kernels
    assert "RoundingModeRTE" in kernel.text()
    (kernel,) = compile_graph(graph_of(lambda x: x * 3, large), machine("h100")).kernels
    assert "RoundingModeRTE" not in kernel.text()
    (kernel,) = compile_graph(graph_of(polynomial, large), machine("lavapipe22")).kernels
    assert "RoundingModeRTE" not in kernel.text()


def rounding(function: Callable[..., Any], on: str) -> Counter[str]:
    """Return how often the one kernel of a function, written for a machine, has each instruction."""
    (kernel,) = compile_graph(graph_of(function, jax.ShapeDtypeStruct((131, 2), jnp.bfloat16)), machine(on)).kernels
    return Counter(re.findall(r"Op\w+", kernel.text()))


@pytest.mark.parametrize("on", ["h100", "lavapipe22"])
def test_no_device_is_trusted_to_round(on: str) -> None:
    """NVIDIA's own conversion cuts off and loses some NaN."""
    assert rounding(lambda x: x * 3, on)["OpFConvert"] == 0
    assert rounding(lambda x: x * 3, on)["OpBitFieldUExtract"] > 0


def test_what_is_not_computed_is_not_rounded() -> None:
    assert rounding(lambda x: x[::-1], "h100")["OpBitFieldUExtract"] == 0
