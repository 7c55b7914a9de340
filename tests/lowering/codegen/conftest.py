"""Capabilities for tests that compile and need no device."""

from __future__ import annotations

import pytest

from shaders.capabilities import Capabilities

from ..plan.support import machine


@pytest.fixture(scope="session")
def lavapipe() -> Capabilities:
    """What the suite's usual device can do."""
    return machine("lavapipe22")
