"""The platform `vulkan` of JAX: a PJRT plugin over the compiler and the runtime of this package.

JAX finds it through the entry point group `jax_plugins` and calls `initialize()`. Nothing heavy is imported before JAX
creates its clients, and no device is opened before something is put on it, unless JAX_PLATFORMS names the platform.
"""

from .registration import initialize, register

__all__ = ["initialize", "register"]
