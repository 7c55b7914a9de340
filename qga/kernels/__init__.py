"""Tile kernels: one source for the CPU and for Vulkan. The functions people call stand on top of them."""

from .call import Block, Kernel, TileRef, call_pallas, execute, launch

__all__ = ["Block", "Kernel", "TileRef", "call_pallas", "execute", "launch"]
