"""Devices under the three kinds of validation."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lowering.runtime import Device

from .listening import listening


@pytest.fixture(scope="session")
def core_device() -> Iterator[Device]:
    """A device under the layer's plain checks."""
    yield from listening("core")


@pytest.fixture(scope="session")
def synchronized_device() -> Iterator[Device]:
    """A device under synchronization validation."""
    yield from listening("sync")


@pytest.fixture(scope="session")
def instrumented_device() -> Iterator[Device]:
    """A device whose kernels check their own addresses and indices."""
    yield from listening("gpu")
