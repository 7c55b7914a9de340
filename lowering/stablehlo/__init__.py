"""Importer: a StableHLO module becomes a Graph."""

from .module import import_module

__all__ = ["import_module"]
