"""Operations that only move elements: one canonical form, chains merged, what moves nothing removed.

Broadcasts read arrays without extents of 1; what adds or drops such extents is a reshape; what only permutes them too.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...graph import Node, Value
from ..rewriting import Rewriter, Rule
from .folding import changes_nothing, zeros

Shape = tuple[int, ...]


def reshape(rewriter: Rewriter, value: Value, shape: Sequence[int], where: str = "") -> Value:
    """Return the value in another shape."""
    if value.shape == tuple(shape):
        return value
    return rewriter.emit("reshape", (value,), value.dtype, shape, where=where)


def broadcast(
    rewriter: Rewriter, value: Value, shape: Sequence[int], dimensions: Sequence[int], where: str = ""
) -> Value:
    """Return the value with its dimensions placed at `dimensions` of a shape and repeated along the others."""
    found = {"dimensions": tuple(dimensions)}
    return rewriter.emit("broadcast_in_dim", (value,), value.dtype, shape, found, where)


def transpose(rewriter: Rewriter, value: Value, permutation: Sequence[int], where: str = "") -> Value:
    """Return the value with permuted dimensions."""
    shape = [value.shape[i] for i in permutation]
    return rewriter.emit("transpose", (value,), value.dtype, shape, {"permutation": tuple(permutation)}, where)


def same_reshape(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """reshape(x) of the same shape -> x."""
    del rewriter
    return node.inputs if node.inputs[0].shape == node.output.shape else None


def merge_reshapes(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """reshape(reshape(x)) -> reshape(x)."""
    inner = rewriter.producer(node.inputs[0], "reshape")
    return None if inner is None else (reshape(rewriter, inner.inputs[0], node.output.shape, node.where),)


def reshape_of_broadcast(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """reshape(broadcast(x)) that only adds or drops extents of 1 -> broadcast(x)."""
    inner = rewriter.producer(node.inputs[0], "broadcast_in_dim")
    if inner is None:
        return None
    places = _kept_places(inner.output.shape, node.output.shape)
    if places is None:
        return None
    dimensions = [places[i] for i in inner.attributes["dimensions"]]
    return (broadcast(rewriter, inner.inputs[0], node.output.shape, dimensions, node.where),)


def reshape_of_iota(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """reshape(iota) that only adds or drops extents of 1 -> iota."""
    inner = rewriter.producer(node.inputs[0], "iota")
    if inner is None:
        return None
    places = _kept_places(inner.output.shape, node.output.shape)
    if places is None or inner.attributes["dimension"] not in places:
        return None
    found = {"dimension": places[inner.attributes["dimension"]]}
    return (rewriter.emit("iota", (), node.output.dtype, node.output.shape, found, node.where),)


def _kept_places(old: Shape, new: Shape) -> dict[int, int] | None:
    """Map each dimension of `old` with an extent other than 1 to its place in `new`, if only extents of 1 differ."""
    left = [i for i, extent in enumerate(old) if extent != 1]
    right = [i for i, extent in enumerate(new) if extent != 1]
    if [old[i] for i in left] != [new[i] for i in right]:
        return None
    return dict(zip(left, right, strict=True))


def trivial_iota(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """Iota along an extent of 1, or without elements -> constant 0."""
    if node.output.size and node.output.shape[node.attributes["dimension"]] != 1:
        return None
    return (zeros(rewriter, node.output, node.where),)


def canonical_broadcast(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """broadcast(x) that repeats nothing -> reshape(x); x is put in order and its extents of 1 are dropped first."""
    (value,) = node.inputs
    dimensions = node.attributes["dimensions"]
    order = sorted(range(len(dimensions)), key=lambda i: dimensions[i])
    if order != list(range(len(order))):
        ordered = transpose(rewriter, value, order, node.where)
        return (broadcast(rewriter, ordered, node.output.shape, sorted(dimensions), node.where),)
    if value.size == node.output.size:
        return (reshape(rewriter, value, node.output.shape, node.where),)
    if 1 not in value.shape:
        return None
    kept = [i for i, extent in enumerate(value.shape) if extent != 1]
    squeezed = reshape(rewriter, value, [value.shape[i] for i in kept], node.where)
    return (broadcast(rewriter, squeezed, node.output.shape, [dimensions[i] for i in kept], node.where),)


def merge_broadcasts(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """broadcast(broadcast(x)) -> broadcast(x), and broadcast(iota) -> iota."""
    inner = rewriter.producer(node.inputs[0], "broadcast_in_dim", "iota")
    if inner is None:
        return None
    places = node.attributes["dimensions"]
    if inner.op == "iota":
        found = {"dimension": places[inner.attributes["dimension"]]}
        return (rewriter.emit("iota", (), node.output.dtype, node.output.shape, found, node.where),)
    dimensions = [places[i] for i in inner.attributes["dimensions"]]
    return (broadcast(rewriter, inner.inputs[0], node.output.shape, dimensions, node.where),)


def canonical_transpose(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """transpose(x) that moves extents of 1 only -> reshape(x)."""
    (value,) = node.inputs
    moved = [i for i in node.attributes["permutation"] if value.shape[i] != 1]
    return (reshape(rewriter, value, node.output.shape, node.where),) if moved == sorted(moved) else None


def merge_transposes(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """transpose(transpose(x)) -> transpose(x)."""
    inner = rewriter.producer(node.inputs[0], "transpose")
    if inner is None:
        return None
    permutation = [inner.attributes["permutation"][i] for i in node.attributes["permutation"]]
    return (transpose(rewriter, inner.inputs[0], permutation, node.where),)


def transpose_of_broadcast(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """transpose(broadcast(x)) -> broadcast(x), where the dimensions of x stay in order; transpose(iota) -> iota."""
    inner = rewriter.producer(node.inputs[0], "broadcast_in_dim", "iota")
    if inner is None:
        return None
    permutation = node.attributes["permutation"]
    if inner.op == "iota":
        found = {"dimension": permutation.index(inner.attributes["dimension"])}
        return (rewriter.emit("iota", (), node.output.dtype, node.output.shape, found, node.where),)
    dimensions = [permutation.index(i) for i in inner.attributes["dimensions"]]
    if dimensions != sorted(dimensions):
        return None
    return (broadcast(rewriter, inner.inputs[0], node.output.shape, dimensions, node.where),)


def same_convert(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """convert(x) to its own dtype -> x; likewise bitcast_convert."""
    del rewriter
    return node.inputs if node.inputs[0].dtype == node.output.dtype else None


def bitcast_undone(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """bitcast_convert(bitcast_convert(x)) back to the type of x -> x."""
    inner = rewriter.producer(node.inputs[0], "bitcast_convert")
    if inner is None:
        return None
    (value,) = inner.inputs
    return (value,) if (value.dtype, value.shape) == (node.output.dtype, node.output.shape) else None


def whole_slice(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """slice(x) of everything -> x."""
    del rewriter
    return node.inputs if node.inputs[0].shape == node.output.shape else None


def canonical_reverse(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """reverse(x) along extents of 1 -> x; a reverse of a reverse turns the dimensions that differ."""
    (value,) = node.inputs
    dimensions = node.attributes["dimensions"]
    turned = {i for i in dimensions if value.shape[i] != 1}
    inner = rewriter.producer(value, "reverse")
    if inner is not None:
        value, turned = inner.inputs[0], turned ^ set(inner.attributes["dimensions"])
    if not turned:
        return (value,)
    if inner is None and len(turned) == len(dimensions):
        return None
    found = {"dimensions": tuple(sorted(turned))}
    return (rewriter.emit("reverse", (value,), value.dtype, value.shape, found, node.where),)


def empty_pad(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """pad(x) by nothing -> x; pad of no elements -> broadcast(value)."""
    value, filler = node.inputs
    found = node.attributes
    if value.size == 0:
        return (broadcast(rewriter, filler, node.output.shape, (), node.where),)
    spaced = any(n and extent > 1 for n, extent in zip(found["interior"], value.shape, strict=True))
    return None if any(found["low"]) or any(found["high"]) or spaced else (value,)


def small_concatenate(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """concatenate(x) -> x; parts without elements are dropped, nested concatenations along one dimension are joined."""
    dimension = node.attributes["dimension"]
    parts: list[Value] = []
    for value in node.inputs:
        inner = rewriter.producer(value, "concatenate")
        if inner is not None and inner.attributes["dimension"] == dimension:
            parts.extend(inner.inputs)
        elif value.size:
            parts.append(value)
    if len(parts) == 1:
        return (parts[0],)
    if tuple(parts) == node.inputs:
        return None
    output = node.output
    return (rewriter.emit("concatenate", tuple(parts), output.dtype, output.shape, node.attributes, node.where),)


def concatenate_of_copies(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """concatenate(x, broadcast(x)), of which x has one element along the axis -> broadcast(x)."""
    dimension, output = node.attributes["dimension"], node.output
    kept = [axis for axis, extent in enumerate(output.shape) if axis != dimension and extent != 1]
    copied: set[Value] = set()
    for part in node.inputs:
        inner = rewriter.producer(part, "broadcast_in_dim")
        if inner is not None and list(inner.attributes["dimensions"]) == kept:
            copied.add(inner.inputs[0])
        elif part.shape[dimension] == 1:
            copied.add(reshape(rewriter, part, [output.shape[axis] for axis in kept], node.where))
        else:
            return None
    return (broadcast(rewriter, copied.pop(), output.shape, kept, node.where),) if len(copied) == 1 else None


def constant_select(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """select(constant true, x, y) -> x."""
    predicate = rewriter.splat(node.inputs[0])
    return None if predicate is None else (node.inputs[1] if bool(predicate) else node.inputs[2],)


def plain_select(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """select(p, true, false) -> p."""
    predicate, yes, no = node.inputs
    if node.output.dtype != "bool" or predicate.shape != node.output.shape:
        return None
    chosen = rewriter.splat(yes), rewriter.splat(no)
    return (predicate,) if all(each is not None for each in chosen) and chosen == (True, False) else None


def reduce_nothing(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """reduce(x) over no elements -> broadcast(init)."""
    count = len(node.outputs)
    arrays, inits = node.inputs[:count], node.inputs[count:]
    if any(arrays[0].shape[i] == 0 for i in node.attributes["dimensions"]):
        return tuple(broadcast(rewriter, init, node.outputs[0].shape, (), node.where) for init in inits)
    return None


def window_of_one(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """reduce_window(x) over windows of one element, none of them padding, from what changes nothing on -> x."""
    found, count = node.attributes, len(node.outputs)
    is_same = node.inputs[0].shape == node.outputs[0].shape and not any((*found["low"], *found["high"]))
    if not is_same or count > 1 or not found["kind"] or not set(found["window"]) <= {1}:
        return None
    return node.inputs[:1] if changes_nothing(rewriter, node.inputs[1], found["kind"]) else None


def dot_of_nothing(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """dot_general over no elements -> zeros."""
    return None if all(value.size for value in node.inputs) else (zeros(rewriter, node.output, node.where),)


def update_of_nothing(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """dynamic_update_slice(x) of no elements -> x; scatter of no updates -> x."""
    del rewriter
    if node.op == "dynamic_update_slice":
        return None if node.inputs[1].size else (node.inputs[0],)
    count = len(node.outputs)
    return None if node.inputs[count + 1].size else node.inputs[:count]


RULES: dict[str, tuple[Rule, ...]] = {
    "bitcast_convert": (same_convert, bitcast_undone),
    "broadcast_in_dim": (canonical_broadcast, merge_broadcasts),
    "concatenate": (small_concatenate, concatenate_of_copies),
    "convert": (same_convert,),
    "dot_general": (dot_of_nothing,),
    "dynamic_update_slice": (update_of_nothing,),
    "iota": (trivial_iota,),
    "pad": (empty_pad,),
    "reduce": (reduce_nothing,),
    "reduce_window": (window_of_one,),
    "reshape": (same_reshape, merge_reshapes, reshape_of_broadcast, reshape_of_iota),
    "reverse": (canonical_reverse,),
    "scatter": (update_of_nothing,),
    "select": (constant_select, plain_select),
    "slice": (whole_slice,),
    "transpose": (canonical_transpose, merge_transposes, transpose_of_broadcast),
}
