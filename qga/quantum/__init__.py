"""Quantum states as a way to look at attention: entropies, distances, entanglement, geometry, measurement."""

from .born import Truncated, born_attention, born_masses
from .distances import (
    bures_squared,
    fidelity,
    pure_fidelity,
    relative_entropy,
    root_fidelity,
    trace_distance,
)
from .ensembles import holevo
from .entanglement import (
    Entanglement,
    attention_entanglement,
    concurrence,
    negativity,
    partial_trace,
    partial_transpose,
    truncation_fidelity,
)
from .entropy import collision_entropy, density, effective_rank, entropy, purity, row_entropy
from .evolution import apply_channel, evolve, hamiltonian, lindblad
from .geometric_tensor import berry_phase, chern_number, geometric_tensor
from .hermitian import absolute_trace, is_density, square_root

__all__ = [
    "Entanglement",
    "Truncated",
    "absolute_trace",
    "apply_channel",
    "attention_entanglement",
    "berry_phase",
    "born_attention",
    "born_masses",
    "bures_squared",
    "chern_number",
    "collision_entropy",
    "concurrence",
    "density",
    "effective_rank",
    "entropy",
    "evolve",
    "fidelity",
    "geometric_tensor",
    "hamiltonian",
    "holevo",
    "is_density",
    "lindblad",
    "negativity",
    "partial_trace",
    "partial_transpose",
    "pure_fidelity",
    "purity",
    "relative_entropy",
    "root_fidelity",
    "row_entropy",
    "square_root",
    "trace_distance",
    "truncation_fidelity",
]
