"""A kernel: SPIR-V words and everything a caller must know to run them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .errors import ShaderError

DTYPES = ("bool", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "f16", "bf16", "f32", "f64")
"""Element types of a buffer; bool takes one byte, bf16 the upper half of an f32."""

Access = Literal["r", "w", "rw"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A buffer of a kernel: one u64 address in the dispatch's slice of the address table.

    Args:
        name: what the kernel's code calls the buffer.
        dtype: element type in memory, one of `DTYPES`.
        access: whether the kernel reads ("r"), writes ("w") or does both ("rw").
    """

    name: str
    dtype: str
    access: Access

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ShaderError(
                f"Parameter: {self.name} must have a known element type.",
                got=repr(self.dtype),
                want=", ".join(DTYPES),
                fix="name one of these types.",
            )
        if self.access not in ("r", "w", "rw"):
            raise ShaderError(
                f"Parameter: {self.name} must say how it is used.",
                got=repr(self.access),
                want="r, w or rw",
                fix="pass what the kernel does with the buffer.",
            )


@dataclass(frozen=True, slots=True)
class Kernel:
    """One compute entry point, whose name is `name`.

    The push constants are u64 table address (byte 0), u32 expected guard (8), u32 first workgroup (12). The table slice
    holds one u64 address a parameter, in order; a guarded kernel's slice starts with the address of an i32 flag, and
    the kernel does nothing unless the flag has the expected value.

    Args:
        words: the SPIR-V module, little-endian 32-bit words.
        workgroup: invocations along x, y and z.
        subgroup_size: the size the pipeline must require, or None for any.
        guarded: whether the first table entry is a guard flag.
        shared_bytes: workgroup memory; at most, each variable rounded up to 16 bytes.
        specialization: (constant id, 32-bit value) pairs to set when the pipeline is created.
    """

    name: str
    words: bytes
    workgroup: tuple[int, int, int]
    parameters: tuple[Parameter, ...]
    subgroup_size: int | None
    guarded: bool
    shared_bytes: int
    specialization: tuple[tuple[int, int], ...] = ()

    def text(self) -> str:
        """Return the module as readable assembly."""
        from .spirv.text import disassemble  # the text form is wanted rarely; the emitter imports this file

        return disassemble(self.words)
