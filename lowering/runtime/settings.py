"""Settings of the runtime, read once from the environment and passed on from there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..errors import InputError, message

Validation = Literal["", "core", "sync", "gpu"]
LoaderChoice = Literal["auto", "direct"]

# What is on unless it is 0.
_ON = {"": "1", "1": "1", "0": ""}


@dataclass(frozen=True, slots=True)
class Settings:
    """What a device is opened with.

    Attributes:
        selector: index, part of a name or UUID of the device; empty picks the best one.
        validation: "core" turns the Khronos validation layer on, "sync" adds synchronization validation, "gpu" adds
            instructions to every kernel that check its addresses and indices.
        labels: put dispatch labels into command buffers, for capture tools and validation messages.
        loader: "direct" opens the driver's library without the Vulkan loader.
        has_vendors: use extensions of single vendors; without them a device shows what KHR and EXT ones are good for.
        is_staged: use staging memory even where the host sees device memory, to test that road everywhere.
    """

    selector: str = ""
    validation: Validation = ""
    labels: bool = False
    loader: LoaderChoice = "auto"
    has_vendors: bool = True
    is_staged: bool = False


def settings_from_environment(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings.

    QGA_VULKAN_DEVICE, QGA_VALIDATION (0, 1, sync, gpu), QGA_LABELS (0, 1), QGA_VULKAN_LOADER (auto, direct),
    QGA_VENDOR_EXTENSIONS (0, 1)
    """
    source = os.environ if environment is None else environment
    known = {"": "", "0": "", "1": "core", "core": "core", "sync": "sync", "gpu": "gpu"}
    validation = _choice(source, "QGA_VALIDATION", known)
    loader = _choice(source, "QGA_VULKAN_LOADER", {"": "auto", "auto": "auto", "direct": "direct"})
    labels = _choice(source, "QGA_LABELS", {"": "", "0": "", "1": "1"})
    return Settings(
        selector=source.get("QGA_VULKAN_DEVICE", "").strip(),
        validation=validation,  # pyright: ignore[reportArgumentType] - the table above holds these literals only
        labels=bool(labels or validation),
        has_vendors=bool(_choice(source, "QGA_VENDOR_EXTENSIONS", _ON)),
        loader=loader,  # pyright: ignore[reportArgumentType] - as above
    )


def uses_tuning(environment: Mapping[str, str]) -> bool:
    """Read QGA_TUNING (0, 1): whether schedules that `qga tune` found are used; they are unless it is 0."""
    return bool(_choice(environment, "QGA_TUNING", _ON))


def _choice(source: Mapping[str, str], name: str, allowed: Mapping[str, str]) -> str:
    value = source.get(name, "").strip().lower()
    if value not in allowed:
        raise InputError(
            message(
                f"{name} must be one of the known settings.",
                got=repr(source[name]),
                want=", ".join(repr(key) for key in allowed if key),
                fix=f"unset {name} or give it one of these values.",
            )
        )
    return allowed[value]
