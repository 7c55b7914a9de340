"""Source lines: the user's innermost frame of an MLIR location, as "file.py:12 in function"."""

from __future__ import annotations

import os
from collections.abc import Iterator

import jax
from jax.extend.mlir import ir

_LIBRARY = os.path.dirname(os.path.abspath(jax.__file__)) + os.sep

# function name (or ""), file, line
Frame = tuple[str, str, int]


class LocationReader:
    """Decode each distinct MLIR location once; locations are compared by their attribute, which MLIR makes unique."""

    def __init__(self) -> None:
        self._known: dict[ir.Attribute, str] = {}

    def read(self, location: ir.Location) -> str:
        """Return the source line of the user's innermost frame, or "" where the location names no file."""
        key = location.attr
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = _where(location)
        return found


def argument_name(location: ir.Location) -> str:
    """Return the name that a function argument's location carries, or ""."""
    return location.name_str if isinstance(location, ir.NameLoc) else ""


def _where(location: ir.Location) -> str:
    library = ""
    for function, file, line in _frames(location):
        text = f"{os.path.basename(file)}:{line}" + (f" in {function}" if function else "")
        if not file.startswith(_LIBRARY):
            return text
        library = library or text
    return library


def _frames(location: ir.Location) -> Iterator[Frame]:
    """Yield the frames, innermost first. A name around a file position is a function, other names are operations."""
    if isinstance(location, ir.FileLineColLoc):
        yield "", location.filename, location.start_line
    elif isinstance(location, ir.NameLoc):
        child = location.child_loc
        if isinstance(child, ir.FileLineColLoc):
            yield location.name_str, child.filename, child.start_line
        else:
            yield from _frames(child)
    elif isinstance(location, ir.CallSiteLoc):
        yield from _frames(location.callee)
        yield from _frames(location.caller)
    elif isinstance(location, ir.FusedLoc):
        for part in location.locations:
            assert isinstance(part, ir.Location)
            yield from _frames(part)
