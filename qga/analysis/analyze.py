"""Analyse attention: one layer by its queries, keys and values, or a whole model by what it computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jaxtyping import Array, Float

from .. import operators
from ..errors import OptionError, ShapeError, describe, refuse
from ..exact.observe import Observed, observing
from .pipeline import Notify, measure_heads
from .report import Report


def analyze(
    queries: Float[Array, "heads rows width"],
    keys: Float[Array, "key_heads rows width"],
    values: Float[Array, "key_heads rows channels"],
    *,
    metric: operators.Metric = "dot",
    scale: float | Float[Array, " heads"] | None = None,
    is_causal: bool = False,
    layer: str = "attention",
    block: int | None = None,
    notify: Notify | None = None,
) -> Report:
    """Measure every head of one attention layer: entropy, rank, geometry, routing and arithmetic of its pattern.

    No matrix of rows times rows is formed: memory is linear in the rows. Passes over the scores run where the arrays
    are, through JAX on any platform; eigenvalues and other solvers of small matrices run on the CPU, in a thread beside
    the passes of the next head and with the OpenBLAS of this process held to one thread. Not traceable: the report
    holds NumPy arrays.

    Args:
        queries: of self-attention, one matrix for each head.
        keys: with fewer heads than queries, each serves a group of neighbouring query heads.
        values: as many heads as keys.
        metric: ``dot`` for ``dot_attention``, ``fidelity`` for ``fidelity_attention``.
        scale: inverse temperature, one or one for each head; 1 / sqrt(width) by default for ``dot``, required for
            ``fidelity``.
        is_causal: let query i see keys 0 to i only.
        layer: name of the layer in the report.
        block: queries and keys scored at a time, at most; 1,024 on a CPU and 4,096 on other devices by default.
        notify: called with the layer, heads done and heads in all, for each head in order, by the thread that called.

    Raises:
        ShapeError: shapes do not fit together, or there are fewer than two rows.
        OptionError: an option of ``qga.operators.attention_operator``.

    Cost: for each head ten passes of 2 rows^2 width operations, four of them with 32 more channels.

    Example:
        >>> x = jax.random.normal(jax.random.key(0), (2, 64, 8))
        >>> report = analyze(x, x, x)
        >>> [head.tile_operator.shape for head in report.heads]
        [(64, 64), (64, 64)]
    """
    _check(queries, keys, values)
    found = Observed(layer, queries, keys, values, metric, scale, is_causal)
    return Report(tuple(measure_heads([found], block=block, notify=notify)), queries.shape[1])


def analyze_model(
    apply: Callable[..., Any],
    parameters: Any,
    inputs: Any,
    *,
    layers: Sequence[int] | None = None,
    block: int | None = None,
    notify: Notify | None = None,
) -> Report:
    """Run a model once and measure every attention head in it.

    Attention is found where the model calls ``jax.nn.dot_product_attention``, ``qga.dot_attention`` or
    ``qga.fidelity_attention``, each time it does, in that order; another implementation says what it does with one
    line, ``qga.analysis.observe(...)``. The model is traced once with ``jax.jit``.

    Args:
        apply: (parameters, inputs) -> anything; a pure function.
        parameters: of the model, a pytree.
        inputs: one example, a pytree.
        layers: which calls to measure, counted from 0; all by default.
        block: queries and keys scored at a time, at most; 1,024 on a CPU and 4,096 on other devices by default.
        notify: called with the layer, heads done and heads in all, for each head in order, by the thread that called.

    Raises:
        OptionError: no attention is found, or one with a mask, a bias or inside of a loop, a branch or a map.
        ShapeError: the inputs are more than one example.

    Example:
        >>> def apply(weights, x):
        ...     q, k, v = (x @ w for w in weights)
        ...     return jax.nn.dot_product_attention(q[None, :, None], k[None, :, None], v[None, :, None])
        >>> weights = jax.random.normal(jax.random.key(0), (3, 8, 8))
        >>> analyze_model(apply, weights, jax.numpy.ones((16, 8))).layers
        ('0',)
    """
    found = observe_model(apply, parameters, inputs)
    chosen = range(len(found)) if layers is None else layers
    if not all(0 <= number < len(found) for number in chosen):
        refuse(
            OptionError,
            "analyze_model: layers are counted in the order of their calls.",
            got=f"layers={list(chosen)}",
            want=f"numbers from 0 to {len(found) - 1}",
            fix="leave layers out to measure all of them.",
        )
    heads = measure_heads([found[number] for number in chosen], block=block, notify=notify)
    return Report(tuple(heads), found[0].queries.shape[1])


def observe_model(apply: Callable[..., Any], parameters: Any, inputs: Any) -> list[Observed]:
    """Run a model once and return what enters each of its attentions, found as by ``analyze_model``.

    Args:
        apply: (parameters, inputs) -> anything; a pure function.
        parameters: of the model, a pytree.
        inputs: one example, a pytree.

    Returns:
        For each call in order, its queries, keys and values, heads first, with the metric, the scale and whether it is
        causal.

    Raises:
        OptionError: as ``analyze_model``.
        ShapeError: likewise.

    Example:
        >>> def apply(weights, x):
        ...     q, k, v = (x @ w for w in weights)
        ...     return jax.nn.dot_product_attention(q[None, :, None], k[None, :, None], v[None, :, None])
        >>> weights = jax.random.normal(jax.random.key(0), (3, 8, 8))
        >>> [each.queries.shape for each in observe_model(apply, weights, jax.numpy.ones((16, 8)))]
        [(1, 16, 8)]
    """
    static: list[Observed] = []

    def observed(parameters: Any, inputs: Any) -> list[tuple[Array, Array, Array, Any]]:
        with observing() as found:
            apply(parameters, inputs)
        static[:] = found
        return [(each.queries, each.keys, each.values, each.scale) for each in found]

    try:
        arrays = jax.jit(observed)(parameters, inputs)
    except jax.errors.UnexpectedTracerError as error:
        raise OptionError(
            "analyze_model: attention inside of a loop, a branch or a map cannot be observed.\n"
            "  got:  a call under jax.lax.scan, while_loop, cond or jax.vmap\n"
            "  want: layers in a Python loop, heads as an axis of the arrays\n"
            "  fix:  unroll the layers for the analysis."
        ) from error
    if not arrays:
        refuse(
            OptionError,
            "analyze_model: no attention was found in the model.",
            got="no call of jax.nn.dot_product_attention, qga.dot_attention or qga.fidelity_attention",
            want="at least one",
            fix="call qga.analysis.observe(name, queries, keys, values, scale=..., is_causal=...) where it attends.",
        )
    pairs = zip(static, arrays, strict=True)
    return [
        Observed(each.layer, queries, keys, values, each.metric, scale, each.is_causal)
        for each, (queries, keys, values, scale) in pairs
    ]


def _check(queries: Array, keys: Array, values: Array) -> None:
    shapes = queries.shape, keys.shape, values.shape
    fits = all(len(shape) == 3 for shape in shapes) and (
        queries.shape[0] % max(keys.shape[0], 1) == 0
        and keys.shape[:2] == values.shape[:2]
        and queries.shape[1:] == keys.shape[1:]
        and queries.shape[1] >= 2
    )
    if not fits:
        refuse(
            ShapeError,
            "analyze: heads of self-attention over the same two or more rows.",
            got=f"queries {describe(queries)}, keys {describe(keys)}, values {describe(values)}",
            want="[heads, rows, width], [key_heads, rows, width], [key_heads, rows, channels]",
            fix="move heads to the front, take one example of a batch, and let key_heads divide heads.",
        )
