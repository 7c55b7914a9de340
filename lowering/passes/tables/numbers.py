"""What a pass adds to a graph around its kernels: new values, reciprocals, and whether arrays are moderate."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ...graph import Graph, Node, Value

MODERATE = 1e6
"""Numbers up to which arrays are moderate: a thin product of them is finite, times three more of them."""

LARGEST = 1e38
"""A number that f32 holds, of any sign, with its errors of rounding."""


@dataclass(eq=False)
class Numbers:
    """Hands out numbers of values, and nodes that several kernels share."""

    next_id: int
    nodes: list[Node] = field(default_factory=list)
    _inverse: dict[Value, Value] = field(default_factory=dict)
    _asked: dict[tuple[Value, ...], Value] = field(default_factory=dict)

    def fresh(self, dtype: str, shape: tuple[int, ...]) -> Value:
        """Return a new value."""
        self.next_id += 1
        return Value(self.next_id - 1, dtype, shape)

    def reciprocal(self, value: Value) -> Value:
        """Return 1 / value, f32, without axes of one element; infinity below 2^-128, where a quotient may be none."""
        if value not in self._inverse:
            shape = tuple(extent for extent in value.shape if extent != 1)
            narrow = value if shape == value.shape else self._put("reshape", (value,), "f32", shape)
            self._inverse[value] = self._put("divide", (self._full(1, shape), narrow), "f32", shape)
        return self._inverse[value]

    def are_moderate(self, arrays: tuple[Value, ...]) -> Value:
        """Return bool[1]: whether no element of arrays of one shape is a NaN, or larger than `MODERATE`."""
        if arrays not in self._asked:
            shape = arrays[0].shape
            each, *more = [self._is_small(value) for value in arrays]
            for other in more:
                each = self._put("and", (each, other), "bool", shape)
            yes = self._put("constant", (), "bool", (), value=np.array(True))
            left, right, both = (Value(number, "bool", ()) for number in range(3))
            body = Graph("body", (left, right), (Node("and", (left, right), (both,)),), (both,))
            axes = tuple(range(len(shape)))
            total = self._put("reduce", (each, yes), "bool", (), dimensions=axes, kind="and", body=body)
            self._asked[arrays] = self._put("reshape", (total,), "bool", (1,))
        return self._asked[arrays]

    def _is_small(self, value: Value) -> Value:
        """Return where the elements of an array are moderate."""
        wide = value if value.dtype == "f32" else self._put("convert", (value,), "f32", value.shape)
        size = self._put("abs", (wide,), "f32", value.shape)
        attributes = {"direction": "LT", "total_order": False}
        return self._put("compare", (size, self._full(MODERATE, value.shape)), "bool", value.shape, **attributes)

    def _full(self, number: float, shape: tuple[int, ...]) -> Value:
        return self._put("constant", (), "f32", shape, value=np.array(number, np.float32))

    def _put(
        self, op: str, inputs: tuple[Value, ...], dtype: str, shape: tuple[int, ...], **attributes: object
    ) -> Value:
        made = self.fresh(dtype, shape)
        self.nodes.append(Node(op, inputs, (made,), attributes))
        return made
