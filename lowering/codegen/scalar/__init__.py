"""The meaning of elementwise operations for one element, as SPIR-V."""

from .emit import SUPPORTED, combine, emit
from .floats import extremum
from .memory import load, load_run, store, store_run
from .registers import Scalar, constant, register_dtype

__all__ = [
    "SUPPORTED", "Scalar", "combine", "constant", "emit", "extremum", "load", "load_run", "register_dtype", "store",
    "store_run",
]  # fmt: skip
