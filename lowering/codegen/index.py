"""Where an expression is evaluated: a position in an array, known by its dimensions, its linear place, or both."""

from __future__ import annotations

from dataclasses import dataclass

from shaders.spirv import Value


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """A position in an array of `shape`. What is not given is computed when asked for, by `Positions`.

    `dims`: one u32 value for each dimension. `linear`: the row-major element number. `like`: another index with the
    same linear place (a reshape). Identity (not equality) tells positions apart.
    """

    shape: tuple[int, ...]
    dims: tuple[Value, ...] | None = None
    linear: Value | None = None
    like: Index | None = None


SCALAR = Index((), dims=())


def size_of(shape: tuple[int, ...]) -> int:
    """Return the number of elements."""
    result = 1
    for extent in shape:
        result *= extent
    return result
