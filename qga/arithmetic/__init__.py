"""Exact complexity and its growth: heights, power maps, zeta functions and walks of attention operators."""

from .analyze import ArithmeticReport, analyze
from .dynamics import CanonicalHeight, arithmetic_degree, canonical_height, growth, is_preperiodic, linear_growth
from .growth import entropy_rate, log_mahler_measure
from .height import (
    LocalHeights,
    height,
    local_heights,
    matrix_height,
    northcott_count,
    primitive_coordinates,
    product_formula,
)
from .ihara import Ramanujan, ihara_log_determinant, is_ramanujan, mixing_bound
from .sharpen import sharpen
from .valuation import reverse_digits, valuation
from .walk import discriminant, phase_gap, szegedy_phases
from .zeta import (
    Estimate,
    is_triangular,
    prime_cycles,
    trace_powers,
    trace_powers_estimate,
    zeta_log_determinant,
)

__all__ = [
    "ArithmeticReport",
    "CanonicalHeight",
    "Estimate",
    "LocalHeights",
    "Ramanujan",
    "analyze",
    "arithmetic_degree",
    "canonical_height",
    "discriminant",
    "entropy_rate",
    "growth",
    "height",
    "ihara_log_determinant",
    "is_preperiodic",
    "is_ramanujan",
    "is_triangular",
    "linear_growth",
    "local_heights",
    "log_mahler_measure",
    "matrix_height",
    "mixing_bound",
    "northcott_count",
    "phase_gap",
    "prime_cycles",
    "primitive_coordinates",
    "product_formula",
    "reverse_digits",
    "sharpen",
    "szegedy_phases",
    "trace_powers",
    "trace_powers_estimate",
    "valuation",
    "zeta_log_determinant",
]
