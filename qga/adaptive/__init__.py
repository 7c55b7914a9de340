"""Attention that leaves out or replaces what provably does not matter, and says how wrong it is."""

from .attention import adaptive_attention, attend_and_map
from .merge import MergedKeys, attend_merged, merge_keys
from .structured import structured_attention

__all__ = ["MergedKeys", "adaptive_attention", "attend_and_map", "attend_merged", "merge_keys", "structured_attention"]
