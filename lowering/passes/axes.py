"""How the dimensions of an operand follow those of a result: the map that fusion reasons with.

A map is a tuple with one entry for each dimension of a value: the dimension of the kernel's iteration space it follows,
or `None` where the value's extent is one. An access that is no such map (slices, gathers, real reshapes) is opaque.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..graph import Node, Value

Axes = tuple[int | None, ...]


def identity(shape: tuple[int, ...]) -> Axes:
    """Return the map of an array that is walked in its own order."""
    return tuple(None if extent == 1 else axis for axis, extent in enumerate(shape))


def operand_axes(node: Node, position: int, axes: Axes) -> Axes | None:
    """Return the map of operand `position`, given the map of the node's result; `None` if the access is opaque."""
    operand = node.inputs[position]
    if node.op == "broadcast_in_dim":
        source = node.attributes["dimensions"]
        return tuple(None if extent == 1 else axes[source[i]] for i, extent in enumerate(operand.shape))
    if node.op == "transpose":
        result: list[int | None] = [None] * len(axes)
        for place, source in enumerate(node.attributes["permutation"]):
            result[source] = axes[place]
        return tuple(result)
    if node.op == "reshape":
        return _through_reshape(operand.shape, node.output.shape, axes)
    if node.op == "dynamic_update_slice" and position == 0:
        return axes
    if node.op in OPAQUE:
        return None
    if operand.shape == ():
        return ()
    return axes


# Operations that read operands at other places than their own result's; an update reads its first one at the same.
OPAQUE = frozenset(
    {
        "slice", "reverse", "pad", "concatenate", "gather", "dynamic_slice", "dynamic_update_slice", "bitcast_convert",
        "reduce_window", "reduce", "dot_general", "scatter", "while", "case", "partial_reduce", "copy", "tile",
    }
)  # fmt: skip


def _through_reshape(source: tuple[int, ...], target: tuple[int, ...], axes: Axes) -> Axes | None:
    """Follow a reshape that only adds or drops dimensions of extent one."""
    wide_source = [i for i, extent in enumerate(source) if extent != 1]
    wide_target = [i for i, extent in enumerate(target) if extent != 1]
    if [source[i] for i in wide_source] != [target[i] for i in wide_target]:
        return None
    result: list[int | None] = [None] * len(source)
    for i, j in zip(wide_source, wide_target, strict=True):
        result[i] = axes[j]
    return tuple(result)


def reads(
    start: list[tuple[Value, Axes | None]], inlined: Callable[[Value], Node | None]
) -> Iterator[tuple[Value, Axes | None]]:
    """Yield every (memory value, map) that the expressions rooted at `start` read; each distinct pair once.

    `inlined(value)` is the node to look through, or `None` if the value lives in memory.
    """
    seen: set[tuple[Value, Axes | None]] = set()
    pending = list(start)
    while pending:
        value, axes = pending.pop()
        if (value, axes) in seen:
            continue
        seen.add((value, axes))
        node = inlined(value)
        if node is None:
            yield value, axes
            continue
        for position, operand in enumerate(node.inputs):
            pending.append((operand, None if axes is None else operand_axes(node, position, axes)))
