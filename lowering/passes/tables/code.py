"""Write a graph node by node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ... import dtypes
from ...bodies import binary_body, identity
from ...graph import Node, Value

NARROW = ("f16", "bf16")


def held(dtype: str) -> str:
    """Return the dtype that elements of a dtype have in a tile."""
    return "f32" if dtype in NARROW else dtype


@dataclass(eq=False)
class Code:
    """Nodes on their way into a graph, with numbers of their own."""

    nodes: list[Node] = field(default_factory=list)
    count: int = 0
    numbers: dict[int, Value] = field(default_factory=dict)

    def fresh(self, dtype: str, shape: tuple[int, ...]) -> Value:
        """Return a new value."""
        self.count += 1
        return Value(self.count - 1, dtype, shape)

    def put(self, op: str, inputs: Sequence[Value], dtype: str, shape: tuple[int, ...], **attributes: Any) -> Value:
        """Append a node and return its result."""
        made = self.fresh(dtype, shape)
        self.nodes.append(Node(op, tuple(inputs), (made,), attributes))
        return made

    def number(self, value: int) -> Value:
        """Return a position, made once."""
        if value not in self.numbers:
            self.numbers[value] = self.put("constant", (), "i32", (), value=np.array(value, np.int32))
        return self.numbers[value]

    def filled(self, value: Any, dtype: str, shape: tuple[int, ...]) -> Value:
        """Return an array of one number."""
        return self.put("constant", (), dtype, shape, value=np.asarray(value, dtypes.NUMPY[dtype]).reshape(()))

    def compare(self, left: Value, right: Value, direction: str) -> Value:
        """Return where two arrays of one shape compare like that."""
        return self.put("compare", [left, right], "bool", left.shape, direction=direction, total_order=False)

    def reduce(self, value: Value, kind: str, dimensions: tuple[int, ...]) -> Value:
        """Return an array reduced along some axes."""
        shape = tuple(extent for axis, extent in enumerate(value.shape) if axis not in dimensions)
        start, body = self.filled(identity(kind, value.dtype), value.dtype, ()), binary_body(kind, value.dtype)
        return self.put("reduce", [value, start], value.dtype, shape, dimensions=dimensions, kind=kind, body=body)

    def convert(self, value: Value, dtype: str) -> Value:
        """Return a value as another dtype."""
        return value if value.dtype == dtype else self.put("convert", [value], dtype, value.shape)

    def spread(self, value: Value, along: Sequence[int], shape: tuple[int, ...]) -> Value:
        """Return a value along more axes."""
        if value.shape == shape:
            return value
        return self.put("broadcast_in_dim", [value], value.dtype, shape, dimensions=tuple(along))

    def product(self, left: Value, right: Value, contract: tuple[int, int]) -> Value:
        """Return the f32 product of two matrices, each with the axis that is summed."""
        shape = left.shape[1 - contract[0]], right.shape[1 - contract[1]]
        return self.put(
            "dot_general", [left, right], "f32", shape,
            lhs_batch=(), rhs_batch=(), lhs_contract=(contract[0],), rhs_contract=(contract[1],), precision=(),
        )  # fmt: skip
