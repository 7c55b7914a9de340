"""What a program of XLA on the CPU calls: a handler of its foreign function interface that computes on Vulkan.

The handler is a function of Python behind a C pointer. It reads XLA's own buffers and writes its results into XLA's own
buffers. A call names its program by a digest and carries the module with it, so that a compiled program of XLA may be
kept, or moved to another process, without a table that both must know.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from math import prod
from typing import Any

import jax
import numpy as np

from .. import dtypes
from ..api import compile_module
from ..executable import Executable
from ..pjrt.failures import describe
from ..program import ArrayType
from ..runtime import Device

TARGET = "qga_vulkan"
# Programs that stay loaded; one that was dropped is compiled again when it is called.
_LOADED = 256

# --- the parts of xla/ffi/api/c_api.h that are read here, version 0 ---------------------------------------------------

_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_size_t
_HEAD = [("struct_size", _SIZE), ("extension_start", _POINTER)]
_METADATA_EXTENSION, _EXECUTE = 1, 3
_VERSION = 0, 1


def _struct(name: str, *fields: tuple[str, Any]) -> Any:
    return type(name, (ctypes.Structure,), {"_fields_": list(fields)})


_List = _struct("List", *_HEAD, ("size", ctypes.c_int64), ("types", _POINTER), ("items", _POINTER))
_Attributes = _struct(
    "Attributes", *_HEAD, ("size", ctypes.c_int64), ("types", _POINTER), ("names", _POINTER), ("items", _POINTER)
)
_Frame = _struct(
    "Frame", *_HEAD, ("api", _POINTER), ("context", _POINTER), ("stage", ctypes.c_int), ("arguments", _List),
    ("results", _List), ("attributes", _Attributes),
)  # fmt: skip
_Buffer = _struct("Buffer", *_HEAD, ("dtype", ctypes.c_int), ("data", _POINTER))
_Text = _struct("Text", ("data", _POINTER), ("size", _SIZE))
_Array = _struct("Array", ("dtype", ctypes.c_int), ("size", _SIZE), ("data", _POINTER))
_Extension = _struct(
    "Extension", ("struct_size", _SIZE), ("type", ctypes.c_int), ("next", _POINTER), ("what", _POINTER)
)
_Version = _struct("Version", *_HEAD, ("major", ctypes.c_int), ("minor", ctypes.c_int))
_Metadata = _struct("Metadata", ("struct_size", _SIZE), ("version", _Version))
_Api = _struct("Api", *_HEAD, ("version", _Version), ("internal", _POINTER), ("create_error", _POINTER))
_Error = _struct("Error", *_HEAD, ("message", ctypes.c_char_p), ("code", ctypes.c_int))
_FUNCTION = ctypes.CFUNCTYPE(_POINTER, _POINTER)


# --- programs ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Module:
    """A program by its digest.

    Attributes:
        digest: of what `read` returns.
        read: returns a StableHLO module as bytes; called where the program is not loaded.
    """

    digest: str
    read: Callable[[], bytes] = field(compare=False)


@lru_cache(maxsize=_LOADED)
def load(module: Module) -> Executable:
    """Compile a module for this process's device and load it.

    Raises:
        DeviceError: there is no device.
        UnsupportedError: the module needs what the compiler or the device lacks; lists all of it.
    """
    program = compile_module(module.read(), shared_device())
    assert isinstance(program, Executable)
    return program


@cache
def shared_device() -> Device:
    """Open the device of this process, once."""
    return Device.open()


# --- calls ------------------------------------------------------------------------------------------------------------


@cache
def register() -> None:
    """Tell JAX of the handler, which stays until the process ends."""
    jax.ffi.register_ffi_target(TARGET, jax.ffi.pycapsule(_handle), platform="cpu", api_version=1)


@_FUNCTION
def _handle(address: int) -> int | None:
    """Answer a call of XLA: nothing, or an error that it owns."""
    frame = _Frame.from_address(address)
    try:
        if frame.extension_start and _Extension.from_address(frame.extension_start).type == _METADATA_EXTENSION:
            version = _Metadata.from_address(_Extension.from_address(frame.extension_start).what).version
            version.major, version.minor = _VERSION
        elif frame.stage == _EXECUTE:
            _compute(frame)
    except BaseException as error:  # What leaves a function that C called is lost.
        return _error(frame, error)
    return None


def _compute(frame: Any) -> None:
    attributes = _attributes(frame.attributes)
    text, array = _Text.from_address(attributes["digest"]), _Array.from_address(attributes["module"])
    digest = ctypes.string_at(text.data, text.size).decode()
    executable = load(Module(digest, lambda: ctypes.string_at(array.data, array.size)))
    executable.compute(
        _arrays(frame.arguments, executable.input_types), _arrays(frame.results, executable.output_types)
    )


def _attributes(given: Any) -> Mapping[str, int]:
    names, values = (_addresses(each, given.size) for each in (given.names, given.items))
    texts = [_Text.from_address(each) for each in names]
    return {ctypes.string_at(text.data, text.size).decode(): at for text, at in zip(texts, values, strict=True)}


def _arrays(given: Any, kinds: Sequence[ArrayType]) -> list[np.ndarray]:
    """Return XLA's buffers as arrays of the program's types, in their own memory."""
    found = []
    for address, kind in zip(_addresses(given.items, given.size), kinds, strict=True):
        dtype = dtypes.NUMPY[kind.dtype]
        nbytes = prod(kind.shape) * dtype.itemsize
        if nbytes:
            memory = (ctypes.c_char * nbytes).from_address(_Buffer.from_address(address).data)
            found.append(np.frombuffer(memoryview(memory), dtype).reshape(kind.shape))
        else:
            found.append(np.empty(kind.shape, dtype))
    return found


def _addresses(pointer: int | None, count: int) -> list[int]:
    return list((_POINTER * count).from_address(pointer)) if pointer and count else []


def _error(frame: Any, error: BaseException) -> int:
    code, text = describe(error)
    create = _FUNCTION(_Api.from_address(frame.api).create_error)
    arguments = _Error(ctypes.sizeof(_Error), None, text, code)
    return create(ctypes.addressof(arguments))
