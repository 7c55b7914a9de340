"""Devices of the runtime's tests: with the validation layer where it is installed, and in the staged variant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from lowering.errors import DeviceError
from lowering.runtime import Device, settings_from_environment


def open_or_skip(**changes: object) -> Device:
    """Open a device with changed settings; skip, and say why, where the driver or the layer is missing."""
    settings = replace(settings_from_environment(), **changes)  # pyright: ignore[reportArgumentType]
    try:
        return Device.open(settings=settings)
    except DeviceError as error:
        pytest.skip(str(error).splitlines()[0])


@pytest.fixture(scope="session", params=["direct", "staged"])
def any_device(request: pytest.FixtureRequest) -> Iterator[Device]:
    """A device on which arrays are reached in place where that is possible, and one that always stages."""
    with open_or_skip(is_staged=request.param == "staged") as device:
        yield device


@pytest.fixture(scope="session", params=["direct", "staged"])
def validated_device(request: pytest.FixtureRequest) -> Iterator[Device]:
    """The same with the validation layer listening; the layer must stay silent to the end."""
    with open_or_skip(is_staged=request.param == "staged", validation="core", labels=True) as device:
        yield device
        assert [message.text for message in device.messages] == []


@pytest.fixture
def fresh_device() -> Iterator[Device]:
    """A device of the test's own, for counting and closing."""
    with open_or_skip() as device:
        yield device
