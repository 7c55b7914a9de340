"""Attention that leaves out or replaces what provably does not matter, and says how wrong it is."""

from .attention import adaptive_attention
from .structured import structured_attention

__all__ = ["adaptive_attention", "structured_attention"]
