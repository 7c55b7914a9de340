"""Every operation a Graph may hold: one row each."""

from .table import TABLE, Family, Operation, check, is_elementwise, verify_types

__all__ = ["TABLE", "Family", "Operation", "check", "is_elementwise", "verify_types"]
