"""What a function of pairs makes of the scores of a tile of queries and a tile of keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from ..mass import Interval
from .box import Box
from .enclose import evaluated, interval_of
from .evaluate import Evaluation
from .graph import Step, Value
from .rules import bound_step


class TileBounds(NamedTuple):
    """What is known of all pairs of a tile of queries and a tile of keys.

    Attributes:
        score: of the pairs that are seen; low = inf and high = -inf where none is.
        factor: of a key's weight in the average; None for 1.
        is_hidden: certainly no query of the tile sees a key of the tile.
        is_open: certainly every one sees all.
    """

    score: Interval
    factor: Interval | None
    is_hidden: Bool[Array, "*batch"]
    is_open: Bool[Array, "*batch"]


def tile_bounds(
    function: Callable[..., Any],
    score: Interval,
    batch: Int[Array, ""] | int,
    head: Int[Array, ""] | int,
    query: Interval,
    key: Interval,
) -> TileBounds:
    """Bound the scores that a function of pairs makes of those of a tile.

    Args:
        function: (score, batch entry, head, query, key) -> score, or (score, factor); minus infinity hides the key.
        score: of all pairs of the tile, before.
        batch: entry of the batch.
        head: of attention.
        query: places of the first and the last query of the tile.
        key: places of the first and the last key of the tile.

    Returns:
        Bounds for one tile; ``jax.vmap`` maps it over all.

    Error: as ``enclose``.

    Example:
        >>> import jax.numpy as jnp
        >>> from qga.tiling import Interval, tile_bounds
        >>> def causal(score, batch, head, query, key):
        ...     return jnp.where(query >= key, score - 0.5 * (query - key).astype(score.dtype), -jnp.inf)
        >>> places = [Interval(jnp.int32(first), jnp.int32(first + 31)) for first in (64, 0)]
        >>> found = tile_bounds(causal, Interval(-1.0, 1.0), 0, 0, *places)
        >>> bool(found.is_open), round(float(found.score.high), 3)
        (True, -15.5)
    """
    places = (*(jnp.asarray(each, jnp.int32) for each in (batch, head)), query, key)
    whole, _ = evaluated(lambda *pair: _results(function, pair), (score, *places), set())
    root, *factor = whole.graph.roots
    plain, far = interval_of(whole(root)), np.asarray(np.inf, root.aval.dtype)
    least, is_hidden = _least_seen(whole, root), plain.high == -far
    low = jnp.where(is_hidden, far, jnp.maximum(plain.low, jnp.where(jnp.isnan(least), -far, least)))
    seen = Interval(low, plain.high)
    return TileBounds(seen, interval_of(whole(factor[0])) if factor else None, is_hidden, plain.low > -far)


def _results(function: Callable[..., Any], pair: tuple[Any, ...]) -> tuple[Any, ...]:
    results = function(*pair)
    return tuple(results) if isinstance(results, tuple | list) else (results,)


# They are minus infinity where their first operand is.
_CARRIES = frozenset(
    {"add", "sub", "select_n", "convert_element_type", "broadcast_in_dim", "reshape", "squeeze", "copy", "slice",
     "dynamic_slice", "gather"}
)  # fmt: skip


def _least_seen(found: Evaluation, value: Value) -> Any:
    """Return at most the least value above minus infinity; infinity where there is certainly none."""
    box = found(value)
    if value.constant is not None:
        return jnp.where(box.low == -jnp.inf, jnp.inf, box.low)
    step = value.step
    if step is None or step.primitive.name not in _CARRIES or not jnp.issubdtype(value.aval.dtype, jnp.floating):
        return box.low
    first, *rest = _raised(found, step)
    bounded = bound_step(step, [first, *rest], found.missed)
    return jnp.maximum(box.low, bounded[value.number].low)


def _raised(found: Evaluation, step: Step) -> list[Box]:
    """Return the operands of a step, the low ends of scores without those that are hidden."""
    name, operands = step.primitive.name, step.operands
    if name == "select_n":
        which, *cases = operands
        worlds = [found.under(which, number) if not which.aval.shape else found for number in range(len(cases))]
        return [found(which), *(_seen(world, case) for world, case in zip(worlds, cases, strict=True))]
    raised = len(operands) if name == "add" else 1
    return [_seen(found, each) if number < raised else found(each) for number, each in enumerate(operands)]


def _seen(found: Evaluation, value: Value) -> Box:
    if not jnp.issubdtype(value.aval.dtype, jnp.floating):
        return found(value)
    return Box(_least_seen(found, value), found(value).high)
