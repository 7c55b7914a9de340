"""Pallas kernels on the platform `vulkan`: from a `pallas_call` to a custom call that the importer reads."""

from .cell import Cell, make_cell
from .params import CompilerParams
from .rule import write

__all__ = ["Cell", "CompilerParams", "make_cell", "write"]
