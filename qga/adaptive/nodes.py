"""Gaussian kernels through the nodes of a grid: positive sums over nodes near a tile instead of sums over pairs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from .arrange import Cut, Points, exist

# How many times smaller the sum of weights of a query may be than the number of keys, where windows are chosen for it.
_THIN = 100
# Nodes that a tile may be wide, by axes: wider ones need fewer tiles, and larger windows.
_SPANS = {1: 4, 2: 4, 3: 3}
# Axes whose products are features of a point.
_JOINED = 2
# Rounding of the reach of a window and of what is lost beyond it, with room.
_MARGIN = 1.01
# Steps of a fixed point that gains a digit each.
_ROUNDS = 20


@dataclass(frozen=True)
class Nodes:
    """A grid in units of the distance of its nodes.

    Attributes:
        decay: c, the distance of nodes in bandwidths.
        ripple: a weight is off by this part of itself at most, along each axis.
        reach: nodes beyond a tile that its window has at least.
        span: nodes that a tile may be wide.
    """

    decay: float
    ripple: float
    reach: float
    span: int

    @property
    def window(self) -> int:
        """Nodes of a tile's window, along each axis."""
        return math.ceil(2 * self.reach + self.span)

    @property
    def unit(self) -> float:
        """What a sum over nodes is multiplied by, along each axis."""
        return self.decay * math.sqrt(2 / math.pi)

    def along(self, cuts: tuple[Cut, Cut]) -> int:
        """Return the nodes of each axis that points may lie among: as many as their tiles can span, and a margin."""
        return self.span * max(max(cut.slabs) for cut in cuts) + self.window + 2


@cache
def nodes_of(width: int, eps: float, lost: float) -> Nodes:
    """Choose a grid that sums to a Gaussian function of the distance, but for a ripple.

    e^(-c^2 (q - k)^2 / 2) (1 + h) = c sqrt(2 / pi) sum_g e^(-c^2 (q - g)^2) e^(-c^2 (k - g)^2),   g = ... -1, 0, 1 ...
    |h| <= 2 y / (1 - y^3),   y = e^(-pi^2 / (2 c^2)),   pi^2 |h| <= eps c^2

    The last is for derivatives: the second one of log(1 + h) is at most eps times that of a weight.

    Args:
        width: axes.
        eps: promised total variation.
        lost: what nodes beyond windows may make of it, where the keys weigh as many as _THIN times fewer.

    Source: Poisson summation of a product of two Gaussian functions, as in Greengard and Lee 2004 (fast gridding).
    """
    decay, ripple = 1.0, eps
    for _ in range(_ROUNDS):
        ripple = eps * (decay / math.pi) ** 2
        decay = math.pi / math.sqrt(-2 * math.log(ripple / 2 * (1 - ripple**3 / 8)))
    depth = math.log(4 * width * decay * math.sqrt(2 / math.pi) * _THIN / lost)
    # The equation is exact: rounding must not make less of it.
    return Nodes(decay, ripple * _MARGIN, math.sqrt(depth) / decay, _SPANS[width])


class Windows(NamedTuple):
    """Where tiles lie among the nodes.

    Attributes:
        steps: of points from the first node of the window of their tile, along each axis; zeros where it has none.
        origins: the first node along each axis, of the slabs of this axis, [heads, slabs of each axis up to it].
        fits: which tiles have a window.
        lost: at least what a pair with a point of the tile loses beyond its window, relative to a weight of 1.
    """

    steps: Float[Array, "axes heads tiles rows"]
    origins: tuple[Int[Array, ...], ...]
    fits: Bool[Array, "heads tiles"]
    lost: Float[Array, "heads tiles"]


def least_of(dtype: jnp.dtype) -> float:
    """Return the scale times the square of the extent of the points up to which a scale is raised by this much.

    A scale of zero has a derivative then. The raise moves exponents by half of this, and the derivative rounds like eps
    over its root: eps^(2 / 3) makes both alike.
    """
    return float(jnp.finfo(dtype).eps) ** (2 / 3) / 2


def extent_of(queries: Points, keys: Points) -> Float[Array, " heads"]:
    """Return the square of the diagonal of the box that all points of a head lie in; 1 where they are one point."""
    ends = [fold(jnp.stack([fold(queries, axis=1), fold(keys, axis=1)]), axis=0) for fold in (jnp.max, jnp.min)]
    extent = jnp.sum(jnp.square(ends[0] - ends[1]), axis=1)
    return jnp.where(extent > 0, extent, 1)


def to_nodes(points: tuple[Points, Points], scale: Float[Array, " heads"], nodes: Nodes) -> tuple[Points, Points]:
    """Return queries and keys of the same heads in units of the distance of nodes."""
    extent, least = extent_of(*map(lax.stop_gradient, points)), least_of(scale.dtype)
    raised = jnp.where(scale * extent < least, scale + least / extent, scale)
    unit = (jnp.sqrt(raised) / nodes.decay)[:, None, None]
    return points[0] * unit, points[1] * unit


def place_windows(points: tuple[Points, Points], cuts: tuple[Cut, Cut], nodes: Nodes) -> tuple[Windows, Windows]:
    """Lay a window of nodes around each tile of queries and of keys.

    Args:
        points: in units of nodes, near the origin.
        cuts: of them.
        nodes: the grid; where it is too small for all points, it lies around the origin.
    """
    boxes = [_boxes(lax.stop_gradient(rows), cut) for rows, cut in zip(points, cuts, strict=True)]
    along, bases = nodes.along(cuts), []
    for axis in range(points[0].shape[2]):
        ends = [box[axis] for box in boxes]
        low = jnp.min(jnp.stack([jnp.min(each[0].reshape(len(each[0]), -1), axis=1) for each in ends]), axis=0)
        high = jnp.max(jnp.stack([jnp.max(each[1].reshape(len(each[1]), -1), axis=1) for each in ends]), axis=0)
        fits = high - low <= along - nodes.window - 3
        bases.append(jnp.where(fits, jnp.floor(low) - nodes.window // 2 - 1, -(along // 2)))
    one, other = (
        _windows(rows, box, bases, cut, nodes, along) for rows, box, cut in zip(points, boxes, cuts, strict=True)
    )
    return one, other


def deposit(
    nodes: Nodes, windows: Windows, columns: Float[Array, "heads tiles rows columns"], slabs: tuple[int, ...],
    along: int,
) -> Float[Array, "heads *nodes columns"]:  # fmt: skip
    """Sum what keys hold over the nodes of the grid, sum_k e^(-c^2 |k - g|^2) (1, v_k)."""
    held = jnp.where(windows.fits[..., None, None], columns, 0)
    first, last = _features(nodes, windows.steps)
    spread = (last[..., None] * held[..., None, :]).reshape(*held.shape[:3], -1)
    found = jnp.einsum("htrn,htrm->htnm", first, spread, precision=lax.Precision.HIGHEST)
    found = found.reshape(len(found), *slabs, *[nodes.window] * len(slabs), columns.shape[3])
    grid: Any = _add((nodes.window, along), found, windows.origins)
    return grid


def ask(
    nodes: Nodes, windows: Windows, grid: Float[Array, "heads *nodes columns"]
) -> Float[Array, "heads tiles rows columns"]:
    """Sum what the nodes hold over the window of each query, times the unit of each axis."""
    held: Any = _take((nodes.window, grid.shape[1]), grid, windows.origins)
    first, last = _features(nodes, windows.steps)
    held = held.reshape(*windows.fits.shape, first.shape[3], -1)
    found = jnp.einsum("htrn,htnm->htrm", first, held, precision=lax.Precision.HIGHEST)
    found = jnp.sum(last[..., None] * found.reshape(*last.shape, -1), axis=3)
    return jnp.where(windows.fits[..., None, None], found * nodes.unit ** len(windows.steps), 0)


def _boxes(points: Points, cut: Cut) -> list[tuple[Array, Array]]:
    """Return the least and the largest coordinate of each slab, along the axis that it is cut along."""
    there, ends = exist(cut)[None], []
    for axis in range(points.shape[2]):
        shape = (len(points), *cut.slabs[: axis + 1], -1)
        low, high = (jnp.where(there, points[..., axis], most).reshape(shape) for most in (jnp.inf, -jnp.inf))
        ends.append((jnp.min(low, axis=-1), jnp.max(high, axis=-1)))
    return ends


def _windows(
    points: Points, boxes: list[tuple[Array, Array]], bases: list[Array], cut: Cut, nodes: Nodes, along: int
) -> Windows:
    window, axes = nodes.window, len(boxes)
    starts, firsts = [], []
    fits, lost = jnp.ones((len(points), *cut.slabs), bool), jnp.zeros((len(points), *cut.slabs), points.dtype)
    for axis, ((low, high), base) in enumerate(zip(boxes, bases, strict=True)):
        start = jnp.floor((low + high) / 2 - (window - 2) / 2)
        reach = jnp.minimum(low - start + 1, start + window - high)
        first = start - base.reshape(-1, *[1] * (axis + 1))
        is_inside = (reach >= nodes.reach) & (first >= 0) & (first <= along - window)
        spread = lambda each, axis=axis: each.reshape(*each.shape, *[1] * (axes - 1 - axis))  # noqa: E731
        fits &= spread(is_inside)
        lost += spread(_lost(jnp.where(is_inside, reach, nodes.reach), nodes, axes))
        firsts.append(jnp.where(is_inside, first, 0).astype(jnp.int32))
        starts.append(jnp.broadcast_to(spread(start), fits.shape))
    fits = fits.reshape(len(points), -1)
    rows = points.reshape(*fits.shape, cut.rows, axes)
    steps = [
        jnp.where(fits[..., None], rows[..., axis] - start.reshape(fits.shape)[..., None], 0)
        for axis, start in enumerate(starts)
    ]
    return Windows(jnp.stack(steps), tuple(firsts), fits, lost.reshape(fits.shape))


def _lost(reach: Array, nodes: Nodes, axes: int) -> Array:
    """Bound what nodes beyond a window are worth, of a weight of 1: 2 c sqrt(2 / pi) sum_(g >= r) e^(-c^2 g^2).

    The other axes sum to a weight, up to their ripple, which is divided out.
    """
    square = nodes.decay**2
    beyond = 2 * nodes.unit * jnp.exp(-square * jnp.square(reach)) / (1 - jnp.exp(-2 * square * reach))
    return _MARGIN * beyond * (1 + nodes.ripple) ** (axes - 1) / (1 - nodes.ripple) ** axes


def _features(nodes: Nodes, steps: Float[Array, "axes heads tiles rows"]) -> tuple[Array, Array]:
    """Return e^(-c^2 |x - g|^2) for all nodes of the window along the first two axes, and along the others.

    The others are multiplied with columns: fewer numbers than the products over all axes.
    """
    found = []
    for some in (steps[:_JOINED], steps[_JOINED:]):
        product = jnp.ones((*steps.shape[1:], 1), steps.dtype)
        for along in some:
            away = along[..., None] - jnp.arange(nodes.window, dtype=along.dtype)[None, None, None]
            one = jnp.exp(-(nodes.decay**2) * jnp.square(away))
            product = (product[..., :, None] * one[..., None, :]).reshape(*steps.shape[1:], -1)
        found.append(product)
    return found[0], found[1]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _add(sizes: tuple[int, int], windows: Array, origins: tuple[Array, ...]) -> Array:
    """Add windows up where they lie: [heads, slabs of each axis, window along each axis, columns]; slab by slab."""
    axes, along = len(origins), sizes[1]
    for axis in reversed(range(axes)):
        heads, slabs, window = len(windows), windows.shape[1 : axis + 2], windows.shape[axis + 2 : 2 * axis + 3]
        rest = windows.shape[2 * axis + 3 :]
        lines = heads * math.prod(slabs[:-1])
        parts = windows.reshape(lines, slabs[-1], math.prod(window[:-1]), window[-1], -1)
        # What lies outside of a window is the zero on either side of it.
        padded = jnp.pad(parts, ((0, 0), (0, 0), (0, 0), (1, 1), (0, 0)))
        origin = origins[axis].reshape(lines, slabs[-1], 1)
        places = jnp.clip(jnp.arange(1, along + 1, dtype=jnp.int32)[None, None] - origin, 0, window[-1] + 1)
        summed = [jax.vmap(_pick)(padded[:, slab], places[:, slab]) for slab in range(slabs[-1])]
        windows = sum(summed[1:], summed[0]).reshape(heads, *slabs[:-1], *window[:-1], along, *rest)
    return windows


def _pick(part: Float[Array, "others window columns"], places: Int[Array, " nodes"]) -> Array:
    return part[:, places]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _take(sizes: tuple[int, int], grid: Array, origins: tuple[Array, ...]) -> Array:
    """Take the windows of all tiles out of a grid: the transpose of ``_add``."""
    axes, (window, along), slabs = len(origins), sizes, origins[-1].shape[1:]
    shape = (len(grid), *slabs, *[window] * axes)
    places = jnp.zeros(shape, jnp.int32)
    for axis, first in enumerate(origins):
        first = first.reshape(*first.shape, *[1] * (2 * axes - 1 - axis))
        step = jnp.arange(window, dtype=jnp.int32).reshape(*[1] * (axes + 1 + axis), -1, *[1] * (axes - 1 - axis))
        places = places * along + first + step
    rows = grid.reshape(len(grid), -1, grid.shape[-1])
    found = jax.vmap(lambda each, place: each[place])(rows, places.reshape(len(grid), -1))
    return found.reshape(*shape, -1)


_add.defvjp(
    lambda sizes, windows, origins: (_add(sizes, windows, origins), origins),
    lambda sizes, origins, bar: (_take(sizes, bar, origins), None),
)
_take.defvjp(
    lambda sizes, grid, origins: (_take(sizes, grid, origins), origins),
    lambda sizes, origins, bar: (_add(sizes, bar, origins), None),
)
