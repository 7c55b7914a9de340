"""Scatters that are no scatters: into an array of one number, with updates of which no two can meet."""

from __future__ import annotations

from dataclasses import dataclass

from ...graph import Node, Value
from ..rewriting import Rewriter, Rule
from .indexing import slice_
from .movement import broadcast, reshape

_COMBINATIONS = {
    "set": None, "add": "add", "mul": "multiply", "max": "maximum", "min": "minimum", "and": "and", "or": "or",
    "xor": "xor",
}  # fmt: skip
# Indices whose dtype has a number for every place of an array.
_WIDE = frozenset({"i32", "u32", "i64", "u64"})


@dataclass(frozen=True)
class _Places:
    """Which dimension of the operand each dimension of indices and update follows; `None` has extent one."""

    indices: tuple[int | None, ...]
    update: tuple[int | None, ...]


def scatter_into_filled(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    """scatter(c, i, u) with one update for each position of the batch -> select(iota == i, c + u, c).

    An elementwise expression fuses with what reads it: the gradient of picking one element of each row is never stored.
    """
    found = node.attributes
    if len(node.outputs) != 1 or found["kind"] not in _COMBINATIONS or rewriter.splat(node.inputs[0]) is None:
        return None
    operand, indices, update = node.inputs
    places = _places(node)
    if places is None or indices.dtype not in _WIDE:
        return None
    result = _spread(rewriter, update, places.update, operand.shape, node.where)
    operation = _COMBINATIONS[found["kind"]]
    if operation is not None:
        result = rewriter.emit(operation, (operand, result), operand.dtype, operand.shape, where=node.where)
    for part, axis in enumerate(found["scatter_dims_to_operand_dims"]):
        index = _component(rewriter, indices, found["index_vector_dim"], part, node.where)
        wanted = _spread(rewriter, index, places.indices, operand.shape, node.where)
        here = rewriter.emit("iota", (), indices.dtype, operand.shape, {"dimension": axis}, node.where)
        compared = {"direction": "EQ", "total_order": False}
        is_here = rewriter.emit("compare", (here, wanted), "bool", operand.shape, compared, node.where)
        chosen = (is_here, result, operand)
        result = rewriter.emit("select", chosen, operand.dtype, operand.shape, where=node.where)
    return (result,)


def _places(node: Node) -> _Places | None:
    """Return where dimensions go, or `None` if two updates may meet or a window may be moved to where it sticks out."""
    found = node.attributes
    operand, indices, update = node.inputs
    batched, moved = found["input_batching_dims"], found["scatter_dims_to_operand_dims"]
    hidden = {*found["inserted_window_dims"], *batched}
    shown = [axis for axis in range(len(operand.shape)) if axis not in hidden]
    windows = sorted(found["update_window_dims"])
    to_operand: list[int | None] = [None] * len(update.shape)
    for dimension, axis in zip(windows, shown, strict=True):
        whole = update.shape[dimension] == operand.shape[axis]
        if not (update.shape[dimension] == 1 if axis in moved else whole):
            return None
        to_operand[dimension] = axis if whole else None
    counted = [axis for axis in range(len(indices.shape)) if axis != found["index_vector_dim"]]
    follows = dict(zip(found["scatter_batching_dims"], batched, strict=True))
    scattered = [dimension for dimension in range(len(update.shape)) if dimension not in windows]
    for dimension, axis in zip(scattered, counted, strict=True):
        if axis not in follows and update.shape[dimension] != 1:
            return None
        to_operand[dimension] = follows.get(axis)
    inserted = [axis for axis in hidden if axis not in batched and axis not in moved and operand.shape[axis] != 1]
    return None if inserted else _Places(tuple(follows.get(axis) for axis in counted), tuple(to_operand))


def _component(rewriter: Rewriter, indices: Value, vector: int, part: int, where: str) -> Value:
    """Return one number of every index vector, without the dimension that the vectors lie along."""
    if vector == len(indices.shape):
        return indices
    start = [part if axis == vector else 0 for axis in range(len(indices.shape))]
    limit = [part + 1 if axis == vector else extent for axis, extent in enumerate(indices.shape)]
    taken = slice_(rewriter, indices, start, limit, [1] * len(limit), where)
    return reshape(rewriter, taken, [extent for axis, extent in enumerate(indices.shape) if axis != vector], where)


def _spread(
    rewriter: Rewriter, value: Value, axes: tuple[int | None, ...], shape: tuple[int, ...], where: str
) -> Value:
    """Return a value repeated over a shape, its dimensions at `axes` of it."""
    kept = [dimension for dimension, axis in enumerate(axes) if axis is not None]
    squeezed = reshape(rewriter, value, [value.shape[dimension] for dimension in kept], where)
    return broadcast(rewriter, squeezed, shape, [axis for axis in axes if axis is not None], where)


RULES: dict[str, tuple[Rule, ...]] = {"scatter": (scatter_into_filled,)}
