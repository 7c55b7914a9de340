"""Matrix products over any batch and contracting dimensions."""

from __future__ import annotations

import math

import numpy as np

from ..graph import Node
from .meaning import Arrays, Meaning, RunGraph, output_dtype, wide_dtype


def dot_general(node: Node, inputs: Arrays, run: RunGraph) -> tuple[np.ndarray, ...]:
    """Sum products over the contracting dimensions; f16 and bf16 sum in f32 and round once."""
    del run
    left, right = inputs
    found = node.attributes
    dtype = output_dtype(node)
    accumulator = np.result_type(*(wide_dtype(each) for each in (left.dtype, right.dtype, dtype)))
    rows, a = _as_matrices(left, found["lhs_batch"], found["lhs_contract"], contract_last=True)
    columns, b = _as_matrices(right, found["rhs_batch"], found["rhs_contract"], contract_last=False)
    batch = [left.shape[i] for i in found["lhs_batch"]]
    product = np.matmul(a.astype(accumulator, copy=False), b.astype(accumulator, copy=False))
    return (product.astype(dtype, copy=False).reshape([*batch, *rows, *columns]),)


def _as_matrices(
    array: np.ndarray, batch: tuple[int, ...], contract: tuple[int, ...], *, contract_last: bool
) -> tuple[list[int], np.ndarray]:
    """Return the extents of the free dimensions and the array as [batch, free, contract] or [batch, contract, free]."""
    free = [i for i in range(array.ndim) if i not in batch and i not in contract]
    order = (*batch, *free, *contract) if contract_last else (*batch, *contract, *free)
    extents = [array.shape[i] for i in free]
    sizes = math.prod(extents), math.prod(array.shape[i] for i in contract)
    shape = (math.prod(array.shape[i] for i in batch), *(sizes if contract_last else reversed(sizes)))
    return extents, array.transpose(order).reshape(shape)


MEANINGS: dict[str, Meaning] = {"dot_general": dot_general}
