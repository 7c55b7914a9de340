"""Matrix products: schedules, and the kernels that run them.

A caller describes a `MatmulProblem`, asks `choose` for `MatmulTiles`, makes a builder with `workgroup(tiles)` and
`tiles.subgroup`, and calls `emit` with a `MatmulAccess` that loads operands and stores results.
"""

from .candidates import candidates
from .choose import choose
from .emit import emit
from .fit import misfit, shared_bytes
from .problem import MatmulAccess, MatmulProblem, Pieces, Plain
from .tiles import MatmulTiles, groups, subgroup_size, workgroup

__all__ = [
    "MatmulAccess",
    "MatmulProblem",
    "MatmulTiles",
    "Pieces",
    "Plain",
    "candidates",
    "choose",
    "emit",
    "groups",
    "misfit",
    "shared_bytes",
    "subgroup_size",
    "workgroup",
]
