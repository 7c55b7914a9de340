"""Tile kernels: one workgroup runs one cell of a Pallas call.

In order: `blocks` opens the cell's regions, `memory` tells arrays from tiles, `layout` says where tiles lie, `matrices`
which of them matrix units hold, `roles` what is held how; `plan` joins these, `choose` compares plans, `emit` walks the
steps; `expression`, `staging`, `vectors`, `dot`, `dot_matrix`, `reduce` and `scatter` do the work.
"""

from .choose import asked_threads, candidates, choose, fits
from .kernel import emit, groups, node_of, require_shared
from .plan import describe

__all__ = ["asked_threads", "candidates", "choose", "describe", "emit", "fits", "groups", "node_of", "require_shared"]
