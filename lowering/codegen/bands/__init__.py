"""Tile kernels whose tiles live in matrices from beginning to end: each subgroup owns a band of rows of every tile.

    scores[queries, keys] = q @ k^T        a band of rows a subgroup, all columns
    peak[queries] = max over keys          a narrow matrix of the same rows, the same number in every column
    weights = exp(scores - peak)           a function of elements, applied where they lie

Products, reductions along rows and arithmetic of elements need nothing but the subgroup's own matrices, so that only
what is read from memory passes through shared memory: each round copies the next chunk while it works on this one.
What a tile is, `matrices` leaves to three kinds of devices: one matrix (`whole`, VK_NV_cooperative_matrix2), fragments
of what matrix units take (`fragments`, VK_KHR_cooperative_matrix), or registers of lanes (`lanes`).

In order: `sink` takes windows of arrays before arithmetic, `views` finds them, `checks` and `windows` refuse what
bands do not have, `follow` tells rows from columns, `held` which tiles are matrices; `plan` joins these, and
`choose` makes a schedule. `scalars` and `elements` write arithmetic, `copies` and `loop` the way through shared
memory, `emit` the steps.
"""

from .checks import UnfitError
from .choose import can_plan, candidates, choose, fits, takes_matrices
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
    "takes_matrices",
]
