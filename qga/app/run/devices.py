"""Which JAX devices a run uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import jax

from ...errors import OptionError, refuse


class Device(Protocol):
    """What a run needs to know of a ``jax.Device``, whose own class has no public name for type checkers."""

    @property
    def device_kind(self) -> str:
        """The name of the hardware."""
        ...


@dataclass(frozen=True)
class Devices:
    """The devices of a run by backend name, and why Vulkan is not among them if it was wished for."""

    by_name: dict[str, Device]
    missing: str = ""


def find_devices(backend: str) -> Devices:
    """Look up the devices for ``cpu``, ``vulkan`` or ``both``.

    Raises:
        OptionError: Vulkan was asked for by name and there is none, or the CPU platform is switched off.
    """
    _keep_cpu()
    cpu = _first("cpu")
    vulkan, missing = (None, "") if backend == "cpu" else _try_vulkan()
    if backend == "vulkan" and vulkan is None:
        refuse(
            OptionError,
            "run: --backend vulkan needs a Vulkan device.",
            got=missing,
            want="jax.devices('vulkan') with at least one device",
            fix="run `qga devices` to see what is missing, or use --backend cpu.",
        )
    found = {"cpu": cpu} if backend != "vulkan" else {}
    if vulkan is not None:
        found["vulkan"] = vulkan
    return Devices(found, missing)


def _try_vulkan() -> tuple[Device | None, str]:
    try:
        return _first("vulkan"), ""
    except RuntimeError as error:
        # JAX answers with several lines when a platform fails; the first one says why.
        return None, str(error).strip().splitlines()[0]


def _first(platform: str) -> Device:
    return jax.devices(platform)[0]


def _keep_cpu() -> None:
    """Add the CPU to a JAX_PLATFORMS that leaves it out: parameters are drawn and heads analysed there."""
    platforms = getattr(jax.config, "jax_platforms", None)
    if platforms and "cpu" not in platforms.split(","):
        jax.config.update("jax_platforms", f"{platforms},cpu")
