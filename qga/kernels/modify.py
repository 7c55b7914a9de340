"""What is done to a score before the softmax and to a weight after it: a function of one pair, traced and cut.

A function of a score and of the places of a query and a key may read any array. What it makes of one head, of one
query or of one key alone is made before a kernel starts, once for each; the kernel is given the results and runs what
is left, for whole tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend import core
from jaxtyping import Array, Float, Int

Place = Int[Array, ""]
PairFunction = Callable[..., tuple[Array, ...]]
"""(score, batch entry, head, query, key, *elements of the arrays by pair) -> (score,) or (score, factor)."""

_HEAD, _QUERY, _KEY = frozenset({"batch", "head"}), frozenset({"query"}), frozenset({"key"})
_NAMES = ("score", "batch", "head", "query", "key")
_CALLS = ("pjit", "jit", "closed_call", "core_call")
_RULED = ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr")


class Given(NamedTuple):
    """What a modifier is given beside scores and places; for one head, or with the axes of a batch in front.

    Attributes:
        numbers: one for each head.
        by_query: rows for each query.
        by_key: rows for each key.
        by_pair: [queries, keys].
        tables: read at places that depend on both.
    """

    numbers: tuple[Array, ...] = ()
    by_query: tuple[Array, ...] = ()
    by_key: tuple[Array, ...] = ()
    by_pair: tuple[Array, ...] = ()
    tables: tuple[Array, ...] = ()


@dataclass(frozen=True)
class Modifier:
    """What is left of a function of pairs for a kernel to run; two are equal if they compute the same.

    Attributes:
        function: (score, query, key, *everything given for the pair) -> (score,) or (score, factor).
        text: what it computes, as far as it is compared.
        weighs: whether there is a factor: of the weight of a key in the average, not in the sum of weights.
        moves: whether anything that it is given may have a derivative.
        driver_tanh: whether its tangents may be those of a driver, off by 2^-10.5.
    """

    function: core.ClosedJaxpr = field(compare=False)
    text: Hashable
    weighs: bool
    moves: bool
    driver_tanh: bool = False

    @property
    def is_placed(self) -> bool:
        """Whether it looks at anything beside the score: at places, or at what is given for them."""
        others = self.function.jaxpr.invars[1:]
        read = {id(each) for eqn in self.function.jaxpr.eqns for each in eqn.invars}
        return any(id(each) in read for each in others)

    def __call__(
        self,
        scores: Float[Array, "rows columns"],
        queries: Int[Array, "rows columns"],
        keys: Int[Array, "rows columns"],
        given: Given,
        *,
        by_rows: bool = True,
    ) -> tuple[Float[Array, "rows columns"], Float[Array, "rows columns"] | None]:
        """Modify a tile.

        Args:
            scores: of the tile.
            queries: place of each element's query.
            keys: place of each element's key.
            given: cut to the tile; what is by pair lies as the scores do.
            by_rows: whether rows are queries, and not keys.
        """
        run = core.jaxpr_as_fun(self.function)

        def pair(score: Array, query: Array, key: Array, given: Given) -> tuple[Array, ...]:
            return tuple(run(score, query, key, *(each for part in given for each in part)))

        along_queries, along_keys = Given(None, 0, None, 0, None), Given(None, None, 0, 0, None)  # type: ignore[arg-type]
        inner, outer = (along_keys, along_queries) if by_rows else (along_queries, along_keys)
        results = jax.vmap(jax.vmap(pair, (0, 0, 0, inner)), (0, 0, 0, outer))(scores, queries, keys, given)
        return results[0], results[1] if self.weighs else None


class Cut(NamedTuple):
    """A function of pairs, cut.

    Attributes:
        modifier: what a kernel runs.
        given: what it is given, with an axis for batch entries and one for heads in front of what varies with them.
        axes: for each array in ``given``, whether it has the axis of batch entries and that of heads.
    """

    modifier: Modifier
    given: Given
    axes: Given


class Extents(NamedTuple):
    """How many batch entries, heads, queries and keys there are."""

    batch: int
    heads: int
    queries: int
    keys: int


@dataclass(frozen=True, eq=False)
class _Node:
    """One value of a traced function: an input, a constant or the result of an operation.

    Attributes:
        aval: shape and dtype.
        depends: on which inputs.
        reads: what went into it beside inputs: 0 literals alone, 1 single numbers, 2 arrays.
        value: of a constant.
        step: the operation, with its operands.
        number: which result of the operation.
    """

    aval: Any
    depends: frozenset[str]
    reads: int = 0
    value: Any = None
    step: tuple[Any, tuple[_Node, ...]] | None = None
    number: int = 0


def cut_function(
    function: PairFunction, extents: Extents, by_pair: Sequence[Array], axes: Sequence[tuple[bool, bool]], dtype: Any
) -> Cut:
    """Trace a function of pairs and cut it.

    Args:
        function: what is done to a pair.
        extents: how long the axes are.
        by_pair: [batch or none, heads or none, queries, keys], whose elements the function is given.
        axes: for each of them, whether it has the axis of batch entries and that of heads.
        dtype: of scores.
    """
    place, number = jax.ShapeDtypeStruct((), jnp.int32), jax.ShapeDtypeStruct((), dtype)
    elements = [jax.ShapeDtypeStruct((), each.dtype) for each in by_pair]
    closed = jax.make_jaxpr(function)(number, place, place, place, place, *elements)
    names = (*_NAMES, *(f"pair{i}" for i in range(len(by_pair))))
    avals = [each.aval for each in closed.jaxpr.invars]
    inputs = [_Node(aval, frozenset({name})) for name, aval in zip(names, avals, strict=True)]
    roots = _walk(closed.jaxpr, [_constant(each) for each in closed.consts], inputs)
    kept = _kept(roots, inputs)
    parts = {kind: [node for node in kept if _kind(node) == kind] for kind in ("number", "query", "key", "table")}
    order = [*parts["number"], *parts["query"], *parts["key"], *inputs[5:], *parts["table"]]

    def inner(score: Array, query: Array, key: Array, *rest: Array) -> tuple[Array, ...]:
        known = {inputs[0]: score, inputs[3]: query, inputs[4]: key, **dict(zip(order, rest, strict=True))}
        return tuple(_evaluate(root, known) for root in roots)

    left = jax.make_jaxpr(inner)(
        number, place, place, *(jax.ShapeDtypeStruct(n.aval.shape, n.aval.dtype) for n in order)
    )
    made = {kind: [_make(node, inputs, extents, kind) for node in nodes] for kind, nodes in parts.items()}
    given = Given(
        *(tuple(array for array, _ in made[kind]) for kind in ("number", "query", "key")),
        by_pair=tuple(by_pair), tables=tuple(array for array, _ in made["table"]),
    )  # fmt: skip
    given_axes = Given(
        *(tuple(axes for _, axes in made[kind]) for kind in ("number", "query", "key")),  # type: ignore[arg-type]
        by_pair=tuple(axes), tables=tuple(axes for _, axes in made["table"]),  # type: ignore[arg-type]
    )  # fmt: skip
    real = [each for part in given for each in part if _is_real(each)]
    moves = any(isinstance(each, Tracer) for each in real)
    return Cut(Modifier(left, _text(left), len(roots) > 1, moves), given, given_axes)


def _constant(value: Any) -> _Node:
    array = jnp.asarray(value)
    return _Node(jax.typeof(array), frozenset(), reads=2 if array.ndim else 1, value=array)


def _walk(jaxpr: core.Jaxpr, constants: list[_Node], inputs: list[_Node]) -> list[_Node]:
    """Return the results of a traced function as nodes; functions that it calls are part of it."""
    known = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*constants, *inputs), strict=True))

    def read(atom: Any) -> _Node:
        return _Node(atom.aval, frozenset(), value=atom.val) if isinstance(atom, core.Literal) else known[atom]

    for eqn in jaxpr.eqns:
        operands = tuple(map(read, eqn.invars))
        if eqn.primitive.name in _CALLS:
            called = eqn.params.get("jaxpr") or eqn.params["call_jaxpr"]
            results = _walk(called.jaxpr, [_constant(each) for each in called.consts], list(operands))
        else:
            depends = frozenset().union(*(each.depends for each in operands))
            reads = max(map(_reads_of, operands), default=0)
            results = [_Node(each.aval, depends, reads, None, (eqn, operands), i) for i, each in enumerate(eqn.outvars)]
        known.update(zip(eqn.outvars, results, strict=True))
    return [read(each) for each in jaxpr.outvars]


def _reads_of(node: _Node) -> int:
    """Return what goes into a result with this operand: a number of a head is given as such."""
    return min(node.reads, 1) if node.depends <= _HEAD and not node.aval.shape else node.reads


def _kind(node: _Node) -> str | None:
    """Tell how a kernel is given a value; None for what it makes itself."""
    if node.depends <= _HEAD:
        if not node.depends and not node.reads:
            return None
        return "table" if node.aval.shape else "number"
    beside = node.depends - _HEAD
    if node.reads == 2 and beside in (_QUERY, _KEY):
        return "query" if beside == _QUERY else "key"
    return None


def _kept(roots: Sequence[_Node], inputs: Sequence[_Node]) -> list[_Node]:
    """Return the values that a kernel is given, each once, in the order in which they are met."""
    found: dict[_Node, None] = {}
    seen: set[_Node] = set(inputs[:1]) | set(inputs[3:])
    waiting = list(reversed(roots))
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if _kind(node) is not None:
            found[node] = None
        elif node.step is not None:
            waiting += reversed(node.step[1])
    return list(found)


def _evaluate(node: _Node, known: dict[_Node, Any]) -> Any:
    if node not in known:
        if node.step is None:
            return node.value
        eqn, operands = node.step
        given = {
            atom: _evaluate(each, known)
            for atom, each in zip(eqn.invars, operands, strict=True)
            if not isinstance(atom, core.Literal)
        }
        known[node] = core.jaxpr_as_fun(_alone(eqn, list(given)))(*given.values())[node.number]
    return known[node]


def _alone(eqn: core.JaxprEqn, operands: list[core.Var]) -> core.ClosedJaxpr:
    """Return one operation as a function."""
    said = core.DebugInfo("modifier", eqn.primitive.name, None, None)
    return core.ClosedJaxpr(core.Jaxpr((), operands, eqn.outvars, [eqn], debug_info=said), ())


def _make(node: _Node, inputs: Sequence[_Node], extents: Extents, kind: str) -> tuple[Array, tuple[bool, bool]]:
    """Compute a value for every head, query or key, with axes only where it varies."""

    def one(batch: Array, head: Array, place: Array) -> Array:
        return _evaluate(node, {inputs[1]: batch, inputs[2]: head, inputs[3]: place, inputs[4]: place})

    axes = "batch" in node.depends, "head" in node.depends
    places = [jnp.arange(size, dtype=jnp.int32) for size in (extents.batch, extents.heads)]
    length = {"query": extents.queries, "key": extents.keys}.get(kind)
    function: Callable[..., Array] = one
    if length is not None:
        function = jax.vmap(function, (None, None, 0))
    if axes[1]:
        function = jax.vmap(function, (None, 0, None))
    if axes[0]:
        function = jax.vmap(function, (0, None, None))
    starts = [place if has else np.int32(0) for place, has in zip(places, axes, strict=True)]
    return function(*starts, np.int32(0) if length is None else jnp.arange(length, dtype=jnp.int32)), axes


def _text(closed: core.ClosedJaxpr, *, has_rules: bool = True) -> Hashable:
    """Return what tells two functions apart: their operations, however their values are called."""
    names: dict[Any, int] = {}

    def atom(each: Any) -> Hashable:
        if isinstance(each, core.Literal):
            return "literal", str(each.aval), np.asarray(each.val).tobytes()
        return names.setdefault(each, len(names)), str(each.aval)

    def parameter(value: Any) -> Hashable:
        if isinstance(value, core.ClosedJaxpr):
            return _text(value)
        if isinstance(value, core.Jaxpr):
            return _text(core.ClosedJaxpr(value, ()))
        if isinstance(value, tuple | list):
            return tuple(map(parameter, value))
        try:
            hash(value)
        except TypeError:
            return id(value)
        return value

    def parameters(eqn: core.JaxprEqn) -> Hashable:
        if eqn.primitive.name in _RULED and all(_is_real(each.aval) for each in eqn.outvars):
            # The rule is a new object at each tracing: what it computes is compared, once.
            values = tuple(_text(each) for each in eqn.params.values() if isinstance(each, core.ClosedJaxpr))
            return values, _text(_pulled(eqn), has_rules=False) if has_rules else None
        return tuple((name, parameter(value)) for name, value in sorted(eqn.params.items()))

    jaxpr = closed.jaxpr
    head = tuple(map(atom, (*jaxpr.constvars, *jaxpr.invars)))
    steps = tuple(
        (
            eqn.primitive.name, tuple(map(atom, eqn.invars)), tuple(map(atom, eqn.outvars)), parameters(eqn),
        )
        for eqn in jaxpr.eqns
    )  # fmt: skip
    constants = tuple(np.asarray(each).tobytes() for each in closed.consts)
    return head, steps, tuple(map(atom, jaxpr.outvars)), constants


def _pulled(eqn: core.JaxprEqn) -> core.ClosedJaxpr:
    """Trace the gradient of an operation that has a rule for it."""
    operands = list(dict.fromkeys(each for each in eqn.invars if not isinstance(each, core.Literal)))
    run, kinds = core.jaxpr_as_fun(_alone(eqn, operands)), [_is_real(each.aval) for each in operands]
    avals: list[Any] = [each.aval for each in (*operands, *eqn.outvars)]
    like = [jax.ShapeDtypeStruct(each.shape, each.dtype) for each in avals]
    places = range(len(operands))
    moving, others = ({i: like[i] for i in places if kinds[i] == kind} for kind in (True, False))

    def pull(numbers: dict[int, Array], others: dict[int, Array], bars: list[Array]) -> Any:
        return jax.vjp(lambda numbers: run(*((numbers | others)[i] for i in places)), numbers)[1](bars)

    return jax.make_jaxpr(pull)(moving, others, like[len(operands) :])


def _is_real(aval: Any) -> bool:
    return jnp.issubdtype(aval.dtype, jnp.floating)
