"""Attention over rows on several devices beside the dense formula of all of them, forwards and backwards."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qga import OptionError, ShapeError, ring_attention
from qga.exact import zigzag_order
from tests.qga.exact.compare import measure, of_dtype, require_equal, truth
from tests.qga.exact.ring_rows import ALONE, CASES, around, arrays_of
from tests.qga.tolerances import VULKAN_ROUNDINGS, assert_far

X = jnp.ones((1, 4, 2, 3))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Compute all cases in a process whose CPU is four devices."""
    path = tmp_path_factory.mktemp("ring") / "found.npz"
    command = [sys.executable, "-m", "tests.qga.exact.ring_rows", str(path)]
    root = Path(__file__).parents[3]
    subprocess.run(command, check=True, timeout=240, cwd=root, env=os.environ | {"JAX_PLATFORMS": "cpu"})
    return np.load(path)


@pytest.mark.parametrize("name", CASES)
def test_values_log_sums_and_gradients_are_those_of_all_rows(name: str, found: Any) -> None:
    case = CASES[name]
    arrays = arrays_of(case)
    want = truth(case.row, arrays)
    got = found[f"{name} out"], found[f"{name} log sums"], {role: found[f"{name} {role}"] for role in want[2]}
    require_equal(got, want, case.row)


def test_ring_of_one_runs_on_a_platform_without_collectives(vulkan: jax.Device) -> None:
    row, arrays = ALONE.row, arrays_of(ALONE)
    run = jax.jit(partial(measure, around(1, platform=vulkan.platform), row, tile=row.tile))
    got = run(jax.device_put(of_dtype(arrays, jnp.float32), vulkan))
    assert got[0].devices() == {vulkan}
    require_equal(got, truth(row, arrays), row, VULKAN_ROUNDINGS)


def test_device_at_the_place_of_another_is_seen(found: Any) -> None:
    assert_far(found["causal misplaced"], found["causal out"])


def test_gradient_is_the_same_bit_for_bit(found: Any) -> None:
    np.testing.assert_array_equal(found["causal again"], found["causal key"])


def test_no_device_holds_more_where_there_are_more_of_them(found: Any) -> None:
    few, many = (int(found[f"largest ring_attention {devices}"]) for devices in (2, 4))
    assert few == many
    assert found["largest gathered 4"] == 2 * found["largest gathered 2"] > many


def test_zigzag_order_spreads_early_and_late_rows() -> None:
    order = zigzag_order(12, 3)
    assert order.reshape(3, 2, 2).tolist() == [[[0, 1], [10, 11]], [[2, 3], [8, 9]], [[4, 5], [6, 7]]]
    with pytest.raises(ShapeError, match="two parts of one length"):
        zigzag_order(10, 2)


def test_call_outside_of_a_mesh_is_refused() -> None:
    with pytest.raises(OptionError, match="no axis 'ring' here"):
        ring_attention(X, X, X, axis_name="ring")


def test_mesh_that_follows_what_varies_is_refused() -> None:
    mesh = jax.make_mesh((1,), ("ring",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.P(None, "ring")
    local = jax.shard_map(lambda x: ring_attention(x, x, x, axis_name="ring"), mesh=mesh, in_specs=rows, out_specs=rows)
    with pytest.raises(OptionError, match="check_vma=False"):
        local(X)


@pytest.mark.parametrize("options", [{"order": "spiral"}, {"order": "zigzag"}, {"order": "zigzag", "window": 2}])
def test_order_that_does_not_fit_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="order"):
        around(1)(X, X, X, is_causal="window" in options, **options)


def test_second_derivative_is_refused() -> None:
    def total(x: jax.Array) -> jax.Array:
        return jnp.sum(around(1)(x, x, x)[0] ** 2)

    with pytest.raises(OptionError, match="first gradients only"):
        jax.make_jaxpr(jax.grad(lambda x: jnp.sum(jax.grad(total)(x))))(X)
