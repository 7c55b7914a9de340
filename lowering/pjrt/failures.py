"""Turn Python exceptions into what jaxlib understands: a status code and a text."""

from __future__ import annotations

import logging
import traceback

from ..errors import DeviceMemoryError, InputError, QgaError, UnsupportedError, message
from .codes import ErrorCode

logger = logging.getLogger(__name__)

# The first row that fits decides.
_CODES: tuple[tuple[type[BaseException], ErrorCode], ...] = (
    (UnsupportedError, ErrorCode.UNIMPLEMENTED),
    (InputError, ErrorCode.INVALID_ARGUMENT),
    (DeviceMemoryError, ErrorCode.RESOURCE_EXHAUSTED),
    (MemoryError, ErrorCode.RESOURCE_EXHAUSTED),
    (KeyboardInterrupt, ErrorCode.CANCELLED),
    (BaseException, ErrorCode.INTERNAL),
)


def describe(error: BaseException) -> tuple[int, bytes]:
    """Return the status code and the text (UTF-8) of an exception that left the plugin.

    Our own errors keep their text; anything else is a defect of ours and gets the place it came from. The whole
    traceback goes to the log at level DEBUG.
    """
    code = next(code for kind, code in _CODES if isinstance(error, kind))
    logger.debug("the platform vulkan answers %s", code.name, exc_info=error)
    text = str(error) if isinstance(error, QgaError) else _unexpected(error)
    return int(code), text.encode("utf-8", "replace")


def _unexpected(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    frames = traceback.extract_tb(error.__traceback__)
    at = f"{frames[-1].filename}:{frames[-1].lineno} ({frames[-1].name})" if frames else ""
    return message(
        "platform vulkan: an exception that nobody expected ended this call.",
        got=f"{type(error).__name__}: {error}",
        want="a result, or one of this package's own errors",
        fix="report this defect with the program; logging.getLogger('lowering').setLevel('DEBUG') shows the traceback.",
        at=at,
    )
