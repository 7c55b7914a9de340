"""Tiles: softmax states, cutting and summarising; bounds, certificates and plans; trees and their best cuts."""

from .audit import Audit, Audited, share_bounds
from .certificate import (
    Certificate,
    Distances,
    entropy_floor,
    mixture_bounds,
    perturbation_bounds,
    skip_distances,
)
from .critical import CriticalBeta, critical_beta
from .cut import join, split
from .holevo import HolevoTree, holevo_tree
from .intervals import TileBounds, enclose, tile_bounds, unbounded_primitives
from .level_map import LEVEL_NAMES, LevelMap, level_shares
from .mass import (
    Interval,
    MassBounds,
    chord_excess,
    dual_bound,
    excess_from_variance,
    mass_bounds,
    mean_score,
    score_interval,
)
from .optimize import optimize
from .plan import COARSE, EXACT, SKIP, Budget, Certified, Fixed, Plan, Resolution, plan
from .planned import attend_planned
from .query_free import StaticMerge, query_free_oscillation, static_merge
from .report import report_certificate
from .size import DeviceLimits, partition, tile_size
from .state import State, state_leaf, state_merge, state_read, state_unit
from .summary import (
    Summary,
    summarize,
    summary_center,
    summary_mean,
    summary_merge,
    summary_scatter,
    summary_unit,
)
from .tree import TileTree, compose, kraft_sum, state_of_tree, tree

__all__ = [
    "COARSE",
    "EXACT",
    "LEVEL_NAMES",
    "SKIP",
    "Audit",
    "Audited",
    "Budget",
    "Certificate",
    "Certified",
    "CriticalBeta",
    "DeviceLimits",
    "Distances",
    "Fixed",
    "HolevoTree",
    "Interval",
    "LevelMap",
    "MassBounds",
    "Plan",
    "Resolution",
    "State",
    "StaticMerge",
    "Summary",
    "TileBounds",
    "TileTree",
    "attend_planned",
    "chord_excess",
    "compose",
    "critical_beta",
    "dual_bound",
    "enclose",
    "entropy_floor",
    "excess_from_variance",
    "holevo_tree",
    "join",
    "kraft_sum",
    "level_shares",
    "mass_bounds",
    "mean_score",
    "mixture_bounds",
    "optimize",
    "partition",
    "perturbation_bounds",
    "plan",
    "query_free_oscillation",
    "report_certificate",
    "score_interval",
    "share_bounds",
    "skip_distances",
    "split",
    "state_leaf",
    "state_merge",
    "state_of_tree",
    "state_read",
    "state_unit",
    "static_merge",
    "summarize",
    "summary_center",
    "summary_mean",
    "summary_merge",
    "summary_scatter",
    "summary_unit",
    "tile_bounds",
    "tile_size",
    "tree",
    "unbounded_primitives",
]
