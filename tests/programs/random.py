"""jax.random: samplers, on keys that are split and folded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import random

from .case import Program, normal, positive

SHAPE = (50,)
# Rejection samplers: a rounding of the proposal moves the sample by a few of its own.
REJECTION = 64


def _all(**samplers: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a program that gives each sampler a key of its own."""

    def run(seed: Any) -> Any:
        keys = random.split(random.fold_in(random.key(seed), 17), len(samplers))
        return {name: sampler(key) for key, (name, sampler) in zip(keys, samplers.items(), strict=True)}

    return run


EXACT = _all(
    bernoulli=lambda k: random.bernoulli(k, 0.3, SHAPE),
    bits=lambda k: [random.bits(k, SHAPE, dtype) for dtype in ("uint8", "uint16", "uint32")],
    choice=lambda k: random.choice(k, jnp.arange(10), SHAPE, p=jnp.arange(1.0, 11) / 55),
    halves=lambda k: [random.uniform(k, SHAPE, dtype) for dtype in ("float16", "bfloat16")],
    keys=lambda k: jax.vmap(lambda one: random.uniform(one, (3,)))(random.split(k, 5)),
    old_style=lambda k: random.uniform(random.PRNGKey(3), SHAPE) + jax.random.key_data(k)[0].astype("float32") * 0,
    rademacher=lambda k: random.rademacher(k, SHAPE),
    randint=lambda k: random.randint(k, SHAPE, -5, 1000),
    uniform=lambda k: random.uniform(k, SHAPE, minval=-2, maxval=5),
)
TRANSFORMED = _all(
    ball=lambda k: random.ball(k, 3, shape=(20,)),
    cauchy=lambda k: random.cauchy(k, SHAPE),
    exponential=lambda k: random.exponential(k, SHAPE),
    gumbel=lambda k: random.gumbel(k, SHAPE),
    laplace=lambda k: random.laplace(k, SHAPE),
    maxwell=lambda k: random.maxwell(k, SHAPE),
    normal=lambda k: random.normal(k, SHAPE),
    pareto=lambda k: random.pareto(k, 3.0, SHAPE),
    triangular=lambda k: random.triangular(k, 0.0, 0.3, 1.0, SHAPE),
    truncated=lambda k: random.truncated_normal(k, -1.0, 2.0, SHAPE),
    wald=lambda k: random.wald(k, 1.5, SHAPE),
)
GAMMAS = _all(
    beta=lambda k: random.beta(k, 2.0, 0.5, SHAPE),
    dirichlet=lambda k: random.dirichlet(k, jnp.array([0.5, 1.0, 4.0]), (20,)),
    gamma=lambda k: random.gamma(k, jnp.linspace(0.2, 9, 50)),
)
COUNTS = _all(
    binomial=lambda k: random.binomial(k, 40, 0.3, SHAPE),
    geometric=lambda k: random.geometric(k, 0.2, SHAPE),
    multinomial=lambda k: random.multinomial(k, 30.0, jnp.array([0.2, 0.3, 0.5])),
    poisson=lambda k: random.poisson(k, jnp.linspace(0.5, 40, 50)),
)


def _categorical(seed: Any, logits: Any) -> Any:
    key = random.key(seed)
    return random.categorical(key, logits), random.categorical(key, logits, axis=0, shape=(6, 8))


def _reparameterised(shape: Any) -> Any:
    sample = lambda alpha: random.gamma(random.key(1), alpha).sum()  # noqa: E731
    return jax.grad(sample)(shape)


SEED = 11

PROGRAMS = [
    Program("random_exact", EXACT, (SEED,)),
    Program("random_transformed", TRANSFORMED, (SEED,), roundings=16),
    Program("random_gammas", GAMMAS, (SEED,), roundings=REJECTION),
    Program("random_counts", COUNTS, (SEED,), roundings=REJECTION),
    Program("random_categorical", _categorical, (SEED, normal(5, 8))),
    Program("random_gamma_gradient", _reparameterised, (positive(12) * 5,), roundings=512),
]
