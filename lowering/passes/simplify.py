"""Rewrite operations into cheaper ones that give the same for every input."""

from __future__ import annotations

from ..graph import Graph
from .normalise import RULES as NORMAL
from .rules import arithmetic, contraction, conversion, indexing, narrowing, scattering, unrolling
from .rules.control import rewrite
from .rules.merging import merge_rules

# Unrolling stands before the rule that rewrites a loop's regions: what is written out needs no region. The rules of
# normalise run as well, so that what a rewrite leaves behind is in canonical form at once.
RULES = merge_rules(
    unrolling.RULES, narrowing.RULES, NORMAL, arithmetic.RULES, conversion.RULES, indexing.RULES, scattering.RULES,
    contraction.RULES,
)  # fmt: skip


def simplify(graph: Graph) -> Graph:
    """Return the graph with algebra done, reads of known places turned into slices and short loops written out.

    NaN, infinities and signed zeros come out as before; only the payload of a NaN may differ, and a product over one
    element may turn a zero's sign.

    Before                                        After
      %1 = constant() {value=8.0} : f32[4]          %1 = constant() {value=0.125} : f32[4]
      %2 = divide(%0, %1) : f32[4]                  %2 = multiply(%0, %1) : f32[4]
      %3 = negate(%2) : f32[4]                      %3 = subtract(%0, %2) : f32[4]
      %4 = add(%0, %3) : f32[4]                     return %3
      return %4
    """
    return rewrite(graph, RULES)
