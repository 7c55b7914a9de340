"""Where information goes: composed maps, paths, capacity, bottlenecks and mixing times of attention operators."""

from .bottlenecks import (
    Bottlenecks,
    Bounds,
    Cut,
    cheeger_bounds,
    conductance,
    conductances,
    detect_bottlenecks,
    effective_resistance,
    fiedler,
    kemeny_constant,
    spectral_gap,
    sweep_cut,
)
from .capacity import Capacity, capacity, divergences, mutual_information
from .composition import Stationary, compose, dobrushin, rollout, stationary, tensor
from .mixing import mixing_time_bounds
from .paths import Path, free_energy, log_product, paths, shortest_costs, tropical_product

__all__ = [
    "Bottlenecks",
    "Bounds",
    "Capacity",
    "Cut",
    "Path",
    "Stationary",
    "capacity",
    "cheeger_bounds",
    "compose",
    "conductance",
    "conductances",
    "detect_bottlenecks",
    "divergences",
    "dobrushin",
    "effective_resistance",
    "fiedler",
    "free_energy",
    "kemeny_constant",
    "log_product",
    "mixing_time_bounds",
    "mutual_information",
    "paths",
    "rollout",
    "shortest_costs",
    "spectral_gap",
    "stationary",
    "sweep_cut",
    "tensor",
    "tropical_product",
]
