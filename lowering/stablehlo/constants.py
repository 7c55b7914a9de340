"""Constants: MLIR element attributes as NumPy arrays. A splat becomes a 0-d array that fills the result."""

from __future__ import annotations

import re

import numpy as np
from jax.extend.mlir import ir

from .. import dtypes
from ..errors import GraphError, message

# Dtypes that the MLIR bindings give as NumPy arrays; the others are read from the printed attribute.
_DIRECT = frozenset({"bool", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "f16", "f32", "f64"})
_TOKEN = re.compile(r"[^\s,()\[\]]+")
_START = re.compile(r"dense<")


def decode(operation: ir.Operation, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the value of a constant operation: an array of its shape, or 0-d where one number fills it.

    Raises:
        GraphError: The attribute has a form that no dtype of ours has.
    """
    numpy_dtype = dtypes.NUMPY[dtype]
    if 0 in shape:
        return np.zeros(shape, numpy_dtype)
    array = _direct(operation, numpy_dtype) if dtype in _DIRECT else _from_text(str(operation), dtype)
    if array.ndim == 0 or array.size == 1:
        return array.reshape(())
    return array.reshape(shape)


def _direct(operation: ir.Operation, numpy_dtype: np.dtype) -> np.ndarray:
    attribute = operation.attributes["value"]
    if getattr(attribute, "is_splat", False):
        # The array view of a splat has stride 0, so this costs nothing for any shape.
        return np.array(np.asarray(attribute).reshape(-1)[0], numpy_dtype)
    return np.array(attribute, numpy_dtype)


def _from_text(text: str, dtype: str) -> np.ndarray:
    body = _body(text)
    if body.startswith('"0x'):
        return np.frombuffer(bytes.fromhex(body[3:-1]), dtypes.NUMPY[dtype]).copy()
    tokens = _TOKEN.findall(body)
    part = dtypes.real_part(dtype)
    numbers = np.array([_number(token, part) for token in tokens], dtypes.NUMPY[part])
    values = numbers.view(dtypes.NUMPY[dtype]) if dtype in dtypes.COMPLEX else numbers
    return values.reshape(()) if values.size == 1 else values


def _number(token: str, dtype: str) -> np.ndarray:
    """Read one float: decimal text, or 0x followed by its bits."""
    numpy_dtype = dtypes.NUMPY[dtype]
    if token.startswith("0x"):
        bits = np.array(int(token, 16), np.dtype(f"u{numpy_dtype.itemsize}"))
        return bits.view(numpy_dtype)
    return np.array(float(token), numpy_dtype)


def _body(text: str) -> str:
    start = _START.search(text)
    end = text.rfind("> : tensor")
    if start is None or end < 0:
        raise GraphError(
            message(
                "decode: a constant must print as dense<...>.",
                got=text[:120],
                want='dense<numbers> or dense<"0x...">',
                fix="report this defect with the program's StableHLO text.",
            )
        )
    return text[start.end() : end]
