"""The errors of the compiler, the runtime and the plugin, and the one template of their texts."""

from __future__ import annotations


class QgaError(Exception):
    """Base of every error this package raises on purpose."""


class UnsupportedError(QgaError, NotImplementedError):
    """The program uses operations, dtypes or features that cannot be lowered to this device."""


class GraphError(QgaError, ValueError):
    """A graph, schedule or program breaks one of its own rules: a defect of the compiler or of a loaded file."""


class DeviceError(QgaError, RuntimeError):
    """No usable device, a missing feature, or a device that was lost."""


class DeviceMemoryError(DeviceError, MemoryError):
    """The device has no room for an allocation."""


class InputError(QgaError, ValueError):
    """An argument has the wrong shape, dtype, device or state."""


def message(rule: str, *, got: str, want: str, fix: str, at: str = "", stage: str = "") -> str:
    """Compose the text of an error: the rule, then got, want and fix, then where and in which stage."""
    lines = [rule, f"  got:  {got}", f"  want: {want}", f"  fix:  {fix}"]
    if at:
        lines.append(f"  at: {at}")
    if stage:
        lines.append(f"  in: {stage}")
    return "\n".join(lines)
