"""Kernels and the SPIR-V they are written in; needs numpy and nothing else."""

from .capabilities import Capabilities, FlexibleMatrix, MatrixShape
from .errors import ShaderError
from .kernel import Kernel, Parameter

__all__ = ["Capabilities", "FlexibleMatrix", "Kernel", "MatrixShape", "Parameter", "ShaderError"]
