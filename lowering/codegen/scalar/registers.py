"""Which registers hold an element, and the invariant that they obey.

A register holds exactly the element's value: i8 and i16 sign-extended in i32, u8 and u16 zero-extended in u32, f16 and
bf16 as the f32 of the same value. `settle` restores this after an operation that may leave it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from shaders.functions.narrow import round_to_bf16, round_to_f16
from shaders.library.complex import Complex
from shaders.spirv import Builder, Value

from ... import dtypes

Scalar = Value | Complex

_REGISTER = {
    "i8": "i32",
    "i16": "i32",
    "u8": "u32",
    "u16": "u32",
    "f16": "f32",
    "bf16": "f32",
    "c64": "f32",
    "c128": "f64",
}


class Operand(NamedTuple):
    """A value and the dtype of the element that it stands for."""

    value: Scalar
    dtype: str

    @property
    def real(self) -> Value:
        """The register of an element that is not complex."""
        assert isinstance(self.value, Value), f"{self.dtype} element held as {self.value}"
        return self.value

    @property
    def complex(self) -> Complex:
        """The two registers of a complex element."""
        assert isinstance(self.value, Complex), f"{self.dtype} element held as {self.value}"
        return self.value


def register_dtype(dtype: str) -> str:
    """Return the emitter's dtype of a register that holds an element; of each part, if complex."""
    return _REGISTER.get(dtype, dtype)


def width(dtype: str) -> int:
    """Return the number of bits of an integer dtype."""
    return 8 * dtypes.itemsize(dtype)


def settle(b: Builder, value: Value, dtype: str) -> Value:
    """Wrap or round what an operation gave to the element's dtype."""
    if dtype == "f16":
        return round_to_f16(b, value)
    if dtype == "bf16":
        return round_to_bf16(b, value)
    if dtype in ("i8", "i16"):
        shift = 32 - width(dtype)
        return (value << shift) >> shift
    if dtype in ("u8", "u16"):
        return value & ((1 << width(dtype)) - 1)
    return value


def constant(b: Builder, dtype: str, value: Any) -> Scalar:
    """Return a known element; the number is wrapped or rounded to the dtype as NumPy does."""
    element = np.asarray(value).astype(dtypes.NUMPY[dtype])
    if dtype in dtypes.COMPLEX:
        part, number = register_dtype(dtype), complex(element)
        return Complex(b.const(part, number.real), b.const(part, number.imag))
    if dtype in dtypes.FLOATS:
        return b.const(register_dtype(dtype), float(element))
    return b.const(register_dtype(dtype), bool(element) if dtype == "bool" else int(element))
