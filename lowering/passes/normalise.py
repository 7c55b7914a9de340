"""Bring a graph to one canonical form, so that later passes meet few shapes of the same thing."""

from __future__ import annotations

from ..graph import Graph
from .rules import control, folding, movement
from .rules.control import rewrite
from .rules.merging import merge_rules

# Folding stands first: a constant needs no other rule.
RULES = merge_rules(folding.RULES, movement.RULES, control.RULES)


def normalise(graph: Graph) -> Graph:
    """Return the graph with dead and repeated work removed, constants folded and movements of elements merged.

    Loops hand on only what changes, and regions make small constants themselves. Inputs and outputs keep their order.

    Before                                        After
      %1 = constant() {value=[2.0]} : f32[]         %1 = constant() {value=2.0} : f32[4,8]
      %2 = broadcast_in_dim(%1) : f32[4,8]          %6 = multiply(%0, %1) : f32[4,8]
      %3 = multiply(%0, %2) : f32[4,8]              %7 = add(%6, %6) : f32[4,8]
      %4 = multiply(%0, %2) : f32[4,8]              %8 = reshape(%7) : f32[32]
      %5 = add(%3, %4) : f32[4,8]                   return %8
      %6 = reshape(%5) : f32[8,4]
      %7 = reshape(%6) : f32[32]
      return %7
    """
    return rewrite(graph, RULES)
