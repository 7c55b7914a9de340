"""Motivic structure: what adds over pieces and multiplies over products. No category of motives is computed."""

from .complex import (
    Complex,
    MaskBetti,
    betti,
    betti_numbers_of_mask,
    boundary,
    cell_counts,
    complex_of_graph,
    complex_of_mask,
    complex_product,
    hodge_laplacian,
)
from .euler import euler, euler_curve
from .haar import apply, energies, weights
from .igusa import DigitIntegral, DigitTree, digit_tree, igusa
from .measure import measure, measure_merge, measure_product, multiset_product, state_measure
from .sheaf import (
    Consistency,
    Sections,
    coboundary,
    consistency,
    holonomy,
    sheaf_ceiling,
    sheaf_diffuse,
    sheaf_laplacian,
    sheaf_sections_dimension,
)

__all__ = [
    "Complex",
    "Consistency",
    "DigitIntegral",
    "DigitTree",
    "MaskBetti",
    "Sections",
    "apply",
    "betti",
    "betti_numbers_of_mask",
    "boundary",
    "cell_counts",
    "coboundary",
    "complex_of_graph",
    "complex_of_mask",
    "complex_product",
    "consistency",
    "digit_tree",
    "energies",
    "euler",
    "euler_curve",
    "hodge_laplacian",
    "holonomy",
    "igusa",
    "measure",
    "measure_merge",
    "measure_product",
    "multiset_product",
    "sheaf_ceiling",
    "sheaf_diffuse",
    "sheaf_laplacian",
    "sheaf_sections_dimension",
    "state_measure",
    "weights",
]
