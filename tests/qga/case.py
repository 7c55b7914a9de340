"""One row of a table of pure functions: every general promise of a function is tested from its row.

A room's rows stand in ``tests/qga/<room>/cases.py``; ``tests/qga/test_cases.py`` runs them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Case:
    """A function with inputs that show it.

    Attributes:
        name: the public name, and what is special about the row.
        function: of arrays alone; static arguments are bound. May return any pytree.
        draw: makes its arrays in double precision (float64, complex128), or of an integer or bool dtype.
        is_smooth: it has derivatives in its floating arrays, forward and reverse, at what ``draw`` makes.
        lowers: a GPU can run it; otherwise ``cpu_only`` of the docstring says why it cannot.
        batches: ``jax.vmap`` over all its arrays is a loop over them.
        depth: length of its longest reduction.
        scale: largest magnitude of what is reduced, where that is above the result's.
    """

    name: str
    function: Callable[..., Any]
    draw: Callable[[np.random.Generator], tuple[np.ndarray, ...]]
    is_smooth: bool = True
    lowers: bool = True
    batches: bool = True
    depth: int = 1
    scale: float = 1.0
