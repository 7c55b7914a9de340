"""Attention that leaves out what provably does not matter, and says how wrong it is."""

from .attention import adaptive_attention

__all__ = ["adaptive_attention"]
