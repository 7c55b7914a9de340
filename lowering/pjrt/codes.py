"""Numbers of the PJRT C API: element types, error codes, kinds of layouts and of named values."""

from __future__ import annotations

from enum import IntEnum


class ErrorCode(IntEnum):
    """Status codes of the framework that we use."""

    CANCELLED = 1
    INVALID_ARGUMENT = 3
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13


class LayoutKind(IntEnum):
    """How a memory layout is described."""

    TILED = 0
    STRIDES = 1


class ValueKind(IntEnum):
    """What a named value holds."""

    STRING = 0
    INT = 1
    INT_LIST = 2
    FLOAT = 3


# PJRT_Buffer_Type of each dtype of the compiler.
ELEMENT_TYPES = {
    "bool": 1,
    "i8": 2,
    "i16": 3,
    "i32": 4,
    "i64": 5,
    "u8": 6,
    "u16": 7,
    "u32": 8,
    "u64": 9,
    "f16": 10,
    "f32": 11,
    "f64": 12,
    "bf16": 13,
    "c64": 14,
    "c128": 15,
}
DTYPES = {number: name for name, number in ELEMENT_TYPES.items()}

# Names of the element types that exist in the framework and not here, for messages.
FOREIGN_ELEMENT_TYPES = {
    16: "f8E5M2",
    17: "f8E4M3FN",
    18: "f8E4M3B11FNUZ",
    19: "f8E5M2FNUZ",
    20: "f8E4M3FNUZ",
    21: "i4",
    22: "u4",
    24: "i2",
    25: "u2",
    26: "f8E4M3",
    27: "f8E3M4",
    28: "f8E8M0FNU",
    29: "f4E2M1FN",
}
