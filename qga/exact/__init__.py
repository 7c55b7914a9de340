"""Attention as softmax over scores of lifted keys, evaluated tile by tile."""

from ..kernels.problem import DEFAULT_TILE
from .by_head import attention_pass, dot_attention, fidelity_attention
from .gauge_values import gauge_attention
from .metrics import lift, scores
from .multi_head import attention, dot_product_attention
from .ring import ring_attention, zigzag_order
from .scores import dot_scores, fidelity_scores, lift_to_rays
from .weights import attention_weights

__all__ = [
    "DEFAULT_TILE",
    "attention",
    "attention_pass",
    "attention_weights",
    "dot_attention",
    "dot_product_attention",
    "dot_scores",
    "fidelity_attention",
    "fidelity_scores",
    "gauge_attention",
    "lift",
    "lift_to_rays",
    "ring_attention",
    "scores",
    "zigzag_order",
]
