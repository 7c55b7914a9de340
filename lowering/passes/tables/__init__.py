"""Tables that thin products make, and that nobody has to store: see `find`."""

from .find import DEEPEST, LEAST, fold_tables
from .parts import TILE

__all__ = ["DEEPEST", "LEAST", "TILE", "fold_tables"]
