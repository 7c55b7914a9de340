"""Flows: heat along attention, transport between masses, retrieval, threshold dynamics, curvature of graphs."""

from .curvature import forman, ollivier, ricci_flow
from .heat import heat, order_for, pattern_flow, poisson_tail, poisson_weights
from .hopfield import hopfield, hopfield_energy, is_contraction
from .sinkhorn import sinkhorn, sinkhorn_plan, sinkhorn_rate
from .threshold import threshold_dynamics, threshold_energy

__all__ = [
    "forman",
    "heat",
    "hopfield",
    "hopfield_energy",
    "is_contraction",
    "ollivier",
    "order_for",
    "pattern_flow",
    "poisson_tail",
    "poisson_weights",
    "ricci_flow",
    "sinkhorn",
    "sinkhorn_plan",
    "sinkhorn_rate",
    "threshold_dynamics",
    "threshold_energy",
]
