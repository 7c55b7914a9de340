"""Patterns on a grid: local density and connected components."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..errors import OptionError, ShapeError, describe, refuse


def local_density(mask: Bool[Array, "rows columns"], window: int) -> Float[Array, "rows columns"]:
    """Measure the share of marked places in a square window around each place, smaller at the border.

    Args:
        mask: which places are marked.
        window: side of the window, odd.

    Raises:
        OptionError: ``window`` is even or below 1.
        ShapeError: the mask has not two axes.

    Cost: two sums along each axis by prefix sums; independent of the window.
    """
    _check("local_density", mask)
    if window < 1 or window % 2 == 0:
        refuse(
            OptionError,
            "local_density: a window has a middle.",
            got=f"window={window}",
            want="an odd number",
            fix="use window + 1.",
        )
    marked = mask.astype(jnp.result_type(float))
    return _box(_box(marked, window, 0), window, 1) / _box(_box(jnp.ones_like(marked), window, 0), window, 1)


def connected_components(mask: Bool[Array, "rows columns"]) -> Int[Array, "rows columns"]:
    """Label the connected parts of a mask; places that share a side are connected.

    Each place takes the smallest label around it until none changes, and labels jump along themselves: as many rounds
    as the logarithm of a straight part's length, or about the side of the grid for parts that wind.

    Args:
        mask: which places belong to a part.

    Returns:
        The index of the first place of each part, counted along rows; -1 outside of the mask.

    Raises:
        ShapeError: the mask has not two axes.

    Source: Shiloach and Vishkin 1982 (pointer jumping).
    """
    _check("connected_components", mask)
    places = mask.size
    outside = jnp.int32(places)
    start = jnp.where(mask, jnp.arange(places, dtype=jnp.int32).reshape(mask.shape), outside)

    def spread(state: tuple[Array, Array]) -> tuple[Array, Array]:
        labels, _ = state
        padded = jnp.pad(labels, 1, constant_values=outside)
        around = jnp.minimum(
            jnp.minimum(padded[:-2, 1:-1], padded[2:, 1:-1]), jnp.minimum(padded[1:-1, :-2], padded[1:-1, 2:])
        )
        lower = jnp.where(mask, jnp.minimum(labels, around), outside)
        # The label of one's label is in the same part and not higher.
        known = jnp.concatenate([lower.reshape(-1), outside[None]])
        jumped = known[lower]
        return jumped, jnp.any(jumped != labels)

    labels, _ = lax.while_loop(lambda state: state[1], spread, (start, jnp.asarray(True)))
    return jnp.where(mask, labels, -1)


def _box(field: Array, window: int, axis: int) -> Array:
    half = window // 2
    size = field.shape[axis]
    pads = [(0, 0)] * field.ndim
    pads[axis] = (1, 0)
    sums = jnp.pad(jnp.cumsum(field, axis=axis), pads)
    place = jnp.arange(size)
    high, low = jnp.minimum(place + half + 1, size), jnp.maximum(place - half, 0)
    return jnp.take(sums, high, axis=axis) - jnp.take(sums, low, axis=axis)


def _check(name: str, mask: Array) -> None:
    if mask.ndim != 2:
        refuse(
            ShapeError,
            f"{name}: a grid has two axes.",
            got=describe(mask),
            want="[rows, columns]",
            fix="map over further axes with jax.vmap.",
        )
