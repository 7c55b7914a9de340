"""What a backend can do, as protocols: any object with these methods is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import jax
from jax.typing import DTypeLike

from ..arithmetic import ArithmeticReport
from .prepared import PreparedAttention
from .tensors import T, Tensor
from .tiles import Tiling


@runtime_checkable
class AttentionBackend(Protocol):
    """Computes attention in two steps: arrays go to the device once, results come back in the caller's framework."""

    def prepare_attention(
        self, query: T, key: Tensor, value: Tensor, *, tile: int | None = None, **options: Any
    ) -> PreparedAttention[T]:
        """Check a call of attention and put its arrays on the device."""
        ...

    def compute_attention(self, prepared: PreparedAttention[T], mask: Tensor | None = None) -> T:
        """Compute what was prepared."""
        ...

    def optimize_tiling(
        self, keys: int, *, width: int, channels: int | None = None, dtype: DTypeLike = "float32"
    ) -> Tiling:
        """Choose how many keys are scored at a time."""
        ...


@runtime_checkable
class TensorMemoryManager(Protocol):
    """Owns arrays on a device, and carries tensors there and back."""

    def allocate(self, shape: int | Sequence[int], dtype: DTypeLike = "float32") -> jax.Array:
        """Make an array of zeros."""
        ...

    def free(self, array: jax.Array) -> None:
        """Give the memory of an array back."""
        ...

    def to_backend(self, tensor: Tensor, *, copy: bool = True) -> jax.Array:
        """Carry a tensor to the device."""
        ...

    def to_torch(self, array: Tensor, *, copy: bool = True) -> Any:
        """Carry an array to PyTorch, in the memory of the host."""
        ...


@runtime_checkable
class TilingStrategy(Protocol):
    """Cuts sequences into tiles that fit a device."""

    def compute_optimal_tile_size(
        self, keys: int, *, width: int, channels: int | None = None, dtype: DTypeLike = "float32"
    ) -> int:
        """Find the longest tile that fits."""
        ...

    def split_into_tiles(self, tensor: T, tile: int) -> tuple[T, T]:
        """Cut the leading axis."""
        ...


@runtime_checkable
class QuantumGeometricCore(Protocol):
    """Computes flow, arithmetic and motivic structure of attention patterns."""

    def compute_pattern_flow(
        self,
        field: T,
        time: float | Tensor,
        *,
        queries: Tensor | None = None,
        keys: Tensor | None = None,
        order: int | None = None,
        **options: Any,
    ) -> tuple[T, T]:
        """Let a field flow along attention."""
        ...

    def analyze_arithmetic_dynamics(self, weights: Tensor, stationary: Tensor | None = None) -> ArithmeticReport:
        """Report the arithmetic of an attention operator."""
        ...

    def apply_motivic_structure(self, signal: T, gains: Tensor) -> T:
        """Scale each graded piece of a signal."""
        ...
