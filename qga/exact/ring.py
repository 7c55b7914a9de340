"""Attention over rows that are spread over the devices of a mesh, and the order that spreads causal work evenly."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ..errors import OptionError, ShapeError, describe, refuse
from ..kernels.problem import DEFAULT_TILE
from . import checks
from .metrics import Metric
from .multi_head import Heads, KeyHeads, ValueHeads, Window, add_sinks
from .pairs import MaskMod, ScoreMod
from .ring_rounds import Embed, Ring, Rows, attend_around

Order = Literal["rows", "zigzag"]


def ring_attention(
    query: Heads, key: KeyHeads, value: ValueHeads, *, axis_name: Hashable,
    scale: float | Float[Array, "*#batch #heads"] | None = None, is_causal: bool = False,
    window: Window | None = None, softcap: float | None = None, alibi: Float[Array, " heads"] | None = None,
    sinks: Float[Array, " heads"] | None = None, score_mod: ScoreMod | None = None, mask_mod: MaskMod | None = None,
    metric: Metric = "dot", curvature: float = -1.0, order: Order = "rows", tile: int = DEFAULT_TILE,
    embed: Embed | None = None, return_lse: bool = False,
) -> Any:  # fmt: skip
    """Compute ``qga.attention`` of rows that are spread over the devices along an axis of a mesh.

    out_i = sum_j e^(s_ij) v_j / sum_j e^(s_ij),  j over the keys of all devices

    Called inside of ``jax.shard_map(..., check_vma=False)``. Every device has as many rows as the others; keys and
    values go round the ring, and the softmax states of what a device has seen are merged. Places count rows of all
    devices, in the order of the devices. The gradient goes round once more, with the final log sums.

    Args:
        query: the rows of this device, [batch, queries, heads, width], or without batch.
        key: likewise, [batch, keys, key_heads, width]; ``key_heads`` divides ``heads``.
        value: likewise, [batch, keys, key_heads, channels].
        axis_name: axis of the mesh that rows are spread over.
        scale: as in ``qga.attention``.
        is_causal: let query i see keys 0 to i only; devices skip what is wholly after their rows.
        window: as in ``qga.attention``; devices skip what is wholly outside.
        softcap: as in ``qga.attention``.
        alibi: as in ``qga.attention``.
        sinks: as in ``qga.attention``.
        score_mod: as in ``qga.attention``, of places among all rows; it may not read arrays that are traced.
        mask_mod: likewise.
        metric: as in ``qga.attention``.
        curvature: as in ``qga.attention``.
        order: "zigzag" where rows lie as ``zigzag_order`` puts them, for causal attention without options of places.
        tile: as in ``qga.attention``.
        embed: makes a function of arrays out of a function of arrays, for what is computed between two rounds:
            ``lowering.embed`` computes it on a Vulkan device of this process. By default it stays in the program.
        return_lse: also return log sum_j e^(s_ij), [batch, queries, heads].

    Returns:
        The rows of this device, [batch, queries, heads, channels]. A query that sees no key gets zeros, and minus
        infinity as its log sum. Bitwise the same on each run, and first gradients in every array.

    Raises:
        ShapeError: shapes or dtypes do not fit together.
        OptionError: an option is out of range; called outside of ``jax.shard_map``; a second derivative.

    Error: that of ``qga.attention``, and a rounding to the dtype of the values in each round.
    Cost: as ``qga.attention`` in all; each device sends its keys and values, devices times; memory of a device is
    linear in its own rows, forwards and backwards.
    Source: Liu, Zaharia and Abbeel 2023; the even order after Brandon et al. 2023.

    Example:
        >>> mesh = jax.make_mesh((1,), ("ring",), axis_types=(jax.sharding.AxisType.Auto,))
        >>> rows = jax.P(None, "ring")
        >>> local = lambda q, k, v: ring_attention(q, k, v, axis_name="ring", is_causal=True)
        >>> x = jnp.sin(jnp.arange(512.0)).reshape(2, 16, 2, 8)
        >>> jax.shard_map(local, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False)(x, x, x).shape
        (2, 16, 2, 8)
    """
    call = checks.Call("ring_attention", query, key, value)
    call.check()
    call.metric(metric, curvature)
    devices = _devices(axis_name)
    chosen, reach = call.scale(scale, metric), call.window(window)
    options_of_places = [alibi, score_mod, mask_mod, reach[0], reach[1]]
    is_placed = any(each is not None for each in options_of_places) or (is_causal and call.queries != call.keys)
    ring = Ring(
        axis_name, devices, is_causal, reach, call.softcap(softcap), score_mod, mask_mod, metric, curvature,
        chosen if isinstance(chosen, float) else 1.0, is_placed,
        _is_zigzag(call, order, is_causal=is_causal, is_placed=is_placed), call.tile(tile), embed,
    )  # fmt: skip
    arrays = {"scale": None if isinstance(chosen, float) else chosen, "alibi": call.by_head("alibi", alibi)}
    numbers = {name: each for name, each in arrays.items() if each is not None}
    query, key, value = (each if call.has_batch else each[None] for each in (query, key, value))
    results: Any = attend_around(ring, Rows(query, key, value, numbers))
    out, log_sums = results
    if sinks is not None:
        out, log_sums = add_sinks(out, log_sums, call.by_head("sinks", sinks))
    out, log_sums = (each if call.has_batch else each[0] for each in (out, log_sums))
    return (out, log_sums) if return_lse else out


def zigzag_order(rows: int, devices: int) -> Int[Array, " rows"]:
    """Order rows so that each of several devices has an early and a late part of them.

    Of 2 devices parts, device d gets part d and part 2 devices - 1 - d: under the causal rule all have the same work
    in every round of ``ring_attention(..., order="zigzag")``. ``jnp.argsort`` of the order puts rows back.

    Args:
        rows: how many, a multiple of 2 devices.
        devices: along the axis of the mesh.

    Returns:
        Which row comes where: ``x[order]`` is spread over the devices.

    Raises:
        ShapeError: parts would differ in length.

    Example:
        >>> zigzag_order(8, 2).tolist()
        [0, 1, 6, 7, 2, 3, 4, 5]
    """
    if devices < 1 or rows % (2 * devices):
        refuse(
            ShapeError,
            "zigzag_order: every device gets two parts of one length.",
            got=f"{rows} rows for {devices} devices",
            want="a multiple of 2 devices",
            fix="pad the rows, or keep them in order.",
        )
    parts = jnp.arange(rows, dtype=jnp.int32).reshape(2 * devices, -1)
    return jnp.stack([parts[:devices], parts[devices:][::-1]], axis=1).reshape(-1)


def _devices(axis_name: Any) -> int:
    """Return how many devices the axis has; refuse a call that is not per device, or one that JAX would refuse."""
    try:
        devices, here = lax.axis_size(axis_name), lax.axis_index(axis_name)
    except NameError:
        refuse(
            OptionError,
            "ring_attention: it is called for the rows of one device, along an axis of a mesh.",
            got=f"no axis {axis_name!r} here",
            want="a call inside of jax.shard_map over a mesh with that axis",
            fix="wrap the function in jax.shard_map, or call qga.attention for rows of one device.",
        )
    if _says_where_it_varies(here):
        refuse(
            OptionError,
            "ring_attention: kernels do not say along which axes of a mesh they vary.",
            got="jax.shard_map with check_vma=True, which is its default",
            want="check_vma=False",
            fix="pass check_vma=False to jax.shard_map.",
        )
    return devices


def _says_where_it_varies(array: jax.Array) -> bool:
    """Tell whether JAX follows along which axes of a mesh arrays differ; its releases call that by two names."""
    kind = jax.typeof(array)
    return bool(getattr(kind, "vma", None) or getattr(getattr(kind, "manual_axis_type", None), "varying", None))


def _is_zigzag(call: checks.Call, order: str, *, is_causal: bool, is_placed: bool) -> bool:
    if order not in get_args(Order):
        refuse(
            OptionError,
            "ring_attention: order is a word that is known.",
            got=repr(order),
            want=" or ".join(map(repr, get_args(Order))),
            fix="leave it out where rows lie in order.",
        )
    if order == "zigzag" and (not is_causal or is_placed or call.queries % 2):
        refuse(
            OptionError,
            "ring_attention: the zigzag order is for the causal rule alone, over two parts of one length.",
            got=f"is_causal={is_causal}, query {describe(call.query)}, key {describe(call.key)}, "
            + ("with" if is_placed else "without")
            + " options of places",
            want="is_causal=True, as many queries as keys, an even number; no window, ALiBi, score_mod or mask_mod",
            fix="keep rows in order, with order='rows'.",
        )
    return order == "zigzag"
