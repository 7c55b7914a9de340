"""Move bytes between the host and device memory: in place where the host sees it, else through staging blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import InputError, message
from .blocks import Block
from .commands import record_copy
from .context import Context
from .loader import interface
from .memory import Buffer, raise_freed
from .queues import Queue
from .staging import LARGE_BYTES, Staging

PIECE_BYTES = LARGE_BYTES
# Below this, cffi's memmove beats making a NumPy view; above, NumPy's copy lets other threads run.
SMALL_BYTES = 1 << 16


class Transfers:
    """Uploads, downloads and copies of one device."""

    def __init__(self, context: Context, queue: Queue) -> None:
        self._context = context
        self._queue = queue
        self._up = Staging(context, queue, context.plan.upload_type)
        self._down = Staging(context, queue, context.plan.download_type)

    def upload(self, buffer: Buffer, source: np.ndarray | memoryview | bytes) -> None:
        """Copy host data into a buffer. The source may be changed as soon as this returns.

        Raises:
            InputError: the sizes differ or the buffer was freed.
        """
        array = _as_array(source)
        _check_size("upload", buffer, array.nbytes)
        if not array.nbytes:
            return
        if buffer.host and self._queue.is_done(max(buffer.quiet, buffer.last_use)):
            copy_to_address(buffer.host, array)
            return
        flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        for start, size in _pieces(flat.nbytes):
            self._upload_piece(buffer, start, flat[start : start + size])

    def download(self, buffer: Buffer, target: np.ndarray) -> None:
        """Wait until a buffer is ready and copy it into a host array.

        Raises:
            InputError: the sizes differ, the target is read-only or the buffer was freed.
        """
        _check_size("download", buffer, target.nbytes)
        if not target.nbytes:
            return
        self._queue.wait(buffer.ready)
        if buffer.host:
            copy_from_address(buffer.host, target)
            return
        if target.flags.c_contiguous:
            self._download_staged(buffer, 0, target.reshape(-1).view(np.uint8))
            return
        flat = np.empty(target.nbytes, np.uint8)
        self._download_staged(buffer, 0, flat)
        np.copyto(target, flat.view(target.dtype).reshape(target.shape))

    def read_word(self, buffer: Buffer, offset: int, tick: int) -> int:
        """Return the i32 at a byte offset of a buffer after a tick."""
        word = np.empty(1, np.int32)
        self._queue.wait(tick)
        if buffer.host:
            copy_from_address(buffer.host + offset, word)
        else:
            self._download_staged(buffer, offset, word.view(np.uint8))
        return int(word[0])

    def copy_locked(self, source: Buffer, target: Buffer, nbytes: int) -> int:
        """Copy one buffer into another on the device and return the tick."""
        functions = self._context.functions
        with self._queue.transient_locked() as commands:
            position = 0
            while position < nbytes:
                source_window, source_at, source_left = source.block.window(source.offset + position)
                target_window, target_at, target_left = target.block.window(target.offset + position)
                size = min(nbytes - position, source_left, target_left)
                record_copy(functions, commands, source_window, target_window, [(source_at, target_at, size)])
                position += size
            tick = self._queue.finish_locked(commands, "copy")
        source.last_use = target.last_use = target.ready = tick
        return tick

    def close(self) -> None:
        """Destroy the staging blocks; the device must be idle."""
        self._up.close()
        self._down.close()

    def _upload_piece(self, buffer: Buffer, start: int, piece: np.ndarray) -> None:
        with self._context.lock:
            block = self._up.take_locked(piece.nbytes)
            copy_to_address(block.host, piece)
            with self._queue.transient_locked() as commands:
                for at, window, offset, size in _windows(buffer, start, piece.nbytes):
                    ranges = [(at, offset, size)]
                    record_copy(self._context.functions, commands, block.windows[0][0], window, ranges)
                tick = self._queue.finish_locked(commands, "upload")
            self._up.give_locked(block, tick)
            buffer.ready = buffer.last_use = tick

    def _download_staged(self, buffer: Buffer, offset: int, flat: np.ndarray) -> None:
        """Copy through staging blocks, the device filling one piece while the host empties the one before."""
        pending: tuple[Block, int, np.ndarray] | None = None
        for start, size in _pieces(flat.nbytes):
            following = self._request_piece(buffer, offset + start, flat[start : start + size])
            if pending is not None:
                self._finish_piece(pending)
            pending = following
        if pending is not None:
            self._finish_piece(pending)

    def _request_piece(self, buffer: Buffer, offset: int, target: np.ndarray) -> tuple[Block, int, np.ndarray]:
        with self._context.lock:
            block = self._down.take_locked(target.nbytes)
            with self._queue.transient_locked() as commands:
                for at, window, inside, size in _windows(buffer, offset, target.nbytes):
                    record_copy(self._context.functions, commands, window, block.windows[0][0], [(inside, at, size)])
                tick = self._queue.finish_locked(commands, "download")
            buffer.last_use = tick
        return block, tick, target

    def _finish_piece(self, pending: tuple[Block, int, np.ndarray]) -> None:
        block, tick, target = pending
        self._queue.wait(tick)
        copy_from_address(block.host, target)
        with self._context.lock:
            self._down.give_locked(block, tick)


def copy_to_address(address: int, source: np.ndarray) -> None:
    """Copy an array's elements, in row-major order, to host memory."""
    ffi = interface()
    pointer = ffi.cast("uint8_t*", address)
    if source.nbytes <= SMALL_BYTES and source.flags.c_contiguous:
        ffi.memmove(pointer, source.reshape(-1).view(np.uint8).data, source.nbytes)
        return
    view = np.frombuffer(ffi.buffer(pointer, source.nbytes), np.uint8)
    np.copyto(view.view(source.dtype).reshape(source.shape), source)


def copy_from_address(address: int, target: np.ndarray) -> None:
    """Fill an array, in row-major order, from host memory."""
    ffi = interface()
    view = np.frombuffer(ffi.buffer(ffi.cast("uint8_t*", address), target.nbytes), np.uint8)
    np.copyto(target, view.view(target.dtype).reshape(target.shape))


def _as_array(source: np.ndarray | memoryview | bytes) -> np.ndarray:
    return source if isinstance(source, np.ndarray) else np.frombuffer(source, np.uint8)


def _pieces(nbytes: int) -> Iterator[tuple[int, int]]:
    for start in range(0, nbytes, PIECE_BYTES):
        yield start, min(PIECE_BYTES, nbytes - start)


def _windows(buffer: Buffer, start: int, nbytes: int) -> Iterator[tuple[int, Any, int, int]]:
    """Yield (bytes done, VkBuffer, offset inside it, bytes) that cover a range of a buffer."""
    done = 0
    while done < nbytes:
        window, offset, left = buffer.block.window(buffer.offset + start + done)
        size = min(nbytes - done, left)
        yield done, window, offset, size
        done += size


def _check_size(name: str, buffer: Buffer, nbytes: int) -> None:
    if not buffer.is_alive:
        raise_freed()
    if nbytes != buffer.nbytes:
        raise InputError(
            message(
                f"{name}: host and device must have the same number of bytes.",
                got=f"{nbytes} bytes on the host, {buffer.nbytes} on the device",
                want="equal sizes",
                fix="allocate the buffer with the array's nbytes.",
            )
        )
