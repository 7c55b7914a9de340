"""Steps over storages whose place in memory is not decided yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Space = Literal["input", "output", "constant", "arena"]


@dataclass(eq=False, slots=True)
class Storage:
    """A piece of memory. `first` and `last` are the levels that use it, set once all steps are known."""

    space: Space
    index: int
    nbytes: int
    first: int = -1
    last: int = -1
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Guard:
    """Do the work only if the i32 in `flag` is `expected`."""

    flag: Storage
    expected: int


@dataclass(slots=True)
class Launch:
    """One dispatch."""

    kernel: int
    arguments: tuple[Storage, ...]
    groups: int
    label: str
    where: str
    guard: Guard | None


@dataclass(slots=True)
class Level:
    """Steps with no order among them."""

    steps: list[Launch | Rounds | Loop] = field(default_factory=list)


@dataclass(slots=True)
class Rounds:
    """A body that runs a known number of times. `carried` must keep their memory from before it until after it."""

    count: int
    body: list[Level]
    carried: tuple[Storage, ...]
    label: str


@dataclass(slots=True)
class Loop:
    """A body that runs while a flag is one."""

    condition: list[Level]
    flag: Storage
    body: list[Level]
    carried: tuple[Storage, ...]
    label: str
