"""What happens to the error of a score on its way through a traced function, and what the function adds by rounding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from .enclose import evaluated, interval_of
from .evaluate import Evaluation
from .graph import Step, Value

# Results are operands, or parts of them, or the largest or the least.
_CHOOSES = frozenset(
    {"broadcast_in_dim", "clamp", "copy", "expand_dims", "max", "min", "neg", "abs", "optimization_barrier", "reshape",
     "rev", "select_n", "slice", "squeeze", "stop_gradient", "transpose", "convert_element_type", "concatenate",
     "dynamic_slice", "gather"}
)  # fmt: skip
# Units in the last place that elementary functions may be off by, with room; see docs/theory/intervals.md.
_ELEMENTARY, _EXP2 = 16, 128


class Followed(NamedTuple):
    """Bounds for all pairs of two tiles.

    Attributes:
        slope: how many times its own change a change of the score may grow to.
        rounding: how far the computed result may be from the exact one, for an exact score.
    """

    slope: Float[Array, "*batch"]
    rounding: Float[Array, "*batch"]


def follow(function: Callable[..., Any], score: Any, *others: Any) -> Followed:
    """Bound the growth of errors of a function's first argument, and its own rounding.

    A result y = f(x_1, x_2, ...) of a step is off by sum_i |df / dx_i| (error of x_i) + units eps |y|, each factor by
    its largest value over the intervals. Steps that jump, such as rounding or a choice that depends on the score, and
    primitives without a rule have no bound: infinity.

    Args:
        function: (score, others) -> number.
        score: an ``Interval`` that holds the computed scores as well as the exact ones.
        others: intervals and numbers, taken as exact.

    Source: Higham 2002, chapter 3 (running error analysis).
    """
    found, _ = evaluated(function, (score, *others), set())
    graph = found.graph
    walk = _Walk(found, {each: _NOTHING for each in graph.inputs} | {graph.inputs[0]: (1.0, None)})
    known = walk(graph.roots[0])
    slope, rounding = (jnp.zeros(()) if each is None else jnp.asarray(each) for each in known)
    return Followed(*(jnp.where(jnp.isnan(each), jnp.inf, each) for each in (slope, rounding)))


# A value that no score and no rounding moves.
_NOTHING = None, None


@dataclass(frozen=True, eq=False)
class _Walk:
    """Slope and rounding of each value, as far as they are known."""

    found: Evaluation
    known: dict[Value, tuple[Any, Any]]

    def __call__(self, value: Value) -> tuple[Any, Any]:
        if value not in self.known:
            self.known[value] = _NOTHING if value.step is None else self._through(value.step, value)
        return self.known[value]

    def _through(self, step: Step, value: Value) -> tuple[Any, Any]:
        pairs = [self(operand) for operand in step.operands]
        slopes, errors = zip(*pairs, strict=True) if pairs else ((), ())
        is_moved = any(slope is not None for slope in slopes)
        name, is_real = step.primitive.name, jnp.issubdtype(value.aval.dtype, jnp.floating)
        if not is_real:
            # Truths and integers jump.
            return (jnp.inf, jnp.inf) if is_moved else _NOTHING
        if name in _CHOOSES:
            # What chooses, or says where, is an operand too: if the score moves it, its slope is infinite.
            return _largest(slopes), _plus(_largest(errors), self._rounds(step, value, name))
        factors = self._factors(step, name)
        if factors is None:
            return (jnp.inf, jnp.inf) if is_moved else (None, _ELEMENTARY * self._unit(value))
        slope, error = (_added(factors, each) for each in (slopes, errors))
        return slope, _plus(error, self._rounds(step, value, name))

    def _size(self, value: Value) -> Any:
        """Return at least how large a value is; what is hidden by minus infinity is not."""
        low, high = self._ends(value)
        return jnp.maximum(jnp.where(low == -jnp.inf, 0, jnp.abs(low)), jnp.abs(high))

    def _ends(self, value: Value) -> tuple[Any, Any]:
        """Return between which numbers all elements of a value lie."""
        low, high = interval_of(self.found(value))
        return jnp.min(low), jnp.max(high)

    def _unit(self, value: Value) -> Any:
        return jnp.finfo(value.aval.dtype).eps * self._size(value)

    def _rounds(self, step: Step, value: Value, name: str) -> Any:
        if name == "convert_element_type":
            before, after = step.operands[0].aval.dtype, value.aval.dtype
            is_exact = jnp.issubdtype(before, jnp.floating) and jnp.finfo(before).eps >= jnp.finfo(after).eps
            return None if is_exact or before == jnp.bool_ else self._unit(value)
        if name in _CHOOSES:
            return None
        return {"add": 1, "sub": 1, "mul": 1, "square": 1, "div": 3, "exp2": _EXP2}.get(name, _ELEMENTARY) * self._unit(
            value
        )

    def _factors(self, step: Step, name: str) -> list[Any] | None:
        """Return how fast a result changes at most with each operand; None where that is not known."""
        sizes = [self._size(operand) for operand in step.operands]
        if name in ("add", "sub", "add_any"):
            return [1.0, 1.0]
        if name == "mul":
            return [sizes[1], sizes[0]]
        if name == "div":
            low, high = self._ends(step.operands[1])
            least = jnp.where((low > 0) | (high < 0), jnp.minimum(jnp.abs(low), jnp.abs(high)), 0)
            return [1 / least, sizes[0] / jnp.square(least)]
        if name == "integer_pow" and step.params["y"] > 0:
            return [step.params["y"] * sizes[0] ** (step.params["y"] - 1)]
        return [_SLOPES[name](*self._ends(step.operands[0]))] if name in _SLOPES else None


# The largest slope of a function of one number between two ends.
_SLOPES: dict[str, Callable[[Any, Any], Any]] = {
    "square": lambda low, high: 2 * jnp.maximum(jnp.abs(low), jnp.abs(high)),
    **dict.fromkeys(("tanh", "sin", "cos", "logistic"), lambda low, high: 1.0),
    "erf": lambda low, high: 1.13,
    **dict.fromkeys(("exp", "expm1"), lambda low, high: jnp.exp(high)),
    "exp2": lambda low, high: jnp.exp2(high),
    "log": lambda low, high: 1 / jnp.maximum(low, 0),
    "log1p": lambda low, high: 1 / jnp.maximum(1 + low, 0),
    "sqrt": lambda low, high: 0.5 / jnp.sqrt(jnp.maximum(low, 0)),
}


def _largest(numbers: Sequence[Any]) -> Any:
    moved = [each for each in numbers if each is not None]
    return reduce(jnp.maximum, moved) if moved else None


def _added(factors: Sequence[Any], numbers: Sequence[Any]) -> Any:
    """Add up products; what does not move adds nothing, however fast."""
    terms = [factor * each for factor, each in zip(factors, numbers, strict=True) if each is not None]
    return sum(terms[1:], terms[0]) if terms else None


def _plus(first: Any, second: Any) -> Any:
    return second if first is None else first if second is None else first + second
