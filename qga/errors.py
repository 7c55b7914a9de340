"""The errors of the pure functions and the one template of their texts."""

from __future__ import annotations

from typing import NoReturn

import jax
import numpy as np


class ShapeError(ValueError):
    """Arrays whose shapes or dtypes do not fit together."""


class DomainError(ValueError):
    """A value outside the range on which the formula holds."""


class OptionError(ValueError):
    """A static option, file or command-line choice that cannot be used."""


def refuse(error: type[Exception], rule: str, *, got: str, want: str, fix: str) -> NoReturn:
    """Raise ``error`` with the four lines every message of this package has: rule, got, want, fix."""
    raise error("\n".join((rule, f"  got:  {got}", f"  want: {want}", f"  fix:  {fix}")))


def describe(array: jax.Array | jax.ShapeDtypeStruct | np.ndarray) -> str:
    """Write an array as its dtype and shape, such as ``float32[3, 4]``."""
    return f"{array.dtype}[{', '.join(str(size) for size in array.shape)}]"
