"""Capabilities of the device that bands are meant for."""

from __future__ import annotations

import pytest

from shaders.capabilities import Capabilities

from ...plan.support import machine


@pytest.fixture(scope="session")
def h100() -> Capabilities:
    """What a GPU can do whose matrices have every feature."""
    return machine("h100")


@pytest.fixture(scope="session")
def cpu() -> Capabilities:
    """What a CPU driver can do whose matrices have what bands need."""
    return machine("lavapipe26")
