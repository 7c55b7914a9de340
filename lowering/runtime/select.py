"""Choose a device from records of what is there. Pure: it never touches a driver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shaders.capabilities import Capabilities

from ..errors import DeviceError, message

RANKS = {"discrete": 0, "integrated": 1, "virtual": 2, "cpu": 3, "other": 4}


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """One device as `qga devices` lists it.

    Attributes:
        missing: what it lacks of the baseline, empty for a usable one.
        capabilities: of a usable one.
    """

    index: int
    name: str
    uuid: str
    device_type: str
    driver_name: str
    driver_version: str
    api_version: str
    memory_bytes: int
    missing: tuple[str, ...]
    source: str
    capabilities: Capabilities | None = None

    @property
    def text(self) -> str:
        """One line for people."""
        return f"{self.index}: {self.name} ({self.device_type}, {self.driver_name} {self.driver_version})"


def choose_device(records: Sequence[DeviceRecord], selector: str = "") -> DeviceRecord:
    """Return the device a selector names, or the best usable one: discrete, integrated, virtual, then CPU.

    Args:
        records: the devices that are there.
        selector: index, UUID, or any part of the name, in any case; empty picks the best.

    Raises:
        DeviceError: no device at all, none that fits the selector, several that fit equally, or none that is usable.
    """
    if not records:
        raise _no_device("no device", "at least one Vulkan device")
    if selector:
        return _named(records, selector)
    usable = [record for record in records if not record.missing]
    if not usable:
        lacks = "; ".join(f"{record.name} lacks {', '.join(record.missing)}" for record in records)
        raise _no_device(lacks, "one device with the baseline of Vulkan 1.3 features")
    return min(usable, key=lambda record: (RANKS[record.device_type], record.index))


def _named(records: Sequence[DeviceRecord], selector: str) -> DeviceRecord:
    wanted = selector.strip().lower()
    if wanted.isdecimal():
        found = [record for record in records if record.index == int(wanted)]
    else:
        found = [record for record in records if record.uuid.lower() == wanted]
        found = found or [record for record in records if wanted in record.name.lower()]
    if not found:
        listed = "; ".join(record.text for record in records)
        raise DeviceError(
            message(
                "QGA_VULKAN_DEVICE must name a device that is there.",
                got=repr(selector),
                want=listed,
                fix="set it to an index, a UUID or a part of a name, or unset it.",
            )
        )
    # Several cards of one name differ only in their UUID and index; the first is as good as any.
    return min(found, key=lambda record: (bool(record.missing), RANKS[record.device_type], record.index))


def _no_device(got: str, want: str) -> DeviceError:
    return DeviceError(
        message(
            "Vulkan needs a usable device.",
            got=got,
            want=want,
            fix="install or update your GPU's driver, or install mesa-vulkan-drivers for one that runs on the CPU.",
        )
    )
