"""Tell JAX of the platform, and load what a client needs when JAX makes one."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from ..errors import DeviceError, message

if TYPE_CHECKING:
    from .engine import Engine
    from .platform import Platform

NAME = "vulkan"
# Below the CPU's 0: arrays go to the CPU unless JAX_PLATFORMS or a device says otherwise.
PRIORITY = -100


def initialize() -> None:
    """Register the platform `vulkan` with JAX. A second call changes nothing."""
    from .. import compat

    def open_engine() -> Engine:
        from .engine import open_vulkan

        return open_vulkan(now=NAME in compat.requested_platforms())

    register(open_engine)


def register(open_engine: Callable[[], Engine]) -> None:
    """Register the platform `vulkan` on an engine that is opened when JAX makes its client; the first call wins."""
    from .. import compat

    made: list[Platform] = []

    def factory() -> object:
        platform_class = _load()
        if not made:
            made.append(platform_class(NAME, open_engine))
        return made[0].make_client()

    if compat.register_platform(NAME, factory, PRIORITY):
        compat.allow_donation(NAME)
        compat.leave_refusals_to_the_importer(NAME)
        compat.register_pallas(NAME, _write_pallas)


def _write_pallas(context: object, *operands: object, **parameters: object) -> object:
    """Write a `pallas_call`; what that takes is imported with the first of them."""
    return import_module("lowering.pallas").write(NAME, context, *operands, **parameters)


def _load() -> type[Platform]:
    """Import everything a client needs.

    Raises:
        DeviceError: the native part was not compiled.
    """
    try:
        import_module("lowering.pjrt._native")
    except ImportError as error:
        raise DeviceError(
            message(
                "platform vulkan: the native part of the plugin must be there.",
                got=f"lowering.pjrt._native cannot be imported ({error})",
                want="the extension that is compiled from lowering/pjrt/native.c at installation",
                fix="install a C compiler and Python's headers, then install this package again (pip install "
                "--force-reinstall --no-deps qga); lowering.lower works without it.",
            )
        ) from error
    from .platform import Platform

    return Platform
