"""Which arrays of a fusion lie along the axis that its lanes walk, and how many neighbours one lane takes at once."""

from __future__ import annotations

from collections.abc import Iterator

from . import dtypes
from .graph import Graph, Node, Value
from .passes.axes import Axes, identity, reads
from .passes.roots import COSTS

# Bytes that one load moves at most.
WIDEST_ACCESS = 16
MOST_NEIGHBOURS = 8
# Code of one element times neighbours: longer kernels cost more registers and compile time than wide loads win.
LONGEST_CODE = 1200
REDUCTIONS = frozenset({"reduce", "partial_reduce"})


def fast_axis(domain: tuple[int, ...]) -> int | None:
    """Return the last axis of more than one element."""
    return max((axis for axis, extent in enumerate(domain) if extent != 1), default=None)


def reads_of(fusion: Node) -> Iterator[tuple[Value, Axes | None]]:
    """Yield what the body reads, inputs and results of reductions, with maps from the domain; opaque ones as `None`."""
    body: Graph = fusion.attributes["body"]
    producers = body.producers()

    def inlined(value: Value) -> Node | None:
        node = producers.get(value)
        return None if node is None or node.op in REDUCTIONS else node

    yield from reads(starts_of(fusion), inlined)


def starts_of(fusion: Node) -> list[tuple[Value, Axes | None]]:
    """Return what a kernel computes at every position of its walk: outputs, and operands of reductions."""
    body: Graph = fusion.attributes["body"]
    full = identity(fusion.attributes["domain"])
    start: list[tuple[Value, Axes | None]] = list(zip(body.outputs, fusion.attributes["output_axes"], strict=True))
    for node in body.nodes:
        if node.op in REDUCTIONS:
            start += [(value, full) for value in node.inputs[: len(node.outputs)]]
    return start


def runs_along(axes: Axes | None, fast: int | None) -> bool:
    """Tell whether neighbours along the fast axis are neighbours in the array."""
    wide = [axis for axis in axes or () if axis is not None]
    return bool(wide) and wide[-1] == fast and fast not in wide[:-1]


def neighbours(fusion: Node) -> int:
    """Return how many neighbouring elements one lane should take, a power of two; 1 if none lie together.

    16 bytes of the narrowest array that has the domain's size; all of them lie in one row.
    """
    domain: tuple[int, ...] = fusion.attributes["domain"]
    body: Graph = fusion.attributes["body"]
    fast = fast_axis(domain)
    if fast is None:
        return 1
    full = identity(domain)
    along = {value for value, axes in reads_of(fusion) if axes == full and value in body.inputs}
    outputs = zip(body.outputs, fusion.attributes["output_axes"], strict=True)
    along |= {value for value, axes in outputs if runs_along(axes, fast) and value.shape == domain}
    sizes = [dtypes.itemsize(value.dtype) for value in along if is_plain(value)]
    if not sizes:
        return 1
    cost = sum(COSTS.get(node.op, 1) for node in body.nodes)
    count = min(MOST_NEIGHBOURS, WIDEST_ACCESS // min(sizes))
    while count > 1 and (domain[fast] % count or count * cost > LONGEST_CODE):
        count //= 2
    return count


def is_plain(value: Value) -> bool:
    """Tell whether an element is one number in memory, no wider than 8 bytes."""
    return value.dtype not in dtypes.COMPLEX
