"""What a pass adds to a graph around its kernels: new values, reciprocals, and whether arrays are moderate."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...graph import Value
from .code import Code

MODERATE = 1e6
"""Numbers up to which arrays are moderate: a thin product of them is finite, times three more of them."""

LARGEST = 1e38
"""A number that f32 holds, of any sign, with its errors of rounding."""


@dataclass(eq=False)
class Numbers(Code):
    """Nodes that several kernels share; `count` starts behind the graph's values."""

    _inverse: dict[Value, Value] = field(default_factory=dict)
    _asked: dict[tuple[Value, ...], Value] = field(default_factory=dict)

    def reciprocal(self, value: Value) -> Value:
        """Return 1 / value, f32, without axes of one element; infinity below 2^-128, where a quotient may be none."""
        if value not in self._inverse:
            shape = tuple(extent for extent in value.shape if extent != 1)
            narrow = value if shape == value.shape else self.put("reshape", [value], "f32", shape)
            self._inverse[value] = self.put("divide", [self.filled(1, "f32", shape), narrow], "f32", shape)
        return self._inverse[value]

    def are_moderate(self, arrays: tuple[Value, ...]) -> Value:
        """Return bool[1]: whether no element of arrays of one shape is a NaN, or larger than `MODERATE`."""
        if arrays not in self._asked:
            shape = arrays[0].shape
            each, *more = [self._is_small(value) for value in arrays]
            for other in more:
                each = self.put("and", [each, other], "bool", shape)
            total = self.reduce(each, "and", tuple(range(len(shape))))
            self._asked[arrays] = self.put("reshape", [total], "bool", (1,))
        return self._asked[arrays]

    def _is_small(self, value: Value) -> Value:
        """Return where the elements of an array are moderate."""
        size = self.put("abs", [self.convert(value, "f32")], "f32", value.shape)
        return self.compare(size, self.filled(MODERATE, "f32", value.shape), "LT")
