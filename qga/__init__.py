"""Attention, flow and motivic structure as pure functions over arrays.

Every function composes with ``jax.jit``, ``jax.grad`` and ``jax.vmap``, on every platform JAX has; what is kept
in fewer bits has no derivative.
"""

from . import (
    adaptive,
    analysis,
    arithmetic,
    backends,
    cache,
    diagnostics,
    exact,
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
from .adaptive import adaptive_attention, structured_attention
from .analysis import analyze, analyze_model
from .cache import KVCache, PagedKVCache, PlaneCache, decode
from .errors import DomainError, OptionError, ShapeError
from .exact import (
    attention,
    attention_weights,
    dot_attention,
    dot_product_attention,
    fidelity_attention,
    ring_attention,
)
from .flow import pattern_flow

__all__ = [
    "DomainError",
    "KVCache",
    "OptionError",
    "PagedKVCache",
    "PlaneCache",
    "ShapeError",
    "adaptive",
    "adaptive_attention",
    "analysis",
    "analyze",
    "analyze_model",
    "arithmetic",
    "attention",
    "attention_weights",
    "backends",
    "cache",
    "decode",
    "diagnostics",
    "dot_attention",
    "dot_product_attention",
    "exact",
    "fidelity_attention",
    "flow",
    "geometry",
    "motivic",
    "operators",
    "pattern",
    "pattern_flow",
    "quantum",
    "ring_attention",
    "routing",
    "scale",
    "structured_attention",
    "tiling",
]
