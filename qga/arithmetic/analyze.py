"""The arithmetic of one operator in one report: cycles, poles, entropy, phases."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Complex, Float

from ..errors import ShapeError, describe, refuse
from .growth import entropy_rate
from .walk import szegedy_phases
from .zeta import is_triangular, trace_powers

# Cycles longer than this say little that the leading eigenvalues do not.
_POWERS = 8


class ArithmeticReport(NamedTuple):
    """What the arithmetic of an operator P is.

    Attributes:
        traces: Tr(P), ..., Tr(P^8): the weight of closed walks of each length.
        poles: of the zeta function, nearest first: the inverse eigenvalues; infinite for an eigenvalue of zero.
        modulus_gap: 1 minus the second largest |eigenvalue|; how fast P^n forgets. Zero for a periodic walk.
        entropy_rate: nats a step under ``stationary``.
        phase_gap: second smallest phase of the quantum walk.
        is_causal: whether P is lower triangular; then traces and poles repeat the diagonal and the phases are its
            arc cosines.
    """

    traces: Float[Array, " powers"]
    poles: Complex[Array, " rows"]
    modulus_gap: Float[Array, ""]
    entropy_rate: Float[Array, ""]
    phase_gap: Float[Array, ""]
    is_causal: Bool[Array, ""]


def analyze(weights: Float[Array, "rows rows"], stationary: Float[Array, " rows"]) -> ArithmeticReport:
    """Report the zeta function, the entropy rate and the quantum walk of a row-stochastic operator.

    Args:
        weights: P, such as the weights of ``qga.operators.tile_operator``.
        stationary: pi, kept by P (``qga.routing.stationary``).

    Raises:
        ShapeError: the operator is not square, has less than two rows, or the law is not one number a row.

    Needs eigenvalue solvers, which the CPU has.
    """
    if (
        weights.ndim != 2
        or weights.shape[0] != weights.shape[1]
        or stationary.shape != weights.shape[:1]
        or (weights.shape[0] < 2)
    ):
        refuse(
            ShapeError,
            "analyze: an operator of at least two rows, and one number of the law for each.",
            got=f"weights {describe(weights)}, stationary {describe(stationary)}",
            want="[rows, rows] and [rows]",
            fix="lump a long pattern with qga.operators.tile_operator first.",
        )
    values = jnp.linalg.eigvals(weights)
    sizes = jnp.abs(values)
    order = jnp.argsort(-sizes)
    return ArithmeticReport(
        traces=trace_powers(weights, _POWERS),
        poles=_inverse(values[order]),
        modulus_gap=1 - sizes[order[1]],
        entropy_rate=entropy_rate(weights, stationary),
        phase_gap=szegedy_phases(weights)[1],
        is_causal=is_triangular(weights),
    )


def _inverse(values: Complex[Array, " rows"]) -> Complex[Array, " rows"]:
    """Invert eigenvalues, zero to infinity: a complex quotient would be NaN in its imaginary part."""
    is_zero = values == 0
    return jnp.where(is_zero, jnp.inf, 1 / jnp.where(is_zero, 1, values))
