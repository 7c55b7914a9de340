"""Scores of every geometry of the lift-inner-link family, dense, for looking at them and as a reference."""

from __future__ import annotations

from typing import Literal, get_args

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Complex, Float

from ..errors import OptionError, ShapeError, describe, refuse
from ..tiling.state import accumulator_dtype
from .scores import fidelity_scores, lift_to_rays, unit_rows

Metric = Literal["dot", "gauss", "cosine", "hyperbolic", "fidelity", "born", "born_hyperbolic"]
Vectors = Float[Array, "*batch width"]
Lifted = Float[Array, "*batch lifted"] | Complex[Array, "*batch lifted"]
Number = float | Float[Array, ""]

_HYPERBOLIC = ("hyperbolic", "born_hyperbolic")
_RAYS = ("fidelity", "born")


def scores(
    queries: Float[Array, "queries width"],
    keys: Float[Array, "keys width"],
    *,
    metric: Metric,
    scale: Number,
    curvature: float = -1.0,
) -> Float[Array, "queries keys"]:
    """Score keys for queries in one of seven geometries: s = link(<lift q, lift k>), in nats.

    ===============  ============================  ==========================================  =======================
    metric           inner x                       score s                                     is e^s a kernel?
    ===============  ============================  ==========================================  =======================
    dot              q . k                         scale x                                     yes
    gauss            q . k - |k|^2 / 2             scale x; -scale |q - k|^2 / 2 up to rows    yes
    cosine           q . k / (|q| |k|)             scale x                                     yes
    hyperbolic       q . k - t_q t_k               scale (x + R^2), R^2 = -1 / curvature       no
    fidelity         <k|q>                         scale |x|^2                                 yes
    born             <k|q>                         scale log |x|^2                             for whole scale
    born_hyperbolic  -(q . k - t_q t_k) / R^2      -2 scale R^2 log x                          yes
    ===============  ============================  ==========================================  =======================

    with t = sqrt(R^2 + |k|^2). x of the last is cosh(d / R), d the distance on the hyperboloid, so its score is -2
    scale R^2 log cosh (d / R): the Born rule of coherent states of SU(1, 1). As the curvature goes to zero,
    ``hyperbolic`` becomes -scale |q - k|^2 / 2 and ``born_hyperbolic`` -scale |q - k|^2, at a rate linear in it. No arc
    function is needed anywhere, so that the gradients at equal points are those of the formulas. The parts are
    established; putting them into one family is a combination.

    Args:
        queries: one row for each question.
        keys: one row for each place looked at.
        metric: ``fidelity`` and ``born`` read rows as ``lift_to_rays`` does; hyperbolic ones as spatial coordinates.
        scale: inverse temperature; the exponent alpha of ``born``.
        curvature: of the hyperbolic metrics, below zero.

    Returns:
        In float32 or wider. ``born`` gives minus infinity, with a derivative of zero, to orthogonal states.

    Raises:
        ShapeError: widths differ, or are odd for rays.
        OptionError: unknown metric, or a curvature that is not below zero.

    Error: a few eps sqrt(width) of scale |q| |k|; of scale (|q|^2 + |k|^2) for the hyperbolic metrics and ``gauss``.
    Cost: one matrix product, two for rays, and memory of queries times keys.
    Source: Perelomov 1986; Faraut and Harzallah 1974 (kernels on hyperbolic space); theory of this project.

    Example:
        >>> rows = jnp.asarray([[1.0, 0.0], [0.0, 1.0]])
        >>> scores(rows, rows, metric="gauss", scale=2.0).tolist()
        [[1.0, -1.0], [-1.0, 1.0]]
    """
    _check(metric, curvature)
    if queries.ndim != 2 or keys.ndim != 2 or queries.shape[1] != keys.shape[1]:
        refuse(
            ShapeError,
            "scores: queries and keys must have the same width.",
            got=f"queries {describe(queries)}, keys {describe(keys)}",
            want="[queries, width] and [keys, width]",
            fix="project both to one width, and map over heads with jax.vmap.",
        )
    dtype = accumulator_dtype(queries, keys)
    scale = jnp.asarray(scale, dtype)
    queries, keys = queries.astype(dtype), keys.astype(dtype)
    if metric in _RAYS:
        fidelities = fidelity_scores(lift_to_rays(queries), lift_to_rays(keys), jnp.ones((), dtype))
        return scale * (fidelities if metric == "fidelity" else _log(fidelities))
    if metric == "cosine":
        queries, keys = unit_rows(queries), unit_rows(keys)
    products = queries @ keys.T
    if metric in _HYPERBOLIC:
        apart = _half_chord_squared(queries, keys, products, curvature)
        if metric == "hyperbolic":
            return -scale * apart
        # Rounding alone makes it negative, which the logarithm would not forgive.
        return 2 / curvature * scale * jnp.log1p(-curvature * jnp.maximum(apart, 0))
    return scale * (products - _squares(keys)[None] / 2 if metric == "gauss" else products)


def lift(vectors: Vectors, *, metric: Metric, curvature: float = -1.0) -> Lifted:
    """Lift vectors into the space where the score of a metric is a function of one inner product.

    dot: v;  gauss: (v, -|v|^2 / 2);  cosine: v / |v|;  hyperbolic ones: (sqrt(R^2 + |v|^2), v);  rays: unit complex
    vector

    Args:
        vectors: one a row.
        metric: as in ``scores``.
        curvature: -1 / R^2 of the hyperbolic metrics, below zero.

    Returns:
        Complex for ``fidelity`` and ``born``. A row of zeros stays zero where it would be normalised, and so does its
        derivative.

    Raises:
        OptionError: unknown metric, or a curvature that is not below zero.
        ShapeError: the width is odd for rays.
    """
    _check(metric, curvature)
    vectors = vectors.astype(accumulator_dtype(vectors))
    if metric in _RAYS:
        return lax.complex(*jnp.split(lift_to_rays(vectors), 2, axis=-1))
    if metric in _HYPERBOLIC:
        time = jnp.sqrt(_squares(vectors) - 1 / curvature)
        return jnp.concatenate([time[..., None], vectors], axis=-1)
    if metric == "gauss":
        return jnp.concatenate([vectors, -_squares(vectors)[..., None] / 2], axis=-1)
    return unit_rows(vectors) if metric == "cosine" else vectors


def _half_chord_squared(queries: Array, keys: Array, products: Array, curvature: float) -> Array:
    """Compute -R^2 - <q, k> = t_q t_k - R^2 - q . k R^2 divided out: exact at curvature zero."""
    asking, looked_at = _squares(queries)[:, None], _squares(keys)[None, :]
    grown = (jnp.sqrt(1 - curvature * squares) for squares in (asking, looked_at))
    times = (asking + looked_at - curvature * asking * looked_at) / (1 + next(grown) * next(grown))
    return times - products


def _log(fidelities: Array) -> Array:
    # Asked as "is it zero", so that NaN stays NaN.
    orthogonal = fidelities == 0
    return jnp.where(orthogonal, -jnp.inf, jnp.log(jnp.where(orthogonal, 1, fidelities)))


def _squares(vectors: Vectors) -> Float[Array, "*batch"]:
    return jnp.sum(jnp.square(vectors), axis=-1)


def _check(metric: str, curvature: float) -> None:
    if metric not in get_args(Metric) or not curvature < 0:
        refuse(
            OptionError,
            "scores: there is no such geometry.",
            got=f"metric={metric!r}, curvature={curvature}",
            want=f"one of {', '.join(get_args(Metric))}; curvature < 0",
            fix="choose a metric of the table, and a negative curvature.",
        )
