"""Rounding to bf16, by a device that has the type or in integers: the bits of ml_dtypes for every kind of tie."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from lowering.codegen.kernels import rounds_bf16
from lowering.compiler import compile_graph, optimise
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


def rounding(function: Callable[..., Any], on: str, dtype: Any = jnp.bfloat16) -> tuple[bool, int]:
    """Whether the one kernel of a function leaves rounding to the device, and how many conversions it has."""
    graph = graph_of(function, jax.ShapeDtypeStruct((128, 128), dtype))
    (fusion,) = (node for node in optimise(graph, machine(on)).nodes if node.op == "fusion")
    (kernel,) = compile_graph(graph, machine(on)).kernels
    return rounds_bf16(fusion, machine(on)), kernel.text().count("OpFConvert")


def test_the_device_rounds_where_it_has_the_type() -> None:
    assert rounding(lambda x: x * 3 + 1, "h100") == (True, 2)
    assert rounding(lambda x: x * 3 + 1, "lavapipe22") == (False, 0)
    assert rounding(lambda x: x * 3 + 1, "h100", jnp.float32) == (False, 0)
    assert not rounding(lambda x: x @ x, "h100")[0]
