"""What adaptive attention may be asked for, checked."""

from __future__ import annotations

from typing import Any, get_args

import jax.numpy as jnp
from jaxtyping import Array

from ..errors import OptionError, describe, refuse
from ..kernels.problem import Products
from ..tiling.plan import Budget, Certified, Fixed, Resolution
from .budget import is_possible

# Metrics whose scores are functions of an inner product of rows.
_PRODUCTS = ("dot", "gauss", "cosine", "hyperbolic", "born_hyperbolic")
# Those whose scores are linear in the key.
_LINEAR = ("dot", "cosine")


def check_resolution(resolution: Any, query: Array, metric: str) -> None:
    """Refuse what cannot be kept.

    Raises:
        OptionError: the resolution is out of range, or does not fit the queries or the metric.
    """
    match resolution:
        case Certified(eps, share, products, coarse):
            is_good = _is_number(eps) and 0 < eps < 1 and 0 <= share < 1
            is_good = is_good and products in get_args(Products)[:2] and _is_bool(coarse)
        case Fixed(tile):
            is_good = tile is None or tile >= 1
        case Budget():
            is_good = is_possible(resolution)
        case _:
            is_good = False
    if not is_good:
        refuse(
            OptionError,
            "adaptive_attention: a resolution says what may be left out.",
            got=repr(resolution),
            want="qga.tiling.Certified(eps) with a number 0 < eps < 1, 0 <= skip_share < 1, products 'given' or 'half' "
            "and coarse a bool, qga.tiling.Budget(...) of tiles, bytes or flops, a whole number >= 1 or a share "
            "0 < share <= 1.0, or qga.tiling.Fixed(tile)",
            fix="pass resolution=qga.tiling.Certified(1e-3).",
        )
    is_half = isinstance(resolution, Certified) and resolution.products == "half"
    if is_half and (jnp.result_type(query) != jnp.float32 or metric not in _PRODUCTS):
        refuse(
            OptionError,
            "adaptive_attention: 16-bit products stand for inner products of float32.",
            got=f"query {describe(query)}, metric={metric!r}",
            want=f"float32 and one of the metrics {', '.join(_PRODUCTS)}",
            fix="leave products out.",
        )


def check_coarse(resolution: Resolution, metric: str, **options: Any) -> None:
    """Refuse what happens to a score and is not the same for what a tile has in the mean, before anything is computed.

    Raises:
        OptionError: tiles may be coarse, and scores are more than inner products and ALiBi.
    """
    if not isinstance(resolution, Certified) or not resolution.coarse:
        return
    found = {"metric": metric not in _LINEAR}
    found |= {name: options.get(name) is not None for name in ("softcap", "bias", "score_mod")}
    if any(found.values()):
        refuse(
            OptionError,
            "adaptive_attention: coarse tiles have scores that are linear in the key.",
            got=", ".join(name for name, is_there in found.items() if is_there),
            want="metric 'dot' or 'cosine' without softcap, bias and score_mod; masks and ALiBi may be there",
            fix="leave coarse out.",
        )


def tile_of(resolution: Resolution, own: int) -> int:
    """Return the rows of a tile of a plan, of kernels whose own tiles have this many.

    Raises:
        OptionError: a fixed tile is no multiple of the kernels' own.
    """
    tile = resolution.tile if isinstance(resolution, Fixed) else None
    if tile is not None and tile % own:
        refuse(
            OptionError,
            "adaptive_attention: a fixed tile is whole tiles of the kernels.",
            got=f"tile={tile}",
            want=f"a multiple of {own}, which rows of this dtype and width have",
            fix=f"pass resolution=qga.tiling.Fixed({-(-tile // own) * own}), or Fixed() for the kernels' own.",
        )
    return own if tile is None else tile


def _is_bool(coarse: Any) -> bool:
    return isinstance(coarse, bool)


def _is_number(eps: Any) -> bool:
    return isinstance(eps, float | int)
