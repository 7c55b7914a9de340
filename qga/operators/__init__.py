"""Attention patterns of long sequences as operators: passes over blocks of scores, memory linear in the rows."""

from .masses import TileOperator, key_masses, mutual_information, tile_operator
from .metric import mean_metric, metric_curvature, metric_form, metric_of_means
from .operator import DEFAULT_BLOCK, AttentionOperator, Metric, RowStatistics, attention_operator
from .passes import amplify, amplify_transposed, operate, operate_transposed
from .spectrum import EntanglementBounds, entanglement_bounds, orthonormalise, sketch_amplitudes
from .transport import Potentials, balance

__all__ = [
    "DEFAULT_BLOCK",
    "AttentionOperator",
    "EntanglementBounds",
    "Metric",
    "Potentials",
    "RowStatistics",
    "TileOperator",
    "amplify",
    "amplify_transposed",
    "attention_operator",
    "balance",
    "entanglement_bounds",
    "key_masses",
    "mean_metric",
    "metric_curvature",
    "metric_form",
    "metric_of_means",
    "mutual_information",
    "operate",
    "operate_transposed",
    "orthonormalise",
    "sketch_amplitudes",
    "tile_operator",
]
