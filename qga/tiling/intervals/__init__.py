"""Intervals: what a traced function returns while its arguments range over intervals, and what that says of a tile."""

from .enclose import enclose, unbounded_primitives
from .tile import TileBounds, tile_bounds

__all__ = ["TileBounds", "enclose", "tile_bounds", "unbounded_primitives"]
