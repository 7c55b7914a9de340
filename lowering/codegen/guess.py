"""Compute a run of bf16 elements as if all numbers were of ordinary size, and once more with care where one was not."""

from __future__ import annotations

from collections.abc import Callable

from shaders.functions.split import SPLIT_CONTROLS, Split

from ..graph import Node
from ..schedule import Schedule
from .expression import Expression
from .runs import Place, store_all
from .scalar.floats import ROUNDED_BINARY, ROUNDED_UNARY

# With fewer roundings to an element the second body costs more than the first one saves.
_LEAST_ROUNDINGS = 3


def is_guessed(fusion: Node, schedule: Schedule) -> bool:
    """Tell whether a kernel rounds to bf16 often enough to guess."""
    if fusion.attributes["kind"] != "map" or schedule.run == 1:
        return False
    rounded = (
        node
        for node in fusion.attributes["body"].nodes
        if node.outputs[0].dtype == "bf16" and (node.op in ROUNDED_UNARY or node.op in ROUNDED_BINARY)
    )
    return sum(1 for _ in rounded) >= _LEAST_ROUNDINGS


def store_guessed(expression: Expression, compute: Callable[[], list[list[Place]]]) -> None:
    """Store what `compute` gives, by splitting if that is good, else rounded in integers; the bits are the same."""
    builder = expression.builder
    if not builder.float_controls >= SPLIT_CONTROLS:
        store_all(expression, compute())
        return
    with expression.scope():
        builder.narrow = split = Split(builder)
        places = compute()
        builder.narrow = None

    def store(made: Callable[[], list[list[Place]]]) -> None:
        with expression.scope():
            store_all(expression, made())

    builder.branch(split.is_good(), lambda: store(lambda: places), lambda: store(compute))
