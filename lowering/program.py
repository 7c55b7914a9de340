"""Program: kernels, dispatches and the buffer plan of one compiled computation; it needs no device to exist."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from shaders.kernel import Kernel

Space = Literal["input", "output", "constant", "arena"]


@dataclass(frozen=True, slots=True)
class Region:
    """A range of bytes in one buffer of a program. `index` counts within its space; the arena has index 0 only."""

    space: Space
    index: int
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class ArrayType:
    """dtype and shape of a program's input or output."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Run one kernel: `arguments[i]` is the memory of `kernels[kernel].parameters[i]`.

    `guard` names an i32 flag and the value it must have for the kernel to do anything (kernels built guarded only).
    """

    kernel: int
    arguments: tuple[Region, ...]
    groups: tuple[int, int, int]
    label: str = ""
    where: str = ""
    guard: tuple[Region, int] | None = None


@dataclass(frozen=True, slots=True)
class Barrier:
    """Everything before is finished and visible to everything after."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """Run the body `count` times, with a barrier between rounds; the body keeps its own counter in memory."""

    count: int
    body: tuple[Step, ...]
    label: str = ""


@dataclass(frozen=True, slots=True)
class While:
    """Run `condition`; as long as the i32 at `flag` is 1, run `body` and then `condition` again.

    Every kernel inside is guarded by `flag`, so that rounds recorded in advance do nothing once it is 0; the runtime
    records chunks of rounds and reads the flag between chunks.
    """

    condition: tuple[Step, ...]
    flag: Region
    body: tuple[Step, ...]
    label: str = ""


type_step = Dispatch | Barrier | Repeat | While
Step = type_step


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled computation.

    `constants` are uploaded once. `aliases` holds (input, output): that output takes the memory of a donated input;
    every other output gets memory of its own. `kernels` may be shared by many dispatches.
    """

    name: str
    kernels: tuple[Kernel, ...]
    steps: tuple[Step, ...]
    inputs: tuple[ArrayType, ...]
    outputs: tuple[ArrayType, ...]
    constants: tuple[bytes, ...]
    arena_bytes: int
    aliases: tuple[tuple[int, int], ...] = ()
    liveness_bound_bytes: int = 0
