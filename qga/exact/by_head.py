"""Attention of one head at a time, over any axes of a batch in front: what is checked, mapped and cut into tiles."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal, get_args, overload

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..errors import OptionError, ShapeError, describe, refuse
from ..kernels.problem import DEFAULT_TILE, Derivatives, Problem, TilePlan
from ..tiling.state import accumulator_dtype
from .observe import Metric, observe_call
from .scores import FIDELITY, dot_score, lift_to_rays
from .tiled import attend, finite

Queries = Float[Array, "*batch queries width"]
Keys = Float[Array, "*batch keys width"]
Values = Float[Array, "*batch keys channels"]
Mask = Bool[Array, "*#batch #queries #keys"]
Scale = float | Float[Array, "*#batch"]
Attended = Float[Array, "*batch queries channels"]
LogSums = Float[Array, "*batch queries"]


@overload
def dot_attention(
    queries: Queries,
    keys: Keys,
    values: Values,
    *,
    scale: Scale | None = ...,
    mask: Mask | None = ...,
    is_causal: bool = ...,
    tile: int = ...,
    derivatives: Derivatives = ...,
    return_lse: Literal[False] = ...,
) -> Attended: ...


@overload
def dot_attention(
    queries: Queries,
    keys: Keys,
    values: Values,
    *,
    scale: Scale | None = ...,
    mask: Mask | None = ...,
    is_causal: bool = ...,
    tile: int = ...,
    derivatives: Derivatives = ...,
    return_lse: Literal[True],
) -> tuple[Attended, LogSums]: ...


def dot_attention(
    queries: Queries,
    keys: Keys,
    values: Values,
    *,
    scale: Scale | None = None,
    mask: Mask | None = None,
    is_causal: bool = False,
    tile: int = DEFAULT_TILE,
    derivatives: Derivatives = "all",
    return_lse: bool = False,
) -> Attended | tuple[Attended, LogSums]:
    """Mix values by the softmax of scaled inner products, in memory linear in the rows.

    out_i = sum_j softmax_j(scale <q_i, k_j>) v_j

    Args:
        queries: one row for each question.
        keys: one row for each place looked at.
        values: what each place holds.
        scale: inverse temperature, one number or one for each batch entry; 1 / sqrt(width) by default.
        mask: True where a query may see a key.
        is_causal: let query i see keys 0 to i only.
        tile: keys scored at a time, at most; any value gives the same result up to rounding.
        derivatives: "all" modes and orders by loops, or "reverse" for gradients by kernels, which may be
            differentiated again in any mode.
        return_lse: also return log sum_j e^(s_ij), the log partition sum of each row.

    Returns:
        One mixed row for each query, in the dtype of ``values``. A query that sees no key gets zeros, and its log
        sum is minus infinity. Derivatives are exact up to rounding and recompute tiles; by kernels, 16-bit arrays are
        multiplied as they are on the way back too (docs/theory/attention.md).

    Raises:
        ShapeError: shapes or dtypes do not fit together.
        OptionError: ``tile`` is below 1, or ``derivatives`` is another word.

    Error: at most a few eps sqrt(keys) times the largest value (docs/theory/attention.md).
    Source: Vaswani et al. 2017; Rabe and Staats 2021; Dao 2022.

    Example:
        >>> dot_attention(jnp.eye(2), jnp.eye(2), jnp.eye(2)).shape
        (2, 2)
    """
    _check("dot_attention", queries, keys, values, mask, tile)
    _check_derivatives("dot_attention", derivatives)
    observe_call(queries, keys, values, metric="dot", scale=scale, mask=mask, is_causal=is_causal)
    scale = _natural_scale(queries) if scale is None else scale
    plan = TilePlan(dot_score(queries.dtype), tile, is_causal, derivatives, scale_moves=isinstance(scale, jax.Array))
    out, log_sums = _attend("dot_attention", plan, (queries, keys, values), scale, mask)
    return (out, log_sums) if return_lse else out


@overload
def fidelity_attention(
    queries: Queries,
    keys: Keys,
    values: Values,
    *,
    beta: Scale,
    mask: Mask | None = ...,
    is_causal: bool = ...,
    tile: int = ...,
    derivatives: Derivatives = ...,
    return_lse: Literal[False] = ...,
) -> Attended: ...


@overload
def fidelity_attention(
    queries: Queries,
    keys: Keys,
    values: Values,
    *,
    beta: Scale,
    mask: Mask | None = ...,
    is_causal: bool = ...,
    tile: int = ...,
    derivatives: Derivatives = ...,
    return_lse: Literal[True],
) -> tuple[Attended, LogSums]: ...


def fidelity_attention(
    queries: Queries,
    keys: Keys,
    values: Values,
    *,
    beta: Scale,
    mask: Mask | None = None,
    is_causal: bool = False,
    tile: int = DEFAULT_TILE,
    derivatives: Derivatives = "all",
    return_lse: bool = False,
) -> Attended | tuple[Attended, LogSums]:
    """Mix values by the softmax of squared overlaps of pure states, in memory linear in the rows.

    out_i = sum_j softmax_j(beta |<k_j|q_i>|^2) v_j

    Rows are read as complex vectors (first half real, second half imaginary) and normalised. The result does not
    change under a phase of any row or a unitary of all. Scores lie in [0, beta], so every row keeps an entropy of at
    least log(keys) - beta^2 / 8: sharp retrieval among n keys needs beta of the order of log n.

    Args:
        queries: one row for each question, of even width.
        keys: one row for each place looked at.
        values: what each place holds.
        beta: inverse temperature, one number or one for each batch entry.
        mask: True where a query may see a key.
        is_causal: let query i see keys 0 to i only.
        tile: keys scored at a time, at most; any value gives the same result up to rounding.
        derivatives: "all" modes and orders by loops, or "reverse" for gradients by kernels, which may be
            differentiated again in any mode.
        return_lse: also return log sum_j e^(s_ij), the log partition sum of each row.

    Returns:
        As ``dot_attention``.

    Raises:
        ShapeError: shapes or dtypes do not fit together, or the width is odd.
        OptionError: ``tile`` is below 1, or ``derivatives`` is another word.

    Error: as ``dot_attention`` (docs/theory/attention.md).
    Source: theory of this project; "quantum" means complex states and Born overlaps, simulated classically.

    Example:
        >>> fidelity_attention(jnp.eye(2), jnp.eye(2), jnp.eye(2), beta=1.0).shape
        (2, 2)
    """
    _check("fidelity_attention", queries, keys, values, mask, tile)
    _check_derivatives("fidelity_attention", derivatives)
    observe_call(queries, keys, values, metric="fidelity", scale=beta, mask=mask, is_causal=is_causal)
    arrays = lift_to_rays(queries), lift_to_rays(keys), values
    plan = TilePlan(FIDELITY, tile, is_causal, derivatives, scale_moves=isinstance(beta, jax.Array))
    out, log_sums = _attend("fidelity_attention", plan, arrays, beta, mask)
    return (out, log_sums) if return_lse else out


def attention_pass(
    queries: Queries,
    keys: Keys,
    values: Values,
    log_sums: LogSums,
    *,
    metric: Metric = "dot",
    scale: Scale | None = None,
    mask: Mask | None = None,
    is_causal: bool = False,
    tile: int = DEFAULT_TILE,
) -> Attended:
    """Mix values by an attention whose log sums are known: one more pass of an operator that has run before.

    out_i = sum_j e^(s_ij - z_i) v_j / sum_j e^(s_ij - z_i)

    Cheaper than the attention itself: no maximum is followed and nothing is rescaled. The log sums z are a reference
    that the result does not depend on, so rounding in them does no harm.

    Args:
        queries: those that the log sums were computed with.
        keys: likewise.
        values: any, one row for each key.
        log_sums: what ``return_lse`` gave; any number near it, and not far below it, will do.
        metric: ``dot`` for ``dot_attention``, ``fidelity`` for ``fidelity_attention``.
        scale: inverse temperature; 1 / sqrt(width) by default for ``dot``, required for ``fidelity``.
        mask: True where a query may see a key.
        is_causal: let query i see keys 0 to i only.
        tile: keys scored at a time, at most.

    Returns:
        As the attention does. The derivative in ``log_sums`` is zero.

    Raises:
        ShapeError: shapes or dtypes do not fit together.
        OptionError: ``tile`` is below 1, ``metric`` is another word, or ``fidelity`` without a scale.
    """
    _check("attention_pass", queries, keys, values, mask, tile)
    if metric not in ("dot", "fidelity"):
        refuse(
            OptionError,
            "attention_pass: metric must be a word that is known.",
            got=repr(metric),
            want="'dot' or 'fidelity'",
            fix="name the attention that gave the log sums.",
        )
    if metric == "fidelity":
        if scale is None:
            refuse(
                OptionError,
                "attention_pass: the fidelity score has no natural scale.",
                got="scale=None",
                want="the inverse temperature beta",
                fix="pass scale; a multiple of log(keys) is a good start.",
            )
        queries, keys, plan = lift_to_rays(queries), lift_to_rays(keys), TilePlan(FIDELITY, tile, is_causal)
    else:
        plan = TilePlan(dot_score(queries.dtype), tile, is_causal)
    scale = _natural_scale(queries) if scale is None else scale
    wide = log_sums.astype(accumulator_dtype(queries, values))
    return _attend("attention_pass", plan, (queries, keys, values), scale, mask, wide)[0]


def _natural_scale(queries: Queries) -> float:
    return 1 / math.sqrt(queries.shape[-1]) if queries.ndim and queries.shape[-1] else 1.0


def _attend(
    name: str,
    plan: TilePlan,
    arrays: tuple[Queries, Keys, Values],
    scale: Scale,
    mask: Mask | None,
    log_sums: LogSums | None = None,
) -> tuple[Attended, LogSums]:
    """Run every batch entry through the one-head function; where log sums are known, with them as peaks."""
    queries, keys, values = arrays
    batch, rows, count = queries.shape[:-2], queries.shape[-2], keys.shape[-2]
    spread_scale = _spread(name, "scale", jnp.asarray(scale, accumulator_dtype(queries, values)), batch)
    if mask is not None:
        mask = _spread(name, "mask", mask, (*batch, rows, count))
    if log_sums is not None:
        log_sums = _spread(name, "log_sums", finite(log_sums), (*batch, rows))
    function = partial(_attend_head, plan)
    for _ in batch:
        function = jax.vmap(
            function, in_axes=tuple(None if each is None else 0 for each in (0, 0, 0, 0, mask, log_sums))
        )
    out, log_sums = function(queries, keys, values, spread_scale, mask, log_sums)
    return out.astype(values.dtype), log_sums


def _attend_head(
    plan: TilePlan, queries: Array, keys: Array, values: Array, scale: Array, mask: Array | None, peak: Array | None
) -> tuple[Array, Array]:
    return attend(plan, Problem((queries,), keys, values, scale, mask), peak)


def _spread(name: str, role: str, array: Array, shape: tuple[int, ...]) -> Array:
    try:
        return jnp.broadcast_to(array, shape)
    except ValueError:
        refuse(
            ShapeError,
            f"{name}: {role} must broadcast to the batch.",
            got=f"{role} {describe(array)}",
            want=f"a shape that broadcasts to {list(shape)}",
            fix=f"add axes of length 1 to {role}, or remove the ones the batch does not have.",
        )


def _check_derivatives(name: str, derivatives: str) -> None:
    if derivatives not in get_args(Derivatives):
        refuse(
            OptionError,
            f"{name}: derivatives must be a word that is known.",
            got=repr(derivatives),
            want=" or ".join(map(repr, get_args(Derivatives))),
            fix="leave it out for all derivatives.",
        )


def _check(name: str, queries: Array, keys: Array, values: Array, mask: Array | None, tile: int) -> None:
    arrays = f"queries {describe(queries)}, keys {describe(keys)}, values {describe(values)}"
    if tile < 1:
        refuse(
            OptionError,
            f"{name}: a tile has at least one key.",
            got=f"tile={tile}",
            want="tile >= 1",
            fix="raise tile.",
        )
    if min(queries.ndim, keys.ndim, values.ndim) < 2 or not queries.shape[:-2] == keys.shape[:-2] == values.shape[:-2]:
        refuse(
            ShapeError,
            f"{name}: queries, keys and values must have the same batch axes.",
            got=arrays,
            want="[*batch, queries, width], [*batch, keys, width], [*batch, keys, channels]",
            fix="broadcast the batch axes first, or map over them with jax.vmap.",
        )
    if queries.shape[-1] != keys.shape[-1] or keys.shape[-2] != values.shape[-2]:
        refuse(
            ShapeError,
            f"{name}: keys must have the width of queries and one value each.",
            got=arrays,
            want=f"keys [*batch, {values.shape[-2]}, {queries.shape[-1]}]",
            fix="pass one value row for each key row, and keys as wide as queries.",
        )
    _check_dtypes(name, arrays, {queries.dtype, keys.dtype, values.dtype}, mask)


def _check_dtypes(name: str, arrays: str, dtypes: set[jnp.dtype], mask: Array | None) -> None:
    if len(dtypes) > 1 or not jnp.issubdtype(min(dtypes, key=str), jnp.floating):
        refuse(
            ShapeError,
            f"{name}: queries, keys and values must have one real floating dtype.",
            got=arrays,
            want="one of float16, bfloat16, float32, float64 for all three",
            fix="convert with .astype; complex states go in as real and imaginary halves of a row.",
        )
    if mask is not None and mask.dtype != jnp.bool_:
        refuse(
            ShapeError,
            f"{name}: a mask says True where a query may see a key.",
            got=f"mask {describe(mask)}",
            want="a bool mask",
            fix="compare first, such as mask > 0.",
        )
