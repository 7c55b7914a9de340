"""jax.scipy: special functions, distributions, interpolation, and their gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy import integrate, interpolate, ndimage, special, stats
from jax.scipy.spatial.transform import Rotation

from .case import Program, normal, positive

# Series and continued fractions in the working precision: both sides amplify their roundings.
SERIES = 512


def _each(**functions: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a program of the values and derivatives of functions of one number."""

    def run(x: Any) -> Any:
        return {name: (f(x), jax.vmap(jax.grad(lambda v, f=f: f(v)))(x)) for name, f in functions.items()}

    return run


ERRORS = _each(
    entr=lambda x: special.entr(x),
    erf=special.erf,
    erfc=special.erfc,
    erfinv=lambda x: special.erfinv(x / 2),
    expit=special.expit,
    log_ndtr=special.log_ndtr,
    logit=lambda x: special.logit(x / 2),
    ndtr=special.ndtr,
    ndtri=lambda x: special.ndtri(x / 2),
    xlog1py=lambda x: special.xlog1py(x, x),
    xlogy=lambda x: special.xlogy(x, x + 1),
)
GAMMAS = _each(
    betainc=lambda x: special.betainc(2.0, 3.0, x / 2),
    digamma=special.digamma,
    gamma=special.gamma,
    gammainc=lambda x: special.gammainc(2.0, x),
    gammaln=special.gammaln,
    polygamma=lambda x: special.polygamma(1, x),
    zeta=lambda x: special.zeta(x + 1.5, 1.0),
)
BESSEL = _each(i0=special.i0, i0e=special.i0e, i1=special.i1, i1e=special.i1e)


def _integrals(x: Any) -> Any:
    return {
        "exp1": special.exp1(x),
        "expi": special.expi(x),
        "factorial": special.factorial(jnp.floor(x * 5)),
        "logsumexp": special.logsumexp(x, b=x),
        "multigammaln": special.multigammaln(x + 2, 3),
        "rel_entr": special.rel_entr(x, x[::-1]),
        "spence": special.spence(x),
        "trapezoid": integrate.trapezoid(x),
    }


def _continuous(x: Any) -> Any:
    names = "beta cauchy chi2 expon gamma gennorm laplace logistic norm pareto t truncnorm uniform wrapcauchy".split()
    parameters: dict[str, tuple[float, ...]] = {
        "beta": (2.0, 3.0), "chi2": (3.0,), "gamma": (2.0,), "gennorm": (1.5,), "pareto": (2.0,), "t": (3.0,),
        "truncnorm": (-1.0, 2.0), "wrapcauchy": (0.4,),
    }  # fmt: skip
    return {name: getattr(stats, name).logpdf(x, *parameters.get(name, ())) for name in names} | {
        "cumulative": [stats.norm.cdf(x), stats.logistic.sf(x), stats.expon.cdf(x), stats.norm.ppf(x / 2)],
        "dirichlet": stats.dirichlet.logpdf(x[:4] / x[:4].sum(), jnp.array([1.0, 2, 3, 4])),
        "skew": (stats.sem(x), x.mean()),
    }


def _discrete(k: Any) -> Any:
    return {
        "bernoulli": stats.bernoulli.logpmf(k % 2, 0.3),
        "betabinom": stats.betabinom.logpmf(k, 12, 2.0, 3.0),
        "binom": stats.binom.logpmf(k, 12, 0.4),
        "geom": stats.geom.logpmf(k + 1, 0.3),
        "multinomial": stats.multinomial.logpmf(k[:3], 3, jnp.array([0.2, 0.3, 0.5])),
        "nbinom": stats.nbinom.logpmf(k, 4, 0.5),
        "poisson": (stats.poisson.logpmf(k, 3.0), stats.poisson.cdf(k, 3.0)),
    }


def _grids(image: Any, points: Any) -> Any:
    axes = (jnp.arange(6.0), jnp.arange(7.0))
    return {
        "coordinates": [ndimage.map_coordinates(image, points, order, mode="wrap") for order in (0, 1)],
        "grid": interpolate.RegularGridInterpolator(axes, image)(points.T),
        "resized": [jax.image.resize(image, (9, 4), method) for method in ("nearest", "linear", "cubic", "lanczos3")],
        "gradient": jax.grad(lambda v: ndimage.map_coordinates(v, points, 1).sum())(image),
    }


def _rotations(vectors: Any) -> Any:
    turn = Rotation.from_rotvec(vectors)
    return turn.as_quat(), turn.as_matrix(), turn.apply(vectors[::-1]), (turn * turn.inv()).magnitude()


PROGRAMS = [
    Program("special_errors", ERRORS, (positive(40),), roundings=64),
    Program("special_gammas", GAMMAS, (positive(40) * 1.5,), roundings=SERIES),
    Program("special_bessel", BESSEL, (normal(40) * 4,), roundings=64),
    Program("special_integrals", _integrals, (positive(40),), roundings=SERIES),
    Program("stats_continuous", _continuous, (positive(40) * 0.8,), roundings=64),
    Program("stats_discrete", _discrete, (jnp.arange(9),), roundings=64),
    Program("scipy_grids", _grids, (normal(6, 7), positive(2, 15) * 4), depth=42),
    Program("scipy_rotations", _rotations, (normal(5, 3),), roundings=32),
]
