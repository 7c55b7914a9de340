"""Everything this package needs from the private parts of JAX: the only file that imports `jax._src`.

Each import is guarded and has a flag; `tests/lowering/test_compat.py` has a test for each. What is missing in a release
of JAX fails where it is used, with its name.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.extend.backend

from .errors import DeviceError, message


def _private(name: str) -> Any:
    """Import a module of `jax._src`, None where this release of JAX has none of that name."""
    try:
        return importlib.import_module(f"jax._src.{name}")
    except ImportError:
        return None


_xla_bridge: Any = _private("xla_bridge")
_mlir: Any = _private("interpreters.mlir")
_xla_client: Any = getattr(_private("lib"), "xla_client", None)

# The tables of JAX that say which platforms exist and which take donated arguments.
HAS_PLATFORM_TABLE = isinstance(getattr(_xla_bridge, "_backend_factories", None), dict)
HAS_DONATION_LIST = isinstance(getattr(_mlir, "_platforms_with_donation", None), list)
# Loading a plugin's table from memory and making a client of it.
HAS_PLUGIN_LOADER = hasattr(_xla_client, "load_pjrt_plugin_with_c_api")
HAS_CLIENT_MAKER = hasattr(_xla_bridge, "make_pjrt_c_api_client")


def kept_arguments(lowered: Any, count: int) -> tuple[int, ...]:
    """Return the positions of the `count` flat arguments that a lowered function kept: JAX drops what nobody reads."""
    kept = getattr(getattr(lowered, "_lowering", None), "compile_args", {}).get("kept_var_idx")
    return tuple(range(count)) if kept is None else tuple(sorted(kept))


def register_platform(name: str, factory: Callable[[], Any], priority: int) -> bool:
    """Tell JAX how to make the client of a platform; return False if the platform is registered already.

    A factory that raises makes the platform absent: quietly, unless JAX_PLATFORMS or `jax.devices(name)` asks for it.
    """
    if HAS_PLATFORM_TABLE and name in _xla_bridge._backend_factories:
        return False
    jax.extend.backend.register_backend_factory(name, factory, priority=priority, fail_quietly=True)
    return True


def requested_platforms() -> tuple[str, ...]:
    """Return the platforms that JAX_PLATFORMS names, none if it is not set."""
    return tuple(name.strip() for name in (getattr(jax.config, "jax_platforms", None) or "").split(",") if name.strip())


def load_plugin(name: str, capsule: object) -> None:
    """Load a PJRT table from a capsule named `pjrt_c_api`."""
    _require(HAS_PLUGIN_LOADER, "xla_client.load_pjrt_plugin_with_c_api")
    _xla_client.load_pjrt_plugin_with_c_api(name, capsule)


def make_client(name: str) -> Any:
    """Make the client of a loaded plugin."""
    _require(HAS_CLIENT_MAKER, "xla_bridge.make_pjrt_c_api_client")
    return _xla_bridge.make_pjrt_c_api_client(name)


def allow_donation(name: str) -> bool:
    """Let jitted functions donate arguments on a platform; return False where JAX has no such list any more."""
    if not HAS_DONATION_LIST:
        return False
    if name not in _mlir._platforms_with_donation:
        _mlir._platforms_with_donation.append(name)
    return True


def _require(present: bool, what: str) -> None:
    if present:
        return
    raise DeviceError(
        message(
            "platform vulkan: this release of JAX must offer what a plugin needs.",
            got=f"jax {jax.__version__} without jax._src {what}",
            want="jax >= 0.10, < 0.13",
            fix="install a release of JAX in that range.",
        )
    )
