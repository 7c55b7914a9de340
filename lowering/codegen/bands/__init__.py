"""Tile kernels whose tiles live in matrices from beginning to end: each subgroup owns a band of rows of every tile.

    scores[queries, keys] = q @ k^T        a band of rows a subgroup, all columns
    peak[queries] = max over keys          a narrow matrix of the same rows, the same number in every column
    weights = exp(scores - peak)           a function of elements, applied where they lie

Products, reductions along rows and arithmetic of elements need nothing but the subgroup's own matrices, so that only
what is read from memory passes through shared memory: each round copies the next chunk while it works on this one.
A device must offer matrices of any size with reductions, conversions and functions of elements
(VK_NV_cooperative_matrix2).

In order: `sink` takes windows of arrays before arithmetic, `views` finds them, `checks` and `windows` refuse what
bands do not have, `follow` tells rows from columns, `held` which tiles are matrices; `plan` joins these, and
`choose` makes a schedule. `scalars` and `elements` write arithmetic, `copies` and `loop` the way through shared
memory, `emit` the steps.
"""

from .checks import UnfitError
from .choose import can_plan, candidates, choose, fits
from .emit import BANDS, FRAGMENTS, LANES, MODES, emit
from .plan import describe, find_bands

__all__ = [
    "BANDS",
    "FRAGMENTS",
    "LANES",
    "MODES",
    "UnfitError",
    "can_plan",
    "candidates",
    "choose",
    "describe",
    "emit",
    "find_bands",
    "fits",
]
