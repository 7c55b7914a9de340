"""Cut what makes one lane go round a loop for long: reductions by a user's rule or running ones, scatters, products.

llvmpipe ends the loops of an invocation after 65,535 rounds in all, without a word (`Capabilities.loop_rounds`); on a
GPU a lane that walks a million elements alone holds up everything else.

Before                                                After
  %2 = scatter(%0: f32[9], %1: i32[70000,1], %2)        %3 = slice(%1) {limit=(32768,1)}  ...
                                                        %5 = scatter(%0, %3, %4)
                                                        %8 = scatter(%5, %6, %7)  ...
"""

from __future__ import annotations

from shaders.capabilities import Capabilities

from ..graph import Graph
from .rules import control, cutting, running
from .rules.merging import merge_rules

EVERYWHERE = merge_rules(control.RULES, {"reduce": (cutting.cut_serial_reduce,)})
WHERE_LOOPS_END = merge_rules(
    EVERYWHERE,
    {
        "reduce_window": (running.cut_running,),
        "scatter": (cutting.cut_scatter,),
        "dot_general": (cutting.cut_depth,),
    },
)


def split_loops(graph: Graph, capabilities: Capabilities) -> Graph:
    """Return the graph with long loops in parts, for this device."""
    return control.rewrite(graph, EVERYWHERE if capabilities.loop_rounds is None else WHERE_LOOPS_END)
