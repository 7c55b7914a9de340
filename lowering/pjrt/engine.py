"""What the plugin needs from a device and a compiler, and the real ones."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..program import ArrayType

if TYPE_CHECKING:
    from shaders.capabilities import Capabilities

    from ..runtime import Device as VulkanDevice
    from ..runtime import DeviceRecord


class Buffer(Protocol):
    """Memory of the device, freed when the object is dropped. `ready` is the timeline value of its contents."""

    @property
    def address(self) -> int:
        """Device address of the first byte."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        ...

    @property
    def ready(self) -> int:
        """Timeline value at which the contents are there."""
        ...


class Device(Protocol):
    """A device with its memory and its timeline; every method may be called from any thread.

    `upload` has read its source when it returns. `when_done` calls back with None, or with the error of a lost device.
    """

    def allocate(self, nbytes: int) -> Any:
        """Return memory for an array, which may be empty."""
        ...

    def upload(self, buffer: Any, source: np.ndarray) -> None:
        """Copy host data into a buffer."""
        ...

    def download(self, buffer: Any, target: np.ndarray) -> None:
        """Wait until a buffer is ready and copy it into a host array."""
        ...

    def is_done(self, value: int) -> bool:
        """Return whether the timeline has reached a value."""
        ...

    def when_done(self, value: int, callback: Callable[[Any], None]) -> None:
        """Call back once the timeline has reached a value."""
        ...

    def wait(self, value: int) -> None:
        """Block until the timeline reaches a value."""
        ...

    def statistics(self) -> Mapping[str, int]:
        """Return `live_bytes` and what else is counted."""
        ...

    def close(self) -> None:
        """Release everything."""
        ...


class Executable(Protocol):
    """A compiled computation, loaded on its device."""

    @property
    def name(self) -> str:
        """Name for people."""
        ...

    @property
    def input_types(self) -> Sequence[ArrayType]:
        """Dtype and shape of each input."""
        ...

    @property
    def output_types(self) -> Sequence[ArrayType]:
        """Dtype and shape of each output."""
        ...

    @property
    def aliases(self) -> Sequence[tuple[int, int]]:
        """(input, output) pairs that share memory if the input is donated."""
        ...

    def run(self, buffers: Sequence[Any], donate: frozenset[int]) -> Sequence[Any]:
        """Start the computation; the outputs share one value of `ready`."""
        ...

    def cost(self) -> Mapping[str, float]:
        """Return estimates by name."""
        ...


class Engine(Protocol):
    """A device and the compiler for it. `version` names driver and compiler, for caches and for people.

    `attributes` become attributes of JAX's device; they are known before the device is opened.
    """

    @property
    def name(self) -> str:
        """Name for people."""
        ...

    @property
    def version(self) -> str:
        """Driver and compiler, as text."""
        ...

    @property
    def attributes(self) -> Mapping[str, str | int]:
        """What the device offers, by name."""
        ...

    @property
    def is_open(self) -> bool:
        """Whether the device was opened."""
        ...

    @property
    def device(self) -> Device:
        """The device, opened by its first use."""
        ...

    def compile(self, module: bytes) -> Executable:
        """Compile a serialised StableHLO module and load it."""
        ...


class VulkanEngine:
    """A Vulkan device and the compiler, both loaded when they are first needed.

    JAX makes a client of every platform it knows, also for programs that stay on the CPU: those must not pay for a
    device or for the compiler's modules.

    Args:
        record: the chosen device.
        device: the same device, if it is open already.
        is_verified: check every kernel against NumPy on every call.
    """

    def __init__(self, record: DeviceRecord, device: VulkanDevice | None = None, *, is_verified: bool = False) -> None:
        self.name = record.name
        self._is_verified = is_verified
        driver = f"{record.driver_name} {record.driver_version}"
        self.version = f"Vulkan {record.api_version}, {driver}, {_package()}"
        self.attributes = {} if record.capabilities is None else attributes_of(record.capabilities)
        self._record = record
        self._device = device
        self._lock = threading.Lock()

    @property
    def is_open(self) -> bool:
        """Whether the device was opened."""
        return self._device is not None

    @property
    def device(self) -> VulkanDevice:
        """The device, opened by the first use.

        Raises:
            DeviceError: the device refuses.
        """
        if self._device is None:
            with self._lock:
                if self._device is None:
                    self._device = _open(self._record.uuid)
        return self._device

    def compile(self, module: bytes) -> Executable:
        """Compile a serialised StableHLO module and load it.

        Raises:
            UnsupportedError: the module needs what the compiler or the device lacks; lists all of it.
        """
        from ..api import compile_module

        return compile_module(module, self.device, verify=self._is_verified)


def attributes_of(capabilities: Capabilities) -> dict[str, str | int]:
    """List what limits a tile: attributes of JAX's device, named as the fields of the capabilities.

    `matrices` are the products of matrix units that a subgroup does, such as `16x16x16:f16->f32`, with blanks between.
    """
    numbers = ("max_shared_bytes", "max_invocations", "subgroup_size", "min_subgroup_size", "max_subgroup_size")
    products = sorted({str(shape) for shape in capabilities.matrices if shape.scope == "subgroup"})
    return {
        "device_type": capabilities.device_type,
        **{name: getattr(capabilities, name) for name in numbers},
        "matrices": " ".join(products),
    }


def open_vulkan(*, now: bool) -> VulkanEngine:
    """Choose the Vulkan device that the environment asks for, and open it now or when it is first used.

    QGA_VERIFY=1 checks every kernel on every call.

    Raises:
        DeviceError: there is no driver, or no device fits.
    """
    from ..runtime import list_devices, settings_from_environment
    from ..runtime.select import choose_device

    is_verified = os.environ.get("QGA_VERIFY", "") not in ("", "0")
    if now:
        device = _open(None)
        return VulkanEngine(device.record, device, is_verified=is_verified)
    settings = settings_from_environment()
    return VulkanEngine(choose_device(list_devices(settings), settings.selector), is_verified=is_verified)


def _open(uuid: str | None) -> VulkanDevice:
    from ..runtime import Device as VulkanDevice

    return VulkanDevice.open(uuid)


def _package() -> str:
    try:
        return f"qga {metadata.version('qga')}"
    except metadata.PackageNotFoundError:
        return "qga, not installed"
