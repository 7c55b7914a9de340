"""Flows: heat along attention, transport between masses, retrieval, threshold dynamics, curvature of graphs."""

from .curvature import CurvatureInterval, forman, ollivier, ollivier_interval, ricci_flow
from .heat import heat, order_for, pattern_flow, poisson_tail, poisson_weights
from .hopfield import hopfield, hopfield_energy, is_contraction
from .sinkhorn import sinkhorn, sinkhorn_plan, sinkhorn_rate
from .threshold import threshold_dynamics, threshold_energy
from .transport import TransportInterval, transport_interval

__all__ = [
    "CurvatureInterval",
    "TransportInterval",
    "forman",
    "heat",
    "hopfield",
    "hopfield_energy",
    "is_contraction",
    "ollivier",
    "ollivier_interval",
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
    "transport_interval",
]
