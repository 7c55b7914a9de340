"""What the plugin needs from a device and a compiler, and the real ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from lowering.program import ArrayType


class Buffer(Protocol):
    """Memory of the device, freed when the object is dropped. `ready` is the timeline value of its contents."""

    @property
    def address(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def ready(self) -> int: ...


class Device(Protocol):
    """A device with its memory and its timeline; every method may be called from any thread.

    `upload` has read its source when it returns. `when_done` calls back with None, or with the error of a lost device.
    """

    @property
    def name(self) -> str: ...
    def allocate(self, nbytes: int) -> Any: ...
    def upload(self, buffer: Any, source: np.ndarray) -> None: ...
    def download(self, buffer: Any, target: np.ndarray) -> None: ...
    def is_done(self, value: int) -> bool: ...
    def when_done(self, value: int, callback: Callable[[Any], None]) -> None: ...
    def wait(self, value: int) -> None: ...
    def statistics(self) -> Mapping[str, int]: ...
    def close(self) -> None: ...


class Executable(Protocol):
    """A compiled computation, loaded on its device."""

    @property
    def name(self) -> str: ...
    @property
    def input_types(self) -> Sequence[ArrayType]: ...
    @property
    def output_types(self) -> Sequence[ArrayType]: ...
    @property
    def aliases(self) -> Sequence[tuple[int, int]]: ...
    def run(self, buffers: Sequence[Any], donate: frozenset[int]) -> Sequence[Any]: ...
    def cost(self) -> Mapping[str, float]: ...


@dataclass(frozen=True, slots=True)
class Engine:
    """A device and the compiler for it. `version` names driver and compiler, for caches and for people."""

    device: Device
    compile: Callable[[bytes], Executable]
    version: str


def open_vulkan() -> Engine:
    """Open the Vulkan device that the environment chooses, and join it with the compiler.

    Raises:
        DeviceError: there is no driver, no device fits, or the device lacks a feature that is needed.
    """
    from lowering.api import compile_module
    from lowering.runtime import Device as VulkanDevice

    device = VulkanDevice.open()
    return Engine(device, lambda module: compile_module(module, device), version=f"vulkan: {device.name}")
