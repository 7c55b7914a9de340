"""Compiler from StableHLO to Vulkan compute, its runtime, and JAX's platform `vulkan`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import Lowered, lower
    from .embedding import embed
    from .executable import Executable, load
    from .program import Program
    from .runtime import Device
    from .tuning.tuner import tune

__all__ = ["Device", "Executable", "Lowered", "Program", "embed", "load", "lower", "tune"]

_HOMES = {
    "Device": "runtime",
    "Executable": "executable",
    "Lowered": "api",
    "Program": "program",
    "embed": "embedding",
    "load": "executable",
    "lower": "api",
    "tune": "tuning.tuner",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `load` must work without JAX."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
