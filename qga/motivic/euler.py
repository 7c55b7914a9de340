"""The Euler characteristic of a mask, and of all the masks a field has at different thresholds."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..errors import OptionError, ShapeError, describe, refuse

Mask = Bool[Array, "rows columns"]
Connectivity = Literal[4, 8]


def euler(mask: Mask, *, connectivity: Connectivity = 4) -> Int[Array, ""]:
    """Count the islands of a mask minus their holes: chi = V - E + F, in integers.

    connectivity 4: a place is a vertex, two places that share a side an edge, a full 2 x 2 block a face. Islands
    touch along sides, holes also at corners. connectivity 8: a place is a closed square with its 4 sides and 4
    corners. Islands touch also at corners, holes along sides only.

    Args:
        mask: True where the set is.
        connectivity: 4 or 8.

    Returns:
        chi, an integer: beta_0 - beta_1 of ``complex_of_mask``.

    Raises:
        OptionError: another connectivity.
        ShapeError: the mask is no boolean matrix.

    Cost: one pass; nothing but local counts.
    Source: Gray 1971.

    Example:
        >>> ring = jnp.ones((3, 3), bool).at[1, 1].set(False)
        >>> int(euler(ring))
        0
    """
    check_mask("euler", mask, connectivity)
    if connectivity == 4:
        down, right = mask[:-1] & mask[1:], mask[:, :-1] & mask[:, 1:]
        return _count(mask) - _count(down) - _count(right) + _count(down[:, :-1] & down[:, 1:])
    padded = jnp.pad(mask, 1)
    down, right = padded[:-1] | padded[1:], padded[:, :-1] | padded[:, 1:]
    return _count(down[:, :-1] | down[:, 1:]) - _count(down) - _count(right) + _count(mask)


def euler_curve(
    field: Float[Array, "rows columns"], thresholds: Float[Array, " levels"], *, connectivity: Connectivity = 4
) -> Int[Array, " levels"]:
    """Compute the Euler characteristic of {field >= threshold} for each threshold.

    Few large regions give small numbers, many islands large positive, many holes large negative ones: a fingerprint of
    an attention map. An increasing function of all entries and thresholds changes nothing.

    Args:
        field: a number for each place; NaN belongs to no set.
        thresholds: in the unit of the field, in any order.
        connectivity: as in ``euler``.

    Raises:
        OptionError: another connectivity.
        ShapeError: the field is no matrix.

    Cost: one pass for each threshold.
    Source: Worsley 1996 (Euler characteristic of excursion sets).

    Example:
        >>> euler_curve(jnp.array([[3.0, 1.0, 2.0]]), jnp.array([1.0, 2.0, 4.0])).tolist()
        [1, 2, 0]
    """
    check_mask("euler_curve", jax.eval_shape(lambda x: x >= 0, field), connectivity)
    return jax.vmap(lambda level: euler(field >= level, connectivity=connectivity))(thresholds)


def check_mask(name: str, mask: jax.Array | jax.ShapeDtypeStruct, connectivity: int) -> None:
    """Refuse what is no boolean matrix, and a connectivity other than 4 or 8."""
    if mask.ndim != 2 or mask.dtype != bool:
        refuse(
            ShapeError,
            f"{name}: a mask is a boolean matrix.",
            got=describe(mask),
            want="bool[rows, columns]",
            fix="compare with a threshold first, and map further axes with jax.vmap.",
        )
    if connectivity not in (4, 8):
        refuse(
            OptionError,
            f"{name}: places touch along sides (4) or also at corners (8).",
            got=f"connectivity={connectivity}",
            want="4 or 8",
            fix="use 4 unless diagonal neighbours belong together.",
        )


def _count(cells: Bool[Array, "rows columns"]) -> Int[Array, ""]:
    return jnp.sum(cells, dtype=jnp.int32)
