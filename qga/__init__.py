"""Attention, flow and motivic structure as pure functions over arrays.

Every function composes with ``jax.jit``, ``jax.grad`` and ``jax.vmap``, on every platform JAX has.
"""

from . import (
    analysis,
    arithmetic,
    attention,
    diagnostics,
    flow,
    geometry,
    motivic,
    operators,
    pattern,
    quantum,
    routing,
    scale,
    tiling,
)
from .analysis import analyze, analyze_model
from .attention import attention_weights, dot_attention, fidelity_attention
from .errors import DomainError, OptionError, ShapeError
from .flow import pattern_flow

__all__ = [
    "DomainError",
    "OptionError",
    "ShapeError",
    "analysis",
    "analyze",
    "analyze_model",
    "arithmetic",
    "attention",
    "attention_weights",
    "diagnostics",
    "dot_attention",
    "fidelity_attention",
    "flow",
    "geometry",
    "motivic",
    "operators",
    "pattern",
    "pattern_flow",
    "quantum",
    "routing",
    "scale",
    "tiling",
]
