"""optax: steps of every family of optimisers on a small classifier, schedules, wrappers, losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from .case import Program, normal

STEPS = 4
# Each step divides by the root of an average of squared gradients, themselves sums over the batch.
DEPTH = 64 * STEPS
FEATURES = normal(64, 8)
LABELS = (normal(64, seed=1) > 0).astype("int32") + (normal(64, seed=2) > 0)
PARAMETERS = {
    "first": normal(8, 16, seed=3) / 4,
    "bias": normal(16, seed=4) / 4,
    "second": normal(16, 3, seed=5) / 4,
}


def _loss(parameters: dict[str, Any]) -> Any:
    hidden = jax.nn.gelu(FEATURES @ parameters["first"] + parameters["bias"])
    return optax.softmax_cross_entropy_with_integer_labels(hidden @ parameters["second"], LABELS).mean()


def _train(optimiser: optax.GradientTransformation) -> Callable[[Any], Any]:
    extended = optax.with_extra_args_support(optimiser)

    def step(carry: Any, _: None) -> Any:
        parameters, state = carry
        value, gradient = jax.value_and_grad(_loss)(parameters)
        updates, state = extended.update(gradient, state, parameters, value=value, grad=gradient, value_fn=_loss)
        return (optax.apply_updates(parameters, updates), state), value

    def run(parameters: Any) -> Any:
        (parameters, _), losses = jax.lax.scan(step, (parameters, extended.init(parameters)), length=STEPS)
        return parameters, losses

    return run


def _chain() -> optax.GradientTransformation:
    schedule = optax.warmup_cosine_decay_schedule(0.0, 0.05, warmup_steps=2, decay_steps=STEPS)
    return optax.chain(
        optax.clip_by_global_norm(0.5), optax.adaptive_grad_clip(0.1), optax.adamw(schedule, weight_decay=0.1)
    )


def _partitioned() -> optax.GradientTransformation:
    labels = {"first": "slow", "bias": "none", "second": "fast"}
    transforms = {"slow": optax.sgd(0.01), "fast": optax.adam(0.1), "none": optax.set_to_zero()}
    return optax.partition(transforms, labels)


OPTIMISERS: dict[str, optax.GradientTransformation] = {
    "adagrad_and_ema": optax.chain(optax.adagrad(0.1), optax.ema(0.9)),
    "adamw_clipped_with_schedule": _chain(),
    "dog": contrib.dog(1.0),
    "every_other_step": optax.MultiSteps(optax.nadamw(0.05), every_k_schedule=2).gradient_transformation(),
    "finite_steps_only": optax.apply_if_finite(optax.radam(0.05), max_consecutive_errors=2),
    "lamb": optax.lamb(0.05),
    "lbfgs": optax.lbfgs(memory_size=3),
    "lion": optax.lion(0.01),
    "partitions": _partitioned(),
    "muon": contrib.muon(0.05),
    "schedule_free": contrib.schedule_free_adamw(0.05, warmup_steps=2),
}


def _losses(x: Any, y: Any) -> Any:
    probabilities = jax.nn.softmax(y)
    return {
        "cosine": optax.cosine_similarity(x, y),
        "ctc": optax.ctc_loss(
            x.reshape(2, 8, 8), jnp.zeros((2, 8)), jnp.tile(jnp.array([[1, 3, 2, 5]]), (2, 1)), jnp.zeros((2, 4))
        ),
        "divergence": optax.kl_divergence(jax.nn.log_softmax(x), probabilities),
        "focal": optax.sigmoid_focal_loss(x, (y > 0).astype(x.dtype), alpha=0.3),
        "hinge": optax.hinge_loss(x, jnp.sign(y)),
        "huber": optax.huber_loss(x, y),
        "poly": optax.losses.poly_loss_cross_entropy(x, probabilities),
        "triplet": optax.losses.triplet_margin_loss(x, y, x[::-1]),
    }


PROGRAMS = [
    *(
        Program(f"optax_{name}", _train(optimiser), (PARAMETERS,), depth=DEPTH)
        for name, optimiser in OPTIMISERS.items()
    ),
    Program(
        "optax_losses",
        lambda x, y: (_losses(x, y), jax.grad(lambda z: sum(map(jnp.sum, jax.tree.leaves(_losses(z, y)))))(x)),
        (normal(16, 8), normal(16, 8, seed=1)),
        depth=64,
    ),
]
