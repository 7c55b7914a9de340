"""Run programs on Vulkan devices: `Device` owns, `Buffer` is memory, `LoadedProgram` runs."""

from .device import Device, list_devices
from .hazard import check_hazards
from .instance import DriverMessage
from .loaded import LoadedProgram
from .memory import Buffer
from .profile import DispatchTime
from .select import DeviceRecord
from .settings import Settings, settings_from_environment

__all__ = [
    "Buffer",
    "Device",
    "DeviceRecord",
    "DispatchTime",
    "DriverMessage",
    "LoadedProgram",
    "Settings",
    "check_hazards",
    "list_devices",
    "settings_from_environment",
]
