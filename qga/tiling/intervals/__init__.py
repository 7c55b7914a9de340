"""Intervals: what a traced function returns while its arguments range over them, what that says of tiles and errors."""

from .enclose import enclose, unbounded_primitives
from .follow import Followed, follow
from .tile import TileBounds, tile_bounds

__all__ = ["Followed", "TileBounds", "enclose", "follow", "tile_bounds", "unbounded_primitives"]
