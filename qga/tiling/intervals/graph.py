"""A traced function as a list of steps, calls inlined and branches chosen from: what intervals walk along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jax import lax
from jax.extend import core

# Where the primitives that call a function keep it.
_CALLED = {
    "pjit": "jaxpr", "jit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr", "checkpoint": "jaxpr",
    "remat": "jaxpr", "remat2": "jaxpr", "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr", "custom_lin": "call_jaxpr",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Value:
    """An input, a constant, or a result of a step.

    Attributes:
        aval: shape and dtype.
        step: what makes it; None for an input or a constant.
        number: which result of the step.
        constant: None for all others.
    """

    aval: Any
    step: Step | None = None
    number: int = 0
    constant: Any = None


@dataclass(frozen=True, eq=False)
class Step:
    """One primitive with its operands.

    Attributes:
        primitive: of JAX.
        params: of the primitive.
        operands: in order.
        avals: of the results.
    """

    primitive: Any
    params: dict[str, Any]
    operands: tuple[Value, ...]
    avals: tuple[Any, ...]

    def run(self, *arrays: Any) -> list[Any]:
        """Do it to arrays."""
        results = self.primitive.bind(*arrays, **self.params)
        return list(results) if self.primitive.multiple_results else [results]


@dataclass(frozen=True, eq=False)
class Graph:
    """A function.

    Attributes:
        inputs: its arguments.
        roots: its results.
        steps: each behind those that it reads.
    """

    inputs: tuple[Value, ...]
    roots: tuple[Value, ...]
    steps: tuple[Step, ...]


@dataclass(frozen=True, eq=False)
class _Written:
    """A graph while it is written: what is computed twice is one step, so that a fact about it holds for both.

    Attributes:
        steps: so far.
        found: constants and results by what makes them.
    """

    steps: list[Step] = field(default_factory=list)
    found: dict[Any, Any] = field(default_factory=dict)

    def literal(self, atom: Any) -> Value:
        """Return a number that stands in the program."""
        number = np.asarray(atom.val, atom.aval.dtype)
        return self.found.setdefault((str(atom.aval), number.tobytes()), Value(atom.aval, constant=number))

    def add(self, primitive: Any, params: dict[str, Any], operands: tuple[Value, ...], avals: Any) -> list[Value]:
        """Return the results of a step."""
        key: Any = (primitive, tuple(sorted(params.items())), operands)
        try:
            if key in self.found:
                return self.found[key]
        except TypeError:
            # Parameters that cannot be compared.
            key = object()
        step = Step(primitive, params, operands, tuple(avals))
        self.steps.append(step)
        return self.found.setdefault(key, [Value(aval, step, number) for number, aval in enumerate(avals)])


def graph_of(closed: core.ClosedJaxpr) -> Graph:
    """Return a traced function as a graph."""
    inputs, written = tuple(Value(each.aval) for each in closed.jaxpr.invars), _Written()
    roots = _walk(closed.jaxpr, closed.consts, inputs, written)
    return Graph(inputs, tuple(roots), tuple(written.steps))


def _walk(jaxpr: core.Jaxpr, constants: Sequence[Any], inputs: Sequence[Value], written: _Written) -> list[Value]:
    held = [Value(var.aval, constant=each) for var, each in zip(jaxpr.constvars, constants, strict=True)]
    known = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*held, *inputs), strict=True))

    def read(atom: Any) -> Value:
        return written.literal(atom) if isinstance(atom, core.Literal) else known[atom]

    for eqn in jaxpr.eqns:
        operands, name = tuple(map(read, eqn.invars)), eqn.primitive.name
        if name in _CALLED:
            results = _call(eqn.params[_CALLED[name]], operands, written)
        elif name == "cond":
            results = _choose(eqn, operands, written)
        else:
            results = written.add(eqn.primitive, dict(eqn.params), operands, [each.aval for each in eqn.outvars])
        known.update(zip(eqn.outvars, results, strict=True))
    return [read(each) for each in jaxpr.outvars]


def _call(called: Any, operands: Sequence[Value], written: _Written) -> list[Value]:
    if isinstance(called, core.ClosedJaxpr):
        return _walk(called.jaxpr, called.consts, operands, written)
    return _walk(called, (), operands, written)


def _choose(eqn: Any, operands: Sequence[Value], written: _Written) -> list[Value]:
    """Return the results of the branch that is taken: every one is walked, and one of their results selected."""
    which, *rest = operands
    branches = [_call(each, rest, written) for each in eqn.params["branches"]]
    return [
        written.add(lax.select_n_p, {}, (which, *cases), [cases[0].aval])[0] for cases in zip(*branches, strict=True)
    ]
