"""Watch a model attend: while it is traced, attention functions say what they were called with."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..errors import OptionError, ShapeError, describe, refuse

Metric = Literal["dot", "fidelity"]


class Observed(NamedTuple):
    """One call of attention.

    Attributes:
        layer: its name; the number of the call where it has none.
        queries: [heads, rows, width].
        keys: [key_heads, rows, width].
        values: [key_heads, rows, channels].
        metric: which score.
        scale: inverse temperature, one or one for each head; None for the natural one of ``dot``.
        is_causal: whether query i sees keys 0 to i only.
    """

    layer: str
    queries: Float[Array, "heads rows width"]
    keys: Float[Array, "key_heads rows width"]
    values: Float[Array, "key_heads rows channels"]
    metric: Metric
    scale: Any
    is_causal: bool


# The calls of the model that is being watched in this thread; None while nobody watches.
_found: contextvars.ContextVar[list[Observed] | None] = contextvars.ContextVar("found", default=None)


def observe(
    layer: str | None,
    queries: Float[Array, "heads rows width"],
    keys: Float[Array, "key_heads rows width"],
    values: Float[Array, "key_heads rows channels"],
    *,
    metric: Metric = "dot",
    scale: float | Float[Array, ""] | None = None,
    is_causal: bool = False,
) -> None:
    """Tell ``qga.analyze_model`` what an attention of one's own computes; does nothing when nobody watches.

    Args:
        layer: name in the report; the number of the call by default.
        queries: after positions were mixed in, one matrix for each head.
        keys: likewise; with fewer heads, each serves a group of neighbouring query heads.
        values: as many heads as keys.
        metric: which score.
        scale: inverse temperature, one or one for each head; 1 / sqrt(width) by default for ``dot``.
        is_causal: whether query i sees keys 0 to i only.

    Raises:
        ShapeError: there are not three axes each (only while somebody watches).
    """
    found = _found.get()
    if found is None:
        return
    if not queries.ndim == keys.ndim == values.ndim == 3:
        refuse(
            ShapeError,
            "observe: one example at a time, heads in front.",
            got=f"queries {describe(queries)}, keys {describe(keys)}, values {describe(values)}",
            want="[heads, rows, width], [key_heads, rows, width], [key_heads, rows, channels]",
            fix="analyse a model on one example, and drop the axis of the batch.",
        )
    name = str(len(found)) if layer is None else layer
    found.append(Observed(name, queries, keys, values, metric, scale, is_causal))


def observe_call(
    queries: Float[Array, "*batch heads rows width"],
    keys: Float[Array, "*batch heads rows width"],
    values: Float[Array, "*batch heads rows channels"],
    *,
    metric: Metric,
    scale: Any,
    mask: Any,
    is_causal: bool,
) -> None:
    """Observe a call of this library's own attention: what it can show of it, and why it cannot where it cannot."""
    if _found.get() is None:
        return
    _refuse_extras(["mask"] if mask is not None else [])
    arrays = [each.reshape(each.shape[each.ndim - 3 :]) if _is_one(each) else each for each in (queries, keys, values)]
    arrays = [each[None] if each.ndim == 2 else each for each in arrays]
    if scale is not None:
        scale = jnp.asarray(scale)
        scale = scale if scale.ndim == 0 else scale.reshape(-1)
    observe(None, arrays[0], arrays[1], arrays[2], metric=metric, scale=scale, is_causal=is_causal)


def observe_grouped(
    query: Float[Array, "batch rows heads width"],
    key: Float[Array, "batch rows key_heads width"],
    value: Float[Array, "batch rows key_heads channels"],
    extras: dict[str, Any],
    *,
    metric: str,
    scale: float | Float[Array, "#batch #heads"],
    is_causal: bool,
) -> None:
    """Observe a call of ``qga.attention``; what is not None among ``extras`` cannot be shown."""
    if _found.get() is None:
        return
    others = [name for name, each in extras.items() if each is not None]
    _refuse_extras(others + ([] if metric in get_args(Metric) else [f"metric={metric!r}"]))
    queries, keys, values = (_heads_first(each) for each in (query, key, value))
    scale = scale.reshape(-1) if isinstance(scale, jax.Array) else scale
    observe(None, queries, keys, values, metric=metric, scale=scale, is_causal=is_causal)  # type: ignore[arg-type]


@contextmanager
def observing() -> Generator[list[Observed]]:
    """Collect the calls of attention in this thread, those of ``jax.nn.dot_product_attention`` among them."""
    found: list[Observed] = []
    token, original = _found.set(found), jax.nn.dot_product_attention
    # A function of JAX cannot say that it was called; for the time of the trace its name stands for one that does.
    jax.nn.dot_product_attention = _watched(original)
    try:
        yield found
    finally:
        jax.nn.dot_product_attention = original
        _found.reset(token)


def _watched(original: Callable[..., Array]) -> Callable[..., Array]:
    @wraps(original)
    def attend(query: Array, key: Array, value: Array, bias: Any = None, mask: Any = None, **options: Any) -> Array:
        others = ("query_seq_lengths", "key_value_seq_lengths", "local_window_size")
        given = [name for name, each in (("bias", bias), ("mask", mask)) if each is not None]
        given += [name for name in others if options.get(name) is not None]
        _refuse_extras(given)
        queries, keys, values = (_heads_first(each) for each in (query, key, value))
        causal = bool(options.get("is_causal", False))
        observe(None, queries, keys, values, scale=options.get("scale"), is_causal=causal)
        return original(query, key, value, bias, mask, **options)

    return attend


def _heads_first(array: Array) -> Array:
    """Turn [batch, rows, heads, width] of one example, or the same without batch, into [heads, rows, width]."""
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    return jnp.swapaxes(array, 0, 1) if array.ndim == 3 else array


def _refuse_extras(given: list[str]) -> None:
    if given:
        refuse(
            OptionError,
            "analyze_model: attention with a mask or a bias is not a function of queries and keys alone.",
            got=", ".join(given),
            want="full or causal attention (is_causal=True)",
            fix="analyse an example without padding, and say is_causal instead of passing a triangular mask.",
        )


def _is_one(array: Array) -> bool:
    """Tell whether all axes in front of heads, rows and features have length one."""
    return array.ndim > 3 and set(array.shape[:-3]) == {1}
