"""Rows of ``qga.arithmetic``."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from qga import arithmetic
from tests.qga.case import Case
from tests.qga.routing.chains import draw_chain, law_of

Drawn = tuple[np.ndarray, ...]


def draw_walk(random: np.random.Generator) -> Drawn:
    chain = draw_chain(random, 5)
    return chain, law_of(chain)


def draw_points(random: np.random.Generator) -> Drawn:
    return draw_chain(random, 5), 0.4 * np.exp(1j * random.random(3))


def draw_graph(random: np.random.Generator) -> Drawn:
    upper = np.triu(random.random((6, 6)) < 0.8, 1).astype(float)
    return upper + upper.T, 0.1 * np.exp(1j * random.random(2))


def powers(chain: jax.Array, _: jax.Array) -> arithmetic.Estimate:
    return arithmetic.trace_powers_estimate(lambda f: chain @ f.astype(chain.dtype), 5, 3, jax.random.key(1), probes=64)


def real_report(chain: jax.Array, law: jax.Array) -> tuple[jax.Array, ...]:
    """Leave out the poles, whose order among conjugates is rounding."""
    report = arithmetic.analyze(chain, law)
    return report.traces, report.modulus_gap, report.entropy_rate, report.phase_gap, report.is_causal


CASES = [
    Case("sharpen", lambda a, _: arithmetic.sharpen(a, 2.5), draw_walk, depth=5, scale=4.0),
    Case("valuation", lambda codes: arithmetic.valuation(codes, 3),
         lambda random: (random.integers(-999, 999, 50),), is_smooth=False),
    Case("reverse_digits", lambda codes: arithmetic.reverse_digits(codes, 3, digits=6),
         lambda random: (random.integers(0, 729, 50),), is_smooth=False),
    Case("zeta_log_determinant", arithmetic.zeta_log_determinant, draw_points, lowers=False, depth=5, scale=4.0),
    Case("trace_powers", lambda a, _: arithmetic.trace_powers(a, 4), draw_walk, depth=25),
    Case("trace_powers_estimate", powers, draw_walk, depth=64, scale=8.0),
    Case("is_triangular", lambda a, _: arithmetic.is_triangular(jnp.tril(a)), draw_walk, is_smooth=False),
    Case("discriminant", lambda a, _: arithmetic.discriminant(a), draw_walk),
    Case("szegedy_phases", lambda a, _: arithmetic.szegedy_phases(a)[1:], draw_walk, lowers=False, depth=5, scale=8.0),
    Case("phase_gap", lambda a, _: arithmetic.phase_gap(a), draw_walk, lowers=False, depth=5, scale=8.0),
    Case("ihara_log_determinant", arithmetic.ihara_log_determinant, draw_graph, is_smooth=False, lowers=False,
         depth=6, scale=8.0),
    Case("is_ramanujan", lambda a, _: arithmetic.is_ramanujan(a), draw_graph, is_smooth=False, lowers=False,
         depth=6, scale=8.0),
    Case("mixing_bound", lambda s, t: arithmetic.mixing_bound(s[0, 0], t[0] * 9, t[1] * 9), draw_walk),
    Case("entropy_rate", arithmetic.entropy_rate, draw_walk, depth=25, scale=2.0),
    Case("log_mahler_measure", lambda a, _: arithmetic.log_mahler_measure(a[0] + 1), draw_walk, lowers=False,
         is_smooth=False, depth=5, scale=8.0),
    Case("analyze", real_report, draw_walk, is_smooth=False, lowers=False, depth=25, scale=4.0),
]  # fmt: skip
