"""Fixtures of the tests of the backends."""

from __future__ import annotations

from typing import Any

import pytest

from lowering.pjrt import initialize
from qga import backends


@pytest.fixture(autouse=True, scope="session")
def _platform() -> None:
    """Tell JAX of the platform before it makes its clients: where the package is not installed nobody else does."""
    initialize()


@pytest.fixture
def cpu() -> backends.Backend:
    """Return a backend on the CPU, with a memory of its own."""
    return backends.choose("cpu")


@pytest.fixture(params=["cpu", "vulkan"])
def backend(request: pytest.FixtureRequest) -> Any:
    """Run a test on both backends."""
    if request.param == "cpu":
        return request.getfixturevalue("cpu")
    # For the table that says how many tests ran on which driver.
    request.applymarker(pytest.mark.vulkan_device)
    return backends.choose(request.getfixturevalue("vulkan"))
