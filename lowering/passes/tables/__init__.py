"""Tables that thin products make, and that nobody has to store: see `find`."""

from .find import fold_tables

__all__ = ["fold_tables"]
