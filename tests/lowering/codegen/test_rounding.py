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
