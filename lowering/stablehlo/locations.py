"""Source lines: the user's innermost frame of an MLIR location, as "file.py:12 in function"."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import jax
from jax.extend.mlir import ir

_LIBRARY = os.path.dirname(os.path.abspath(jax.__file__)) + os.sep
# This package's own folder: its frames, and what called them, asked for the program and are no part of it.
_OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep

# function name (or ""), file, line
Frame = tuple[str, str, int]

_CLASSES = {"file": "FileLineColLoc", "name": "NameLoc", "callsite": "CallSiteLoc", "fused": "FusedLoc"}


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


def argument_name(location: Any) -> str:
    """Return the name that a function argument's location carries, or ""."""
    return location.name_str if _is(location, "name") else ""


def _where(location: Any) -> str:
    library = ""
    for function, file, line in _frames(location):
        if file.startswith(_OWN):
            break
        text = f"{os.path.basename(file)}:{line}" + (f" in {function}" if function else "")
        if not file.startswith(_LIBRARY):
            return text
        library = library or text
    return library


def _frames(location: Any) -> Iterator[Frame]:
    """Yield the frames, innermost first. A name around a file position is a function, other names are operations."""
    if _is(location, "file"):
        yield "", location.filename, location.start_line
    elif _is(location, "name"):
        child = location.child_loc
        if _is(child, "file"):
            yield location.name_str, child.filename, child.start_line
        else:
            yield from _frames(child)
    elif _is(location, "callsite"):
        yield from _frames(location.callee)
        yield from _frames(location.caller)
    elif _is(location, "fused"):
        for part in location.locations:
            yield from _frames(part)


def _is(location: Any, kind: str) -> bool:
    """Tell the kind of a location: jax 0.10.0 has one class that answers questions, later releases a class for each."""
    question = getattr(location, f"is_a_{kind}", None)
    return question() if question is not None else isinstance(location, getattr(ir, _CLASSES[kind]))
