"""Compute values again where they are read, if the arrays that they come from are fewer bytes than they are.

Before                                              After
  %3, %4, %5 = fusion(%0: f16) {label=softmax}        %3, %5, %6 = fusion(%0: f16) {label=softmax}
     %3 the sums, %4 f32 exponentials, %5 f16            %6 the peaks of rows instead of the exponentials
  %8 = fusion(%3, %4, %7) {label=its derivative}      %8 = fusion(%0, %3, %6, %7): exponentials from %0 and %6

`roots.py` decides before anything is known of kernels; here every cluster stands, and what a value costs in memory is
known: written once and read by each cluster that uses it, unless those compute it from what they read anyway.
"""

from __future__ import annotations

from dataclasses import dataclass

from .. import dtypes
from ..graph import Node, Value
from .clusters import Cluster, Clusters
from .roots import COSTS, goes_round

# Cheap operations that a device does in the time in which it moves one byte.
OPERATIONS_A_BYTE = 4
# Rounding to 16 bits after an operation, in units of one cheap instruction.
ROUNDING_COST = 4
# A result of a row is much smaller than the row: by this factor at least.
SMALL = 8

_KERNELS = frozenset({"map", "rows", "partial"})
_SPREADING = frozenset({"broadcast_in_dim", "reshape", "iota", "constant"})
_MOVES = frozenset(
    {
        "slice", "reverse", "pad", "concatenate", "gather", "dynamic_slice", "dynamic_update_slice", "bitcast_convert",
        "reduce_window", "transpose",
    }
)  # fmt: skip


@dataclass(frozen=True)
class _Source:
    """How a value is computed again: the roots on the way, the arrays at its start, and the cost of one element."""

    again: frozenset[Value]
    leaves: tuple[Value, ...]
    cost: int


def recompute(clusters: Clusters) -> None:
    """Change clusters so that those that read a dear array compute it themselves, where that moves fewer bytes."""
    for cluster in list(clusters.items.values()):
        if cluster.kind not in ("map", "rows"):
            continue
        for node in cluster.roots:
            for value in node.outputs:
                _consider(clusters, cluster, value)
        if not any(clusters.needed_outside(value, cluster) for node in cluster.roots for value in node.outputs):
            cluster.kind = "dead"


def _consider(clusters: Clusters, cluster: Cluster, value: Value) -> None:
    """Let all readers of a value compute it, if they can and gain by it."""
    readers = clusters.readers(value, cluster)
    if not readers or any(reader.kind not in _KERNELS for reader in readers) or clusters.is_output(value):
        return
    source = _source(clusters, cluster, value)
    if source is not None and _gains(clusters, value, source, readers):
        for reader in readers:
            clusters.compute_again(reader, source.again, source.leaves)


def _source(clusters: Clusters, cluster: Cluster, value: Value) -> _Source | None:
    """Return how a root of a cluster follows from memory, or `None` if it takes more than one element of anything."""
    # What the cluster computes again itself is nowhere in memory for those who read it.
    own = {root for node in cluster.roots for root in node.outputs} | cluster.again
    again: set[Value] = set()
    leaves: dict[Value, None] = {}
    seen: set[int] = set()
    cost = 0
    pending = [value]
    while pending:
        current = pending.pop()
        node = clusters.producers.get(current)
        if node is None or (current in clusters.roots and current not in own):
            leaves[current] = None
            continue
        if node.op in ("reduce", "partial_reduce"):
            if current is value or current.size * SMALL > value.size:
                return None
            leaves[current] = None
            continue
        if node.op in _MOVES or len(node.outputs) != 1 or goes_round(node):
            return None
        if current in own:
            again.add(current)
        if id(node) not in seen:
            seen.add(id(node))
            cost += _cost(node, value)
            pending.extend(node.inputs)
    return _Source(frozenset(again), tuple(leaves), cost)


def _cost(node: Node, value: Value) -> int:
    """Return what one element takes; what is computed once a row is nothing beside it."""
    if node.op in _SPREADING or node.output.size * SMALL <= value.size:
        return 0
    rounds = dtypes.itemsize(node.output.dtype) == 2 and node.output.dtype in dtypes.FLOATS
    return COSTS.get(node.op, 1) + (ROUNDING_COST if rounds else 0)


def _gains(clusters: Clusters, value: Value, source: _Source, readers: list[Cluster]) -> bool:
    """Tell whether the traffic that is saved takes longer than the arithmetic that is added."""
    saved = value.nbytes * (1 + len(readers))
    for reader in readers:
        known = set(clusters.memory_reads(reader))
        saved -= sum(leaf.nbytes for leaf in source.leaves if leaf not in known)
    return saved >= value.nbytes and saved * OPERATIONS_A_BYTE >= source.cost * value.size * len(readers)
