"""Harmonised backends: the same calls on the CPU and through Vulkan, for tensors of NumPy, JAX and PyTorch."""

from .backend import Backend, CPUBackend, VulkanBackend, choose
from .limits import Limits, Matrix, limits_of
from .memory import Memory, MemoryStatistics
from .prepared import PreparedAttention
from .protocols import AttentionBackend, QuantumGeometricCore, TensorMemoryManager, TilingStrategy
from .tensors import Framework, Tensor
from .tiles import Tiling

__all__ = [
    "AttentionBackend",
    "Backend",
    "CPUBackend",
    "Framework",
    "Limits",
    "Matrix",
    "Memory",
    "MemoryStatistics",
    "PreparedAttention",
    "QuantumGeometricCore",
    "Tensor",
    "TensorMemoryManager",
    "Tiling",
    "TilingStrategy",
    "VulkanBackend",
    "choose",
    "limits_of",
]
