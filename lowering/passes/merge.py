"""Decide which clusters become one kernel: along edges (nothing is stored between) and side by side (read once)."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from ..graph import Node, Value
from .axes import Axes
from .clusters import Cluster, Clusters
from .roots import COSTS, goes_round

# A kernel with more roots than this compiles slower than it saves.
MOST_ROOTS = 48
# A row or column reduction that a full-size consumer joins keeps one group for each row: it needs rows enough to fill
# a device, or rows short enough for that not to matter.
ENOUGH_ROWS = 256
SHORT_ROW = 16384

# Elements of a space, and of all that is read over it, up to which a launch costs more than the kernel's work.
SMALL = 1 << 20

# Cost of an epilogue that a matrix product takes in: its code is repeated for each of the many elements of a lane.
EPILOGUE_COST = 12
# Of one load or store in an epilogue, with the arithmetic of its address.
ACCESS_COST = 3

Match = dict[int, int]


def vertical(clusters: Clusters) -> None:
    """Merge producers into consumers wherever both walk the same space in the same way."""
    for consumer in list(clusters.items.values()):
        current = consumer
        for producer in clusters.producers_of(consumer):
            if producer.id in clusters.items and clusters.items[producer.id] is producer and producer is not current:
                current = _try(clusters, producer, current)


def horizontal(clusters: Clusters) -> None:
    """Merge clusters that read the same array over the same space and do not depend on each other."""
    readers: dict[Value, list[int]] = {}
    for cluster in clusters.items.values():
        if cluster.kind in ("map", "rows", "partial"):
            for value in clusters.memory_reads(cluster):
                if value.size > 1:
                    readers.setdefault(value, []).append(cluster.id)
    for ids in readers.values():
        for second in ids[1:]:
            _join_siblings(clusters, ids, second)


def side_by_side(clusters: Clusters) -> None:
    """Merge small clusters over the same space that make results of the program alone, whatever they read.

    Nothing waits for what nobody reads, so the one that is made last may make them all.
    """
    found: dict[tuple[int, ...], list[int]] = {}
    for cluster in clusters.items.values():
        if cluster.kind in ("map", "rows") and not any(
            clusters.readers(v, cluster) for n in cluster.roots for v in n.outputs
        ):
            sizes = (prod(cluster.domain), *(value.size for value in clusters.memory_reads(cluster)))
            if max(sizes) <= SMALL:
                found.setdefault(cluster.domain, []).append(cluster.id)
    for ids in found.values():
        for second in ids[1:]:
            _join_siblings(clusters, ids, second)


def _join_siblings(clusters: Clusters, ids: Iterable[int], second: int) -> None:
    """Join cluster `second` to the first of its earlier siblings that fits."""
    consumer = clusters.items.get(second)
    if consumer is None:
        return
    for first in ids:
        sibling = clusters.items.get(first)
        if sibling is None or sibling is consumer:
            continue
        same = _walk_of(sibling) == _walk_of(consumer)
        small = len(sibling.roots) + len(consumer.roots) <= MOST_ROOTS
        if same and small and clusters.independent(sibling, consumer):
            merged = Cluster(consumer.kind, [], consumer.domain, consumer.reduced, {**sibling.axes, **consumer.axes})
            clusters.join(sibling, consumer, merged)
            return


def _walk_of(cluster: Cluster) -> tuple[object, ...]:
    """Return what clusters have in common that one kernel may compute side by side."""
    parts = cluster.roots[0].attributes["parts"] if cluster.kind == "partial" else 1
    return cluster.kind, cluster.domain, cluster.reduced, parts


def _try(clusters: Clusters, producer: Cluster, consumer: Cluster) -> Cluster:
    """Return the union of the two if they fit, the consumer as it was otherwise."""
    if (producer.kind, consumer.kind) not in _RULES or len(producer.roots) + len(consumer.roots) > MOST_ROOTS:
        return consumer
    if (producer.kind, consumer.kind) != ("map", "map") and any(
        goes_round(node) for node in (*producer.roots, *consumer.roots)
    ):
        return consumer
    reads = [(v, axes) for v, axes in clusters.domain_reads(consumer) if clusters.owner.get(v) is producer]
    match = _match(producer, reads)
    if match is None:
        return consumer
    merged = _RULES[producer.kind, consumer.kind](producer, consumer, match)
    if merged is None or not _fits_epilogue(clusters, producer, consumer) or not clusters.can_join(producer, consumer):
        return consumer
    clusters.join(producer, consumer, merged)
    return merged


def _match(producer: Cluster, reads: list[tuple[Value, Axes | None]]) -> Match | None:
    """Return which consumer axis follows which producer axis over all reads, or `None` if they disagree."""
    match: Match = {}
    for value, axes in reads:
        if axes is None:
            return None
        for theirs, ours in zip(axes, producer.axes[value], strict=True):
            if (theirs is None) != (ours is None):
                return None
            if theirs is not None and ours is not None and match.setdefault(theirs, ours) != ours:
                return None
    return match if len(set(match.values())) == len(match) else None


def _wide(shape: tuple[int, ...]) -> set[int]:
    return {axis for axis, extent in enumerate(shape) if extent != 1}


def _is_identity(match: Match) -> bool:
    return all(theirs == ours for theirs, ours in match.items())


def _rename(axes: dict[Value, Axes], match: Match) -> dict[Value, Axes]:
    return {v: tuple(None if a is None else match[a] for a in row) for v, row in axes.items()}


def _fits_epilogue(clusters: Clusters, producer: Cluster, consumer: Cluster) -> bool:
    """Tell whether a product's kernel may repeat the consumer's code for each element that a lane holds."""
    if producer.kind != "dot":
        return True
    both: dict[int, Node] = {}
    arrays: set[Value] = set()
    for cluster in (producer, consumer):
        nodes, external = clusters.body(cluster)
        both.update((id(node), node) for node in nodes)
        arrays.update(value for value in external if value.size > 1)
    product = next(node for node in both.values() if node.op == "dot_general")
    traffic = len(arrays.difference(product.inputs)) + len(consumer.roots) - 1
    return sum(COSTS.get(node.op, 1) for node in both.values()) + ACCESS_COST * traffic <= EPILOGUE_COST


def _same_space(producer: Cluster, consumer: Cluster, match: Match) -> Cluster | None:
    """Map + map, dot + map: every element of the consumer needs the same element of the producer."""
    if producer.domain == consumer.domain and _is_identity(match) and set(match) == _wide(consumer.domain):
        return Cluster(producer.kind, [], producer.domain, frozenset(), {**producer.axes, **consumer.axes})
    wide = _wide(producer.domain)
    covers = set(match) == _wide(consumer.domain) and set(match.values()) == wide
    if producer.kind == "map" and covers and sorted(match, key=lambda axis: match[axis]) == sorted(match):
        return Cluster("map", [], producer.domain, frozenset(), {**producer.axes, **_rename(consumer.axes, match)})
    # A product's kernel may write in another order as long as columns stay neighbours.
    if producer.kind == "dot" and covers and match and match[max(match)] == max(wide):
        return Cluster("dot", [], producer.domain, frozenset(), {**producer.axes, **_rename(consumer.axes, match)})
    return None


def _map_after_rows(producer: Cluster, consumer: Cluster, match: Match) -> Cluster | None:
    """Rows + map: an epilogue on each row's results, or a pass over the rows that uses them."""
    kept = _wide(producer.domain) - producer.reduced
    if producer.domain == consumer.domain and _is_identity(match):
        if not _fills(producer):
            return None
        return Cluster("rows", [], producer.domain, producer.reduced, {**producer.axes, **consumer.axes})
    if set(match) != _wide(consumer.domain):
        return None
    image = set(match.values())
    if image != kept and not (image == _wide(producer.domain) and _fills(producer) and _monotone(match)):
        return None
    return Cluster("rows", [], producer.domain, producer.reduced, {**producer.axes, **_rename(consumer.axes, match)})


def _rows_after_map(producer: Cluster, consumer: Cluster, match: Match) -> Cluster | None:
    """Map + rows: the reduction computes what the map would have stored, and stores it if others want it."""
    back = {ours: theirs for theirs, ours in match.items()}
    if set(back) != _wide(producer.domain):
        return None
    image = set(match)
    kept = _wide(consumer.domain) - consumer.reduced
    full = image == _wide(consumer.domain) and _fills(consumer) and _monotone(match)
    if not full and image != kept:
        return None
    return Cluster("rows", [], consumer.domain, consumer.reduced, {**_rename(producer.axes, back), **consumer.axes})


def _rows_after_rows(producer: Cluster, consumer: Cluster, match: Match) -> Cluster | None:
    """Rows + rows: a second reduction over the same rows."""
    same = (producer.domain, producer.reduced) == (consumer.domain, consumer.reduced)
    if not same or not _is_identity(match) or not _fills(producer):
        return None
    return Cluster("rows", [], producer.domain, producer.reduced, {**producer.axes, **consumer.axes})


def _monotone(match: Match) -> bool:
    return sorted(match, key=lambda axis: match[axis]) == sorted(match)


def _fills(cluster: Cluster) -> bool:
    """Tell whether one group for each row keeps a device busy."""
    rows = reduced = 1
    for axis, extent in enumerate(cluster.domain):
        if axis in cluster.reduced:
            reduced *= extent
        else:
            rows *= extent
    minor = max(_wide(cluster.domain), default=0)
    if minor in cluster.reduced:
        return rows >= ENOUGH_ROWS or reduced <= SHORT_ROW
    return rows >= ENOUGH_ROWS * 32 or reduced <= 64


_RULES = {
    ("map", "map"): _same_space,
    ("dot", "map"): _same_space,
    ("rows", "map"): _map_after_rows,
    ("map", "rows"): _rows_after_map,
    ("rows", "rows"): _rows_after_rows,
}
