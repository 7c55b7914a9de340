"""The meaning of elementwise operations for one element, as SPIR-V."""

from .emit import SUPPORTED, combine, emit
from .memory import load, store
from .registers import Scalar, constant, register_dtype

__all__ = ["SUPPORTED", "Scalar", "combine", "constant", "emit", "load", "register_dtype", "store"]
