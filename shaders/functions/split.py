"""Round to bf16 on the float pipe where numbers are of ordinary size, and tell afterwards whether all were."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .exact import exact

if TYPE_CHECKING:
    from ..spirv import Builder, Value

SPLIT_CONTROLS = frozenset({"rounding_rte_32", "signed_zero_inf_nan_preserve_32"})
"""With these in force products and sums round to nearest even, and keep infinities and NaN."""

# 2^16 + 1: the sum of its product leaves 24 - 16 leading bits.
_SPLITTER = 65537.0
_INFINITY = 0x7F800000


class Split:
    """Rounding by Veltkamp's splitting while it is a builder's `narrow`; good if `is_good` at the end.

    t = 65537 x, then t - (t - x) has the 8 leading bits of x, rounded to nearest even: three operations on the float
    pipe, which on many GPUs is twice as wide as that of integers, for six. From 2^111 on, t overflows and the result is
    NaN, as that of an infinity is. The sum of the squares of all results tells it, or takes large numbers for it.

    Source: T. J. Dekker, A floating-point technique for extending the available precision, 1971.
    """

    def __init__(self, builder: Builder) -> None:
        self.builder, self.block = builder, builder.block
        self.squares = builder.const("f32", 0.0)

    def __call__(self, x: Value) -> Value | None:
        """Return the f32 of the bf16 nearest to an f32, or None in a branch or loop, of which the sum knows nothing."""
        if self.builder.block != self.block or x.dtype != "f32":
            return None
        large = exact(x * _SPLITTER)
        result = exact(large - exact(large - x))
        self.squares = self.builder.math("fma", result, result, self.squares)
        return result

    def is_good(self) -> Value:
        """Whether every result so far is the nearest; by bits, since compilers may take floats for numbers."""
        return self.builder.bitcast(self.squares, "u32") < _INFINITY
