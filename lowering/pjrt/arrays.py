"""Buffers: arrays on the device, their way in from host memory and back out."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from ..errors import DeviceMemoryError, InputError, UnsupportedError, message
from . import _native as native
from . import spec
from .client import ArrayKind, Client
from .codes import LayoutKind
from .engine import Buffer
from .failures import describe

Result = TypeVar("Result")

# Which answer of a buffer's handle says that it was deleted.
DELETED = 6
# Finished arrays up to this size are copied within the call: handing them to another thread costs more.
INLINE_BYTES = 1 << 20

_LAYOUT = tuple((field.offset, field.code) for field in spec.fields(spec.STRUCTURES["Buffer_MemoryLayout"]))
_STRIDES = tuple((field.offset, field.code) for field in spec.fields(spec.STRUCTURES["Buffer_MemoryLayout_Strides"]))


class DeviceArray:
    """A buffer as jaxlib sees it: memory on the device, or None once it was deleted or donated.

    The memory is freed when nobody holds it any more, neither an array nor a running transfer. `readers` counts the
    transfers that still read it.
    """

    __slots__ = ("buffer", "client", "handle", "kind", "readers")

    def __init__(self, client: Client, kind: ArrayKind, buffer: Buffer) -> None:
        self.client = client
        self.kind = kind
        self.buffer: Buffer | None = buffer
        self.readers = 0
        self.handle = native.new_handle(self, kind.answers)

    def live_buffer(self) -> Buffer:
        """Return the device buffer.

        Raises:
            InputError: the array was deleted or donated.
        """
        if self.buffer is None:
            raise InputError(
                message(
                    "platform vulkan: an array must be alive to be used.",
                    got=f"{self.kind.text} that was deleted or donated",
                    want="an array that no call took by donation",
                    fix="keep a copy of the array, or do not list it in donate_argnums.",
                )
            )
        return self.buffer

    def mark_deleted(self) -> None:
        """Drop the memory and say so to jaxlib."""
        self.buffer = None
        native.set_answer(self.handle, DELETED, 1)


def with_room(action: Callable[[], Result]) -> Result:
    """Do what allocates device memory; if there is none left, free what only cyclic garbage holds and try once more."""
    try:
        return action()
    except DeviceMemoryError:
        gc.collect()
        native.collect()
        return action()


def from_host(
    client: Client,
    data: int,
    type: int,
    dims: int,
    num_dims: int,
    byte_strides: int,
    num_byte_strides: int,
    device_layout: int,
) -> tuple[int, int]:
    """Copy a host array to the device; return the event after which the host memory is free again, and the buffer.

    The upload has read the host memory when it returns, which satisfies every promise jaxlib may ask for.
    """
    shape = _integers(dims, num_dims)
    kind = client.kind_of(type, shape)
    if device_layout:
        _require_row_major(device_layout, kind)
    strides = _integers(byte_strides, num_byte_strides) if byte_strides else None
    source = _host_array(data, kind, strides, writable=False)
    buffer = with_room(lambda: client.device.allocate(kind.nbytes))
    client.device.upload(buffer, source)
    return native.READY, DeviceArray(client, kind, buffer).handle


def to_host(src: DeviceArray, host_layout: int, dst: int) -> tuple[int, int | None]:
    """Copy a buffer to host memory; return its size and the event of the copy. No `dst` asks for the size alone."""
    kind = src.kind
    if not dst:
        return kind.nbytes, None
    if kind.nbytes == 0:
        src.live_buffer()
        return 0, native.READY
    strides = _host_strides(host_layout, kind)
    target = _host_array(dst, kind, strides, writable=True)
    return kind.nbytes, _copy_out(src, lambda buffer: src.client.device.download(buffer, target))


def to_host_raw(buffer: DeviceArray, dst: int, offset: int, transfer_size: int) -> int:
    """Copy a range of a buffer's bytes to host memory; return the event of the copy."""
    if not transfer_size:
        return native.READY
    target = np.frombuffer(native.view(dst, transfer_size, True), np.uint8)

    def copy_range(device_buffer: Buffer) -> None:
        whole = np.empty(buffer.kind.nbytes, np.uint8)
        buffer.client.device.download(device_buffer, whole)
        target[...] = whole[offset : offset + transfer_size]

    return _copy_out(buffer, copy_range)


def copy_to_device(buffer: DeviceArray) -> int:
    """Return a new buffer with the same contents on the only device there is."""
    client, kind = buffer.client, buffer.kind
    host = np.empty(kind.nbytes, np.uint8)
    client.device.download(buffer.live_buffer(), host)
    target = with_room(lambda: client.device.allocate(kind.nbytes))
    client.device.upload(target, host)
    return DeviceArray(client, kind, target).handle


def delete(buffer: DeviceArray) -> None:
    """Free the memory as soon as no transfer reads it."""
    if buffer.buffer is not None:
        buffer.mark_deleted()


def ready_event(buffer: DeviceArray) -> int:
    """Return an event that completes when the contents are there."""
    return buffer.client.event_at(buffer.live_buffer().ready)


def device_address(buffer: DeviceArray) -> int:
    """Return the device address of the first byte."""
    return buffer.live_buffer().address


def layout(buffer: DeviceArray) -> tuple[int, ...]:
    """Describe the row-major layout that every buffer has (PJRT_Buffer_MemoryLayout, tiled, without tiles)."""
    return (80, 0, 56, 0, *buffer.kind.minor_to_major.pair, 0, 0, 0, int(LayoutKind.TILED))


def _copy_out(array: DeviceArray, job: Callable[[Buffer], None]) -> int:
    """Run a copying job now if that is quick, else on the transfer thread; return its event."""
    client, buffer = array.client, array.live_buffer()
    if array.kind.nbytes <= INLINE_BYTES and client.device.is_done(buffer.ready):
        job(buffer)
        return native.READY
    event = native.new_event()
    array.readers += 1

    def transfer() -> None:
        code, text = 0, b""
        try:
            job(buffer)
        except BaseException as error:
            code, text = describe(error)
        array.readers -= 1
        native.complete_event(event, code, text)

    client.in_background(transfer)
    return event


def _integers(address: int, count: int) -> tuple[int, ...]:
    return tuple(native.view(address, 8 * count, False).cast("q")) if count else ()


def _host_array(address: int, kind: ArrayKind, strides: tuple[int, ...] | None, *, writable: bool) -> np.ndarray:
    """View host memory as an array; strides may be negative or zero, `address` is that of element zero."""
    if kind.nbytes == 0:
        return np.empty(kind.shape, kind.dtype)
    if strides is None:
        return np.frombuffer(native.view(address, kind.nbytes, writable), kind.dtype).reshape(kind.shape)
    reach = [stride * (extent - 1) for stride, extent in zip(strides, kind.shape, strict=True)]
    before = -sum(step for step in reach if step < 0)
    after = sum(step for step in reach if step > 0) + kind.dtype.itemsize
    memory = native.view(address - before, before + after, writable)
    return np.ndarray(kind.shape, kind.dtype, memory, before, strides)


def _host_strides(host_layout: int, kind: ArrayKind) -> tuple[int, ...] | None:
    """Read the strides in bytes of a host layout, None when it is row-major."""
    if not host_layout or not kind.shape:
        return None
    *_, order, rank, _, _, tiles, layout_kind = native.fields(host_layout, _LAYOUT)
    if layout_kind == LayoutKind.STRIDES:
        *_, strides, count = native.fields(host_layout, _STRIDES)
        return _integers(strides, count)
    minor_to_major = _integers(order, rank)
    if tiles:
        raise _layout_error(kind, f"a tiled host layout, minor to major {minor_to_major}")
    if minor_to_major == tuple(reversed(range(rank))):
        return None
    result = [0] * rank
    step = kind.dtype.itemsize
    for axis in minor_to_major:
        result[axis] = step
        step *= kind.shape[axis]
    return tuple(result)


def _require_row_major(device_layout: int, kind: ArrayKind) -> None:
    if _host_strides(device_layout, kind) is not None:
        raise _layout_error(kind, "another layout on the device")


def _layout_error(kind: ArrayKind, got: str) -> UnsupportedError:
    return UnsupportedError(
        message(
            "platform vulkan: arrays are dense and row-major.",
            got=f"{got}, for {kind.text}",
            want="the default layout",
            fix="transpose the array instead of giving it a layout.",
        )
    )
