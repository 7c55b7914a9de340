"""Patterns: what maps are made of, scales and clusters, fields that react and diffuse, stability and its loss."""

from .bifurcation import Bifurcation, Bifurcations, bifurcations
from .continuation import Branch, continuation
from .critical import CriticalPoints, critical_points
from .cycles import Cycle, PeriodDoublings, cycle_field, cycle_stability, period_doublings
from .decompose import Decomposition, block_part, decompose, decompose_causal, symbol
from .grid import connected_components, local_density
from .homology import cluster_count, component_scales
from .normal_form import FlipForm, HopfForm, SteadyForm, flip_form, hopf_form, steady_form
from .reaction import (
    Turing,
    allen_cahn,
    brusselator,
    brusselator_turing,
    dispersion,
    gray_scott,
    gray_scott_saddle,
    laplacian,
    reaction_diffusion_step,
    swift_hohenberg_energy,
    swift_hohenberg_step,
)
from .scales import haar, inverse_haar, match, wavelength
from .stability import Stability, lyapunov_exponents, stability

__all__ = [
    "Bifurcation",
    "Bifurcations",
    "Branch",
    "CriticalPoints",
    "Cycle",
    "Decomposition",
    "FlipForm",
    "HopfForm",
    "PeriodDoublings",
    "Stability",
    "SteadyForm",
    "Turing",
    "allen_cahn",
    "bifurcations",
    "block_part",
    "brusselator",
    "brusselator_turing",
    "cluster_count",
    "component_scales",
    "connected_components",
    "continuation",
    "critical_points",
    "cycle_field",
    "cycle_stability",
    "decompose",
    "decompose_causal",
    "dispersion",
    "flip_form",
    "gray_scott",
    "gray_scott_saddle",
    "haar",
    "hopf_form",
    "inverse_haar",
    "laplacian",
    "local_density",
    "lyapunov_exponents",
    "match",
    "period_doublings",
    "reaction_diffusion_step",
    "stability",
    "steady_form",
    "swift_hohenberg_energy",
    "swift_hohenberg_step",
    "symbol",
    "wavelength",
]
