"""Fields at half and double resolution: block means down, repetition up."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..errors import OptionError, ShapeError, describe, refuse


def coarsen(field: Float[Array, " rows *rest"], *, levels: int = 1) -> Float[Array, " blocks *rest"]:
    """Halve the resolution of a field: (R f)_i = (f_2i + f_2i+1) / 2, ``levels`` times.

    A semigroup, R_4 = R_2 R_2 to the bit, because more levels are the same halving repeated; R E = 1 with
    E = ``refine``, and E R is the orthogonal projection onto block means. The mean over all rows is kept.

    Args:
        field: rows on the leading axis, a multiple of 2^levels.
        levels: how many halvings; 0 is the identity.

    Raises:
        OptionError: ``levels`` is negative.
        ShapeError: the rows cannot be halved that often.

    Example:
        >>> coarsen(jnp.array([1.0, 3.0, 5.0, 7.0]), levels=2).tolist()
        [4.0]
    """
    check_halvings("coarsen", field, levels, rows=field.shape[0] if field.ndim else 0)
    for _ in range(levels):
        field = (field[0::2] + field[1::2]) / 2
    return field


def refine(field: Float[Array, " blocks *rest"], *, levels: int = 1) -> Float[Array, " rows *rest"]:
    """Double the resolution of a field by repetition: (E f)_2i = (E f)_2i+1 = f_i, ``levels`` times.

    Args:
        field: rows on the leading axis.
        levels: how many doublings; 0 is the identity.

    Raises:
        OptionError: ``levels`` is negative.
        ShapeError: the field has no axis.

    Example:
        >>> refine(jnp.array([2.0, 6.0])).tolist()
        [2.0, 2.0, 6.0, 6.0]
    """
    check_halvings("refine", field, levels, rows=2 ** max(levels, 0) if field.ndim else 0)
    return jnp.repeat(field, 2**levels, axis=0)


def check_halvings(name: str, array: Array, levels: int, *, rows: int) -> None:
    """Refuse a negative number of levels and rows that cannot be halved that often."""
    if levels < 0:
        refuse(
            OptionError,
            f"{name}: levels are counted from zero.",
            got=f"levels={levels}",
            want="levels >= 0",
            fix="use coarsen to go up in scale and refine to go down.",
        )
    if rows < 1 or rows % 2**levels:
        refuse(
            ShapeError,
            f"{name}: each level merges rows in pairs.",
            got=f"{describe(array)}, levels={levels}",
            want=f"an axis whose length is a positive multiple of {2**levels}",
            fix="pad to a multiple, or take fewer levels.",
        )
