"""Programs for Vulkan inside programs for the CPU."""

from .embed import embed

__all__ = ["embed"]
