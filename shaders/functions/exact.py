"""Mark results that a driver must not contract or reassociate."""

from __future__ import annotations

from ..spirv import Builder, Value
from ..spirv.grammar import Decoration, Op


def exact(value: Value) -> Value:
    """Return the value, decorated NoContraction: its instruction is computed and rounded just as written.

    Needed where a rounding error is recovered or two parts nearly cancel. Mesa's optimizer may otherwise rewrite
    (a + b) - b as a, or a s + b s as (a + b) s.
    """
    module = value.builder
    # A memoised instruction may be marked by several callers, but may be decorated only once.
    key = (Op.Decorate, value.id, Decoration.NoContraction)
    if value.constant is None and key not in module.raw:
        module.raw[key] = value.id
        module.decorate(value.id, Decoration.NoContraction)
    return value


def fused(b: Builder, x: Value, factor: float, addend: Value) -> Value:
    """Return x factor + addend as one instruction, which a driver may round once or twice but not rearrange."""
    result = b.math("fma", x, b.const(x.dtype, factor), addend)
    assert isinstance(result, Value)
    return exact(result)
