"""Numbers that say whether attention does what it should: efficiency, consistency, certified saving, oscillation."""

from .numbers import (
    Efficiency,
    Saving,
    certified_saving,
    coarse_error,
    consistency_error,
    oscillation,
    routing_efficiency,
)

__all__ = [
    "Efficiency",
    "Saving",
    "certified_saving",
    "coarse_error",
    "consistency_error",
    "oscillation",
    "routing_efficiency",
]
