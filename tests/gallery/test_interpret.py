"""Every kernel of the gallery, run as JAX operations on the CPU, gives what its float64 reference gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from tests.gallery.cases import BY_NAME, SIZES, WITH_GRADIENT, Case, at, cases
from tests.gallery.compare import compiled, gradients, leaves, problem, spoil, true_gradients, truth

DRAWS = settings(
    max_examples=2, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", BY_NAME)
def test_kernel_is_its_reference_and_a_changed_input_is_seen(name: str, size: str) -> None:
    case = at(name, SIZES[size])
    function, want = compiled(case.function(interpret=True)), truth(case, case.arrays)
    assert problem(leaves(function(*case.arrays)), want, case.bound()) is None
    if size == "prime":
        assert problem(leaves(function(*spoil(case))), want, case.bound()) is not None


@pytest.mark.parametrize("size", ["one", "prime"])
@pytest.mark.parametrize("name", WITH_GRADIENT)
def test_gradient_is_that_of_the_reference_to_a_thousandth_and_better(name: str, size: str) -> None:
    case = at(name, SIZES[size])
    function, want = gradients(case, case.function(interpret=True)), true_gradients(case, case.arrays)
    got = leaves(function(*case.arrays))
    assert problem(got, want, case.bound()) is None
    if size == "prime":
        assert problem([np.float32(1.001) * bar for bar in got], want, case.bound()) is not None


@pytest.mark.parametrize("name", BY_NAME)
def test_kernel_is_its_reference_at_drawn_sizes_blocks_and_dtypes(name: str) -> None:
    @DRAWS
    @given(cases(BY_NAME[name]))
    def check(case: Case) -> None:
        got = leaves(compiled(case.function(interpret=True))(*case.arrays))
        assert problem(got, truth(case, case.arrays), case.bound()) is None

    check()
