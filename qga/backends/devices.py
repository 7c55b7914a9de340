"""Which devices of JAX there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import jax

from ..errors import OptionError, refuse


class Device(Protocol):
    """What a backend needs to know of a device of JAX, whose own class has no public name for type checkers."""

    @property
    def platform(self) -> str:
        """What kind of device it is, such as ``cpu``."""
        ...

    def memory_stats(self) -> Mapping[str, int] | None:
        """Count what the device's memory holds; None where the platform does not."""
        ...


def find_device(platform: str) -> tuple[Any, str]:
    """Return the first device of a platform, or None and why there is none."""
    try:
        return jax.devices(platform)[0], ""
    except RuntimeError as error:
        # JAX answers with several lines when a platform fails; the first one says why.
        return None, str(error).strip().splitlines()[0]


def first_device(platform: str) -> Any:
    """Return the first device of a platform.

    Raises:
        OptionError: there is none.
    """
    device, why = find_device(platform)
    if device is None:
        refuse(
            OptionError, f"backends: there must be a device of platform {platform}.", got=why,
            want=f"jax.devices({platform!r}) with at least one device",
            fix="run `qga devices` to see what is missing, and leave the platform in JAX_PLATFORMS.",
        )  # fmt: skip
    return device
