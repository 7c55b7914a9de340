"""Reads and writes at computed places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..graph import Node
from .bodies import run_body
from .meaning import Arrays, Meaning, RunGraph


def gather(node: Node, inputs: Arrays, run: RunGraph) -> tuple[np.ndarray, ...]:
    """Read a slice for each index vector; starts are clamped so that slices lie inside."""
    del run
    array, start = inputs
    found = node.attributes
    sizes = found["slice_sizes"]
    starts = _starts(
        start,
        found["index_vector_dim"],
        array.ndim,
        found["start_index_map"],
        found["operand_batching_dims"],
        found["start_batching_dims"],
    )
    starts = [np.clip(s, 0, extent - size) for s, extent, size in zip(starts, array.shape, sizes, strict=True)]
    dropped = (*found["collapsed_slice_dims"], *found["operand_batching_dims"])
    kept = [i for i in range(array.ndim) if i not in dropped]
    places = _places(starts, sizes, kept)
    values = array[places] if places else np.broadcast_to(array, starts_shape(start, found["index_vector_dim"]))
    return (_interleave(values, len(kept), found["offset_dims"]),)


def scatter(node: Node, inputs: Arrays, run: RunGraph) -> tuple[np.ndarray, ...]:
    """Combine updates into copies of the arrays, in row-major order; a window that does not fit is dropped whole."""
    count = len(node.outputs)
    arrays, indices, updates = inputs[:count], inputs[count], inputs[count + 1 :]
    flat, flat_updates = _scatter_places(arrays[0], indices, updates, node.attributes)
    results = [np.array(array).reshape(-1) for array in arrays]
    for chosen in _rounds(flat):
        places = flat[chosen]
        old = [result[places] for result in results]
        new = run_body(node.attributes["body"], old, [update[chosen] for update in flat_updates], run)
        for result, values in zip(results, new, strict=True):
            result[places] = values
    return tuple(result.reshape(array.shape) for result, array in zip(results, arrays, strict=True))


def _scatter_places(
    array: np.ndarray, indices: np.ndarray, updates: Arrays, found: Mapping[str, Any]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the flat place of each update element that fits, and those elements, in row-major order of the updates."""
    windows = found["update_window_dims"]
    batch_dims = [i for i in range(updates[0].ndim) if i not in windows]
    inserted = (*found["inserted_window_dims"], *found["input_batching_dims"])
    kept = [i for i in range(array.ndim) if i not in inserted]
    sizes = [1] * array.ndim
    for dimension, window in zip(kept, sorted(windows), strict=True):
        sizes[dimension] = updates[0].shape[window]
    starts = _starts(
        indices,
        found["index_vector_dim"],
        array.ndim,
        found["scatter_dims_to_operand_dims"],
        found["input_batching_dims"],
        found["scatter_batching_dims"],
    )
    fits = np.ones(starts_shape(indices, found["index_vector_dim"]), np.bool_)
    for start, extent, size in zip(starts, array.shape, sizes, strict=True):
        fits = fits & (start >= 0) & (start <= extent - size)
    full = [fits.shape[i] for i in range(fits.ndim)] + [sizes[i] for i in kept]
    flat = np.zeros(full, np.int64)
    for place, extent in zip(_places(starts, sizes, kept), array.shape, strict=True):
        flat = flat * extent + place
    inside = np.broadcast_to(fits.reshape([*fits.shape, *([1] * len(kept))]), full)
    # Row-major order of the updates decides who comes last, so the places are laid out like them.
    inverse = np.argsort([*batch_dims, *sorted(windows)])
    flat, inside = flat.transpose(inverse), inside.transpose(inverse)
    return flat[inside], [update[inside] for update in updates]


def _rounds(flat: np.ndarray) -> list[np.ndarray]:
    """Split positions into rounds with distinct places each, earlier positions of a place in earlier rounds."""
    if flat.size == 0:
        return []
    order = np.argsort(flat, kind="stable")
    ordered = flat[order]
    is_first = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    positions = np.arange(flat.size)
    rank = positions - np.maximum.accumulate(np.where(is_first, positions, 0))
    by_rank = np.argsort(rank, kind="stable")
    return [order[chosen] for chosen in np.split(by_rank, np.cumsum(np.bincount(rank))[:-1])]


def starts_shape(indices: np.ndarray, index_vector_dim: int) -> tuple[int, ...]:
    """Return the shape of the batch of index vectors."""
    return tuple(n for i, n in enumerate(indices.shape) if i != index_vector_dim)


def _starts(
    indices: np.ndarray,
    index_vector_dim: int,
    rank: int,
    index_map: Sequence[int],
    batching: Sequence[int],
    indices_batching: Sequence[int],
) -> list[np.ndarray]:
    """Return the start in each dimension of the array, each over the batch of index vectors."""
    vectors = indices[..., None] if index_vector_dim == indices.ndim else np.moveaxis(indices, index_vector_dim, -1)
    # u64 beyond the range of i64 is far outside any array.
    vectors = np.minimum(vectors, np.iinfo(np.int64).max) if vectors.dtype == np.uint64 else vectors
    vectors = vectors.astype(np.int64)
    batch = vectors.shape[:-1]
    starts = [np.zeros(batch, np.int64) for _ in range(rank)]
    for component, dimension in enumerate(index_map):
        starts[dimension] = vectors[..., component]
    for dimension, along in zip(batching, indices_batching, strict=True):
        axis = along - (along > index_vector_dim)
        positions = np.arange(batch[axis]).reshape([-1 if i == axis else 1 for i in range(len(batch))])
        starts[dimension] = np.broadcast_to(positions, batch)
    return starts


def _places(starts: Sequence[np.ndarray], sizes: Sequence[int], kept: Sequence[int]) -> tuple[np.ndarray, ...]:
    """Return an index array for each dimension, broadcast over the batch and then the kept dimensions."""
    result = []
    for dimension, start in enumerate(starts):
        window = [sizes[i] if i == dimension else 1 for i in kept]
        steps = np.arange(sizes[dimension]).reshape(window) if dimension in kept else np.zeros(window, np.int64)
        result.append(start.reshape([*start.shape, *([1] * len(kept))]) + steps)
    return tuple(result)


def _interleave(values: np.ndarray, window_rank: int, offset_dims: Sequence[int]) -> np.ndarray:
    """Move the trailing window dimensions to offset_dims."""
    batch_rank = values.ndim - window_rank
    window, batch = iter(range(batch_rank, values.ndim)), iter(range(batch_rank))
    return values.transpose([next(window) if i in offset_dims else next(batch) for i in range(values.ndim)])


def dynamic_slice(node: Node, inputs: Arrays, run: RunGraph) -> tuple[np.ndarray, ...]:
    """Read a slice of fixed sizes; the start is clamped so that it lies inside."""
    del run
    array, *starts = inputs
    return (array[_window(starts, array.shape, node.attributes["sizes"])],)


def dynamic_update_slice(node: Node, inputs: Arrays, run: RunGraph) -> tuple[np.ndarray, ...]:
    """Return a copy with a slice replaced; the start is clamped so that it lies inside."""
    del node, run
    array, update, *starts = inputs
    result = np.array(array)
    result[_window(starts, array.shape, update.shape)] = update
    return (result,)


def _window(starts: Sequence[np.ndarray], shape: Sequence[int], sizes: Sequence[int]) -> tuple[slice, ...]:
    places = []
    for start, extent, size in zip(starts, shape, sizes, strict=True):
        first = min(max(int(start), 0), extent - size)
        places.append(slice(first, first + size))
    return tuple(places)


MEANINGS: dict[str, Meaning] = {
    "dynamic_slice": dynamic_slice,
    "dynamic_update_slice": dynamic_update_slice,
    "gather": gather,
    "scatter": scatter,
}
