"""Write kernels in Python: a SPIR-V emitter with typed values."""

from .atomics import Pointer
from .buffers import Buffer
from .builder import Builder
from .dtypes import Dtype, MatrixType
from .memory import Shared, Variable
from .values import Value

__all__ = ["Buffer", "Builder", "Dtype", "MatrixType", "Pointer", "Shared", "Value", "Variable"]
