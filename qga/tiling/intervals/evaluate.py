"""Bounds of every value of a graph, and tighter ones of what a choice takes where its condition is known to hold.

where(distance < 8, distance, logarithm(distance)): the logarithm is bounded for distances of at least 8 only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np

from .box import Box, is_real, limits, meet, point
from .graph import Graph, Step, Value
from .rules import bound_step

Facts = dict[Value, Box]

# Conditions within conditions, each of which walks what depends on it once more.
_DEEPEST = 2


@dataclass(eq=False)
class Evaluation:
    """What is known of a graph's values while its arguments lie in boxes, and maybe while facts hold.

    Attributes:
        graph: the function.
        arguments: a box for each input.
        missed: names of primitives without a rule, added as they are met.
        facts: of some values, on top of what follows from the arguments.
        outer: what is known without the facts.
    """

    graph: Graph
    arguments: Sequence[Box]
    missed: set[str]
    facts: Facts = field(default_factory=dict)
    outer: Evaluation | None = None

    def __post_init__(self) -> None:
        self._known: dict[Value | Step, Any] = {}
        if self.outer is None:
            self._known |= dict(zip(self.graph.inputs, self.arguments, strict=True))
        self._worlds: dict[tuple[Value, int], Evaluation] = {}
        self._moved: set[Step] = set()
        for step in self.graph.steps if self.facts else ():
            if any(map(self._is_moved, step.operands)):
                self._moved.add(step)

    def __call__(self, value: Value) -> Box:
        """Bound a value: what it depends on first, however long the chain."""
        waiting = [value]
        while waiting:
            top = waiting[-1]
            lacking = [] if self._has(top) or top.step is None else [v for v in top.step.operands if not self._has(v)]
            if lacking:
                waiting += lacking
                continue
            if not self._has(top):
                self._known[top] = self._find(top)
            waiting.pop()
        return self._known[value] if self.outer is None or self._is_moved(value) else self.outer(value)

    def under(self, which: Value, truth: int) -> Evaluation:
        """Return what is known where a condition has an outcome."""
        if (which, truth) not in self._worlds:
            facts = dict(_implied(self, which, truth)) if self._depth() < _DEEPEST else {}
            world = Evaluation(self.graph, self.arguments, self.missed, facts, self) if facts else self
            self._worlds[which, truth] = world
        return self._worlds[which, truth]

    def _has(self, value: Value) -> bool:
        return value in self._known if self.outer is None or self._is_moved(value) else True

    def _depth(self) -> int:
        return 0 if self.outer is None else 1 + self.outer._depth()

    def _is_moved(self, value: Value) -> bool:
        """Tell whether a value depends on one that there is a fact about."""
        return value in self.facts or value.step in self._moved

    def _find(self, value: Value) -> Box:
        if value.step is None:
            box = point(value.constant) if self.outer is None else self.outer(value)
        else:
            box = self._results(value.step)[value.number]
            box = box if self.outer is None else _narrowed(box, self.outer(value))
        return _narrowed(box, self.facts[value]) if value in self.facts else box

    def _results(self, step: Step) -> list[Box]:
        if step not in self._known:
            self._known[step] = bound_step(step, self._operands(step), self.missed)
        return self._known[step]

    def _operands(self, step: Step) -> list[Box]:
        if step.primitive.name != "select_n" or step.operands[0].aval.shape:
            return [self(each) for each in step.operands]
        which, *cases = step.operands
        return [self(which), *(self.under(which, number)(case) for number, case in enumerate(cases))]


def _narrowed(box: Box, fact: Box) -> Box:
    return box if box.low is None or box.is_point else meet(box, fact)


def _implied(found: Evaluation, which: Value, truth: int) -> Iterable[tuple[Value, Box]]:
    """Yield what follows for values, if a condition has an outcome."""
    step = which.step
    if step is None:
        return
    name, operands = step.primitive.name, step.operands
    if (name == "convert_element_type" and operands[0].aval.dtype == jnp.bool_) or name == "copy":
        yield from _implied(found, operands[0], truth)
    elif name == "not" and which.aval.dtype == jnp.bool_:
        yield from _implied(found, operands[0], 1 - truth)
    elif name in ("and", "or") and which.aval.dtype == jnp.bool_ and truth == (name == "and"):
        both: Facts = {}
        for each in operands:
            for value, fact in _implied(found, each, truth):
                both[value] = meet(both[value], fact) if value in both else fact
        yield from both.items()
    elif name in _COMPARED and operands[0].aval.dtype != jnp.bool_:
        yield from _compared(found, _COMPARED[name][1 - truth], *operands)


# What a comparison says if it is true and if it is not.
_COMPARED = {
    "lt": ("<", ">="), "le": ("<=", ">"), "gt": (">", "<="), "ge": (">=", "<"), "eq": ("=", ""), "ne": ("", "="),
}  # fmt: skip


def _compared(found: Evaluation, relation: str, first: Value, second: Value) -> Iterable[tuple[Value, Box]]:
    """Yield what a relation of two numbers says of each."""
    if first is second:
        return
    one, other = found(first), found(second)
    low, high = limits(first.aval.dtype)
    # Of integers one is less than the other by one at least.
    strict = 0 if is_real(one) or "=" in relation else 1
    step = np.asarray(strict, first.aval.dtype)
    ways = {"<": (False, True), ">": (True, False), "=": (True, True)}.get(relation[:1], (False, False))
    for value, far in ((first, other), (second, one)):
        above, below = ways if value is first else ways[::-1]
        if not value.aval.shape and value.constant is None and (above or below):
            yield value, Box(far.low + step if above else low, far.high - step if below else high)
