"""flax: modules of linen and nnx, forward and gradients, with their state and random streams."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx

from .case import Program, normal

BATCH, TIME, WIDTH = 3, 6, 16
SEQUENCE = normal(BATCH, TIME, WIDTH)
# Sums over width, batch and time, through several layers.
DEPTH = 8 * BATCH * TIME * WIDTH

# The default, an orthogonal matrix, needs a QR factorisation.
RECURRENT = linen.initializers.lecun_normal()


def _linen(module: linen.Module, **options: Any) -> Any:
    """Return a program that initialises a module and takes value, new state and gradient of a sum of squares."""

    def run(x: Any) -> Any:
        streams = {name: jax.random.key(place) for place, name in enumerate(("params", "dropout"))}
        variables = module.init(streams, x, **options)

        def loss(parameters: Any) -> Any:
            collections = {**variables, "params": parameters}
            out, state = module.apply(collections, x, rngs=streams, mutable=["batch_stats"], **options)
            return sum(jnp.square(leaf).mean() for leaf in jax.tree.leaves(out)), state

        return jax.value_and_grad(loss, has_aux=True)(variables["params"])

    return run


class Perceptron(linen.Module):
    """Dense layers with dropout and layer normalisation."""

    @linen.compact
    def __call__(self, x: Any) -> Any:
        """Return the logits."""
        x = linen.LayerNorm()(linen.Dense(32)(x))
        x = linen.Dropout(0.3, deterministic=False)(linen.silu(x))
        return linen.DenseGeneral((2, 5), axis=-1)(x)


class Norms(linen.Module):
    """Normalisations of every kind, with their running statistics."""

    @linen.compact
    def __call__(self, x: Any) -> Any:
        """Return the normalised sequence."""
        x = linen.BatchNorm(use_running_average=False)(x)
        x = linen.GroupNorm(num_groups=4)(linen.RMSNorm()(x))
        return linen.InstanceNorm()(linen.WeightNorm(linen.Dense(WIDTH))(x))


class Block(linen.Module):
    """A transformer's block: causal attention and a gated feed-forward layer."""

    @linen.compact
    def __call__(self, x: Any) -> Any:
        """Return the sequence."""
        mask = linen.make_causal_mask(x[..., 0])
        x = x + linen.MultiHeadDotProductAttention(num_heads=4)(linen.LayerNorm()(x), mask=mask)
        gate, value = jnp.split(linen.Dense(4 * WIDTH)(linen.LayerNorm()(x)), 2, axis=-1)
        return x + linen.Dense(WIDTH)(linen.gelu(gate) * value)


def _nnx(make: Any) -> Any:
    """Return a program that builds a module and takes value and gradient of a mean of squares."""

    def run(x: Any) -> Any:
        module = make(nnx.Rngs(0, dropout=1))
        loss, gradient = nnx.value_and_grad(lambda m: jnp.square(m(x)).mean())(module)
        return loss, nnx.to_pure_dict(nnx.state(gradient)), nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))

    return run


def _perceptron(rngs: nnx.Rngs) -> nnx.Module:
    return nnx.Sequential(
        nnx.Linear(WIDTH, 32, rngs=rngs), nnx.BatchNorm(32, rngs=rngs), nnx.relu, nnx.Dropout(0.2, rngs=rngs),
        nnx.LoRALinear(32, WIDTH, lora_rank=2, rngs=rngs), nnx.LayerNorm(WIDTH, rngs=rngs),
        nnx.Einsum("btw,wo->bto", (WIDTH, 5), (5,), rngs=rngs),
    )  # fmt: skip


def _attention(rngs: nnx.Rngs) -> nnx.Module:
    return nnx.Sequential(
        nnx.RMSNorm(WIDTH, rngs=rngs),
        nnx.MultiHeadAttention(4, WIDTH, decode=False, rngs=rngs),
        nnx.GroupNorm(WIDTH, num_groups=2, rngs=rngs),
    )


def _train(tokens: Any) -> Any:
    """Embed, recur and train with an optimiser of nnx."""
    import optax

    rngs = nnx.Rngs(0)
    model = nnx.Sequential(
        nnx.Embed(11, WIDTH, rngs=rngs),
        nnx.RNN(nnx.GRUCell(WIDTH, WIDTH, recurrent_kernel_init=RECURRENT, rngs=rngs)),
        nnx.Linear(WIDTH, 11, rngs=rngs),
    )
    optimiser = nnx.Optimizer(model, optax.adam(0.01), wrt=nnx.Param)

    def loss(m: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(m(tokens), (tokens * 3 + 1) % 11).mean()

    losses = []
    for _ in range(2):
        value, gradient = nnx.value_and_grad(loss)(model)
        optimiser.update(model, gradient)
        losses.append(value)
    return jnp.stack(losses), nnx.to_pure_dict(nnx.state(model, nnx.Param))


TOKENS = (normal(BATCH, TIME) * 100).astype("int32") % 11

PROGRAMS = [
    Program("linen_perceptron", _linen(Perceptron()), (SEQUENCE,), depth=DEPTH),
    Program("linen_norms", _linen(Norms()), (SEQUENCE,), depth=DEPTH),
    Program("linen_transformer", _linen(Block()), (SEQUENCE,), depth=DEPTH),
    Program(
        "linen_lstm",
        _linen(linen.RNN(linen.OptimizedLSTMCell(8, recurrent_kernel_init=RECURRENT), reverse=True)),
        (SEQUENCE,),
        depth=DEPTH,
    ),
    Program("nnx_perceptron", _nnx(_perceptron), (SEQUENCE,), depth=DEPTH),
    Program("nnx_attention", _nnx(_attention), (SEQUENCE,), depth=DEPTH),
    Program("nnx_training", _train, (TOKENS,), depth=DEPTH),
]
