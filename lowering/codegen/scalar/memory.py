"""Move elements between buffers and registers."""

from __future__ import annotations

from shaders.library.complex import Complex
from shaders.spirv import Buffer, Builder, Shared, Value

from ... import dtypes
from .registers import Scalar

Index = Value | int


def load(b: Builder, buffer: Buffer | Shared, index: Index, dtype: str) -> Scalar:
    """Read element `index`; a complex one lies at 2 index and 2 index + 1 of a buffer of its part's dtype."""
    if dtype in dtypes.COMPLEX:
        first = index * 2
        return Complex(buffer[first], buffer[first + 1])
    value = buffer[index]
    return b.convert(value, "f32") if dtype == "f16" else value


def store(b: Builder, buffer: Buffer | Shared, index: Index, value: Scalar, dtype: str) -> None:
    """Write element `index`; see `load`."""
    del b
    if isinstance(value, Complex):
        first = index * 2
        buffer[first] = value.re
        buffer[first + 1] = value.im
        return
    # An f16 value is exact in its f32 register, so that the conversion in the store rounds nothing.
    del dtype
    buffer[index] = value
