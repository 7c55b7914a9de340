"""Read the tuning data of a family of devices."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType
from typing import Any

from ..capabilities import Capabilities
from ..errors import ShaderError

NVIDIA = 0x10DE
"""PCI vendor number."""

FAMILIES = ("default", "lavapipe", "nvidia")


def device_family(capabilities: Capabilities) -> str:
    """Return which of `FAMILIES` a device is tuned as."""
    if capabilities.is_cpu:
        return "lavapipe"
    return "nvidia" if capabilities.vendor_id == NVIDIA else "default"


@functools.cache
def read_rows(family: str, section: str) -> tuple[Mapping[str, Any], ...]:
    """Return the rows of one kernel family's section, in the order of the file.

    Raises:
        ShaderError: there is no such family.
    """
    if family not in FAMILIES:
        raise ShaderError(
            "Tuning data exist for known families only.",
            got=repr(family),
            want=", ".join(FAMILIES),
            fix="use device_family(capabilities).",
        )
    text = resources.files(__package__ or "shaders.tuning").joinpath(f"{family}.toml").read_text("utf-8")
    return tuple(MappingProxyType(row) for row in tomllib.loads(text).get(section, []))
