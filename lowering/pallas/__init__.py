"""Pallas kernels on the platform `vulkan`: from a `pallas_call` to a custom call that the importer reads."""

from .cell import Cell, make_cell
from .rule import register

__all__ = ["Cell", "make_cell", "register"]
