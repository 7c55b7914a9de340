"""Kernels and the SPIR-V they are written in; needs numpy and nothing else."""

from .errors import ShaderError
from .kernel import Kernel, Parameter

__all__ = ["Kernel", "Parameter", "ShaderError"]
