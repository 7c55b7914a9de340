"""Every kernel of the gallery, compiled for the platform vulkan, gives what its float64 reference gives.

Fewer sizes than in interpret mode: each is a program of its own, and a driver on a CPU takes long to compile one.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from tests.gallery.cases import BY_NAME, SIZES, WITH_GRADIENT, Case, at, cases
from tests.gallery.compare import gradients, leaves, problem, spoil, true_gradients, truth

DRAWS = settings(
    max_examples=2,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.mark.parametrize("size", ["one", "tile", "tile+1", "prime"])
@pytest.mark.parametrize("name", BY_NAME)
def test_kernel_is_its_reference_and_a_changed_input_is_seen(vulkan: Any, name: str, size: str) -> None:
    case = at(name, SIZES[size])
    function, want = jax.jit(case.function(interpret=False)), truth(case, case.arrays)
    got = function(*jax.device_put(case.arrays, vulkan))
    assert all(leaf.devices() == {vulkan} for leaf in jax.tree.leaves(got))
    assert problem(leaves(got), want, case.bound()) is None
    if size == "prime":
        assert problem(leaves(function(*jax.device_put(spoil(case), vulkan))), want, case.bound()) is not None


@pytest.mark.parametrize("name", WITH_GRADIENT)
def test_gradient_is_that_of_the_reference_to_a_thousandth_and_better(vulkan: Any, name: str) -> None:
    case = at(name, SIZES["prime"])
    function, want = gradients(case, case.function(interpret=False), options={}), true_gradients(case, case.arrays)
    got = leaves(function(*jax.device_put(case.arrays, vulkan)))
    assert problem(got, want, case.bound()) is None
    assert problem([np.float32(1.001) * bar for bar in got], want, case.bound()) is not None


@pytest.mark.parametrize("name", BY_NAME)
def test_kernel_is_its_reference_at_drawn_sizes_blocks_and_dtypes(vulkan: Any, name: str) -> None:
    @DRAWS
    @given(cases(BY_NAME[name]))
    def check(case: Case) -> None:
        got = leaves(jax.jit(case.function(interpret=False))(*jax.device_put(case.arrays, vulkan)))
        assert problem(got, truth(case, case.arrays), case.bound()) is None

    check()
