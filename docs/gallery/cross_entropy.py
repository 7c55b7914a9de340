"""Charge each token for its target, from hidden states and the output matrix, without the logits in memory.

    loss_t = lse_t - z_{t, target_t},   z = hidden · output,   lse_t = log sum_v e^(z_tv)

Forward: the grid has an axis of token blocks and, inside it, one of vocabulary blocks. Programs of one token block
follow each other and keep its softmax state (largest logit, sum of exponentials, logit of the target) in scratch; the
last one writes.

Backward recomputes the logits from lse. With g the gradient of loss and share_tv = g_t (e^(z_tv - lse_t) - [v =
target_t]):

    dhidden = share · outputᵀ,   doutput = hiddenᵀ · share

One kernel sums over the vocabulary, one over the tokens, each in scratch.

Forward moves (tokens · width + tokens / block_tokens · width · vocabulary) numbers and does 2 · tokens · width ·
vocabulary operations; each gradient moves about as much and does twice the work. The logits would be tokens ·
vocabulary numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float, Int

from qga.errors import ShapeError, describe, refuse

Hidden = Float[Array, "tokens width"]
Output = Float[Array, "width vocabulary"]
Targets = Int[Array, "tokens"]
Losses = Float[Array, "tokens"]
Residuals = tuple[Hidden, Output, Targets, Float[Array, "tokens 1"]]


class Options(NamedTuple):
    """What a kernel is made for."""

    block_tokens: int
    block_vocabulary: int
    interpret: bool


class Sizes(NamedTuple):
    """Where the arrays end, inside blocks that may reach further."""

    tokens: int
    vocabulary: int


def cross_entropy(
    hidden: Hidden,
    output: Output,
    targets: Targets,
    *,
    block_tokens: int = 32,
    block_vocabulary: int = 128,
    interpret: bool = False,
) -> Losses:
    """Return the cross entropy of each token's target.

    Args:
        hidden: what the network knows about each token.
        output: one column of weights for each word, in the dtype of ``hidden``.
        targets: the right word of each token, int32, at least 0 and below the vocabulary.
        block_tokens: tokens that one program holds.
        block_vocabulary: words that it scores.
        interpret: run the kernels as JAX operations, on any platform.

    Returns:
        One loss for each token, in f32 (f64 for f64). Differentiable once, in reverse, in ``hidden`` and ``output``.

    Raises:
        ShapeError: shapes or dtypes do not fit together.
    """
    if (
        hidden.ndim != 2
        or output.ndim != 2
        or targets.shape != hidden.shape[:1]
        or hidden.shape[1] != output.shape[0]
        or hidden.dtype != output.dtype
        or targets.dtype != jnp.int32
    ):
        refuse(
            ShapeError,
            "cross_entropy: hidden states, output matrix and targets must fit together.",
            got=f"hidden {describe(hidden)}, output {describe(output)}, targets {describe(targets)}",
            want="hidden [tokens, width], output [width, vocabulary] of its dtype, targets int32[tokens]",
            fix="reshape the leading axes into one, transpose an embedding to use it as the output matrix.",
        )
    return _cross_entropy(hidden, output, targets, Options(block_tokens, block_vocabulary, interpret))


def reference(hidden: Hidden, output: Output, targets: Targets) -> Losses:
    """Return what ``cross_entropy`` computes, in plain JAX."""
    logits = hidden @ output
    picked = jnp.take_along_axis(logits, targets[:, None], axis=1)
    return jax.nn.logsumexp(logits, axis=1) - picked[:, 0]


def _primal(hidden: Hidden, output: Output, targets: Targets, options: Options) -> Losses:
    return _forward(hidden, output, targets, options)[0]


def _forward(hidden: Hidden, output: Output, targets: Targets, options: Options) -> tuple[Losses, Residuals]:
    (tokens, width), vocabulary = hidden.shape, output.shape[1]
    dtype = _sum_dtype(hidden.dtype)
    row = pl.BlockSpec((options.block_tokens, 1), lambda t, v: (t, 0))
    column = jax.ShapeDtypeStruct((tokens, 1), dtype)
    losses, log_sums = pl.pallas_call(
        functools.partial(_merge_one_block, vocabulary=vocabulary),
        grid=(pl.cdiv(tokens, options.block_tokens), pl.cdiv(vocabulary, options.block_vocabulary)),
        in_specs=[
            pl.BlockSpec((options.block_tokens, width), lambda t, v: (t, 0)),
            pl.BlockSpec((width, options.block_vocabulary), lambda t, v: (0, v)),
            row,
        ],
        out_specs=[row, row],
        out_shape=[column, column],
        scratch_shapes=[pl.ANY((options.block_tokens, 1), dtype)] * 3,
        # Scratch hides from a compiler which axes hand something on.
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary")),
        interpret=options.interpret,
        name="cross_entropy",
    )(hidden, output, targets[:, None])
    return losses[:, 0], (hidden, output, targets, log_sums)


def _backward(options: Options, residuals: Residuals, losses_bar: Losses) -> tuple[Hidden, Output, None]:
    hidden, output, targets, log_sums = residuals
    arrays = (hidden, output, targets[:, None], log_sums, losses_bar[:, None])
    sizes = Sizes(hidden.shape[0], output.shape[1])
    token_blocks = pl.cdiv(sizes.tokens, options.block_tokens)
    word_blocks = pl.cdiv(sizes.vocabulary, options.block_vocabulary)
    hidden_bar = _sum_of_products(
        functools.partial(_add_to_hidden, sizes=sizes),
        (token_blocks, word_blocks),
        lambda t, v: (t, v),
        "hidden",
        options,
        arrays,
    )
    output_bar = _sum_of_products(
        functools.partial(_add_to_output, sizes=sizes),
        (word_blocks, token_blocks),
        lambda v, t: (t, v),
        "output",
        options,
        arrays,
    )
    return hidden_bar, output_bar, None


_cross_entropy = jax.custom_vjp(_primal, nondiff_argnums=(3,))
_cross_entropy.defvjp(_forward, _backward)


def _sum_of_products(
    kernel: Callable[..., None],
    grid: tuple[int, int],
    tokens_and_words: Callable[..., tuple[int, int]],
    of: str,
    options: Options,
    arrays: tuple[Array, ...],
) -> Array:
    """Run a kernel that sums over the last axis of the grid, in scratch of the shape of its output block."""
    hidden, output, _, log_sums, _ = arrays
    width = hidden.shape[1]
    row = pl.BlockSpec((options.block_tokens, 1), lambda *ids: (tokens_and_words(*ids)[0], 0))
    specs = {
        "hidden": pl.BlockSpec((options.block_tokens, width), lambda *ids: (tokens_and_words(*ids)[0], 0)),
        "output": pl.BlockSpec((width, options.block_vocabulary), lambda *ids: (0, tokens_and_words(*ids)[1])),
    }
    block_shape = {
        "hidden": (options.block_tokens, width),
        "output": (width, options.block_vocabulary),
    }[of]
    like = {"hidden": hidden, "output": output}[of]
    return pl.pallas_call(
        kernel,
        grid=grid,
        in_specs=[specs["hidden"], specs["output"], row, row, row],
        out_specs=specs[of],
        out_shape=jax.ShapeDtypeStruct(like.shape, like.dtype),
        scratch_shapes=[pl.ANY(block_shape, log_sums.dtype)],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary")),
        interpret=options.interpret,
        name=f"cross_entropy_{of}_gradient",
    )(*arrays)


def _merge_one_block(
    hidden_ref: jax.Ref,
    output_ref: jax.Ref,
    targets_ref: jax.Ref,
    losses_ref: jax.Ref,
    log_sums_ref: jax.Ref,
    top_ref: jax.Ref,
    total_ref: jax.Ref,
    picked_ref: jax.Ref,
    *,
    vocabulary: int,
) -> None:
    step, dtype = pl.program_id(1), top_ref.dtype

    @pl.when(step == 0)
    def _start() -> None:
        top_ref[...] = jnp.full(top_ref.shape, -jnp.inf, dtype)
        total_ref[...] = jnp.zeros(total_ref.shape, dtype)
        picked_ref[...] = jnp.zeros(picked_ref.shape, dtype)

    logits = hidden_ref[...].astype(dtype) @ output_ref[...].astype(dtype)
    word = step * logits.shape[1] + jax.lax.broadcasted_iota(jnp.int32, logits.shape, 1)
    logits = jnp.where(word < vocabulary, logits, -jnp.inf)
    top = jnp.maximum(top_ref[...], logits.max(axis=1, keepdims=True))
    powers = jnp.exp(logits - top).sum(axis=1, keepdims=True)
    total_ref[...] = total_ref[...] * jnp.exp(top_ref[...] - top) + powers
    top_ref[...] = top
    picked_ref[...] += jnp.where(word == targets_ref[...], logits, 0).sum(axis=1, keepdims=True)

    @pl.when(step == pl.num_programs(1) - 1)
    def _finish() -> None:
        log_sums = top_ref[...] + jnp.log(total_ref[...])
        log_sums_ref[...] = log_sums
        losses_ref[...] = log_sums - picked_ref[...]


def _add_to_hidden(*refs: jax.Ref, sizes: Sizes) -> None:
    *in_refs, out_ref, sum_ref = refs
    _, output, share = _recompute(in_refs, pl.program_id(0), pl.program_id(1), sizes, sum_ref.dtype)
    _accumulate(share @ output.T, out_ref, sum_ref)


def _add_to_output(*refs: jax.Ref, sizes: Sizes) -> None:
    *in_refs, out_ref, sum_ref = refs
    hidden, _, share = _recompute(in_refs, pl.program_id(1), pl.program_id(0), sizes, sum_ref.dtype)
    _accumulate(hidden.T @ share, out_ref, sum_ref)


def _recompute(
    refs: list[jax.Ref], token_block: jax.Array, word_block: jax.Array, sizes: Sizes, dtype: jnp.dtype
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return blocks of hidden, output and share, with zeros past the ends."""
    hidden_ref, output_ref, targets_ref, log_sums_ref, losses_bar_ref = refs
    first_token, first_word = token_block * hidden_ref.shape[0], word_block * output_ref.shape[1]
    hidden, output = hidden_ref[...].astype(dtype), output_ref[...].astype(dtype)
    hidden = jnp.where(first_token + jax.lax.broadcasted_iota(jnp.int32, hidden.shape, 0) < sizes.tokens, hidden, 0)
    output = jnp.where(first_word + jax.lax.broadcasted_iota(jnp.int32, output.shape, 1) < sizes.vocabulary, output, 0)
    logits = hidden @ output
    token = first_token + jax.lax.broadcasted_iota(jnp.int32, logits.shape, 0)
    word = first_word + jax.lax.broadcasted_iota(jnp.int32, logits.shape, 1)
    hit = (word == targets_ref[...]).astype(dtype)
    share = losses_bar_ref[...].astype(dtype) * (jnp.exp(logits - log_sums_ref[...]) - hit)
    return hidden, output, jnp.where((token < sizes.tokens) & (word < sizes.vocabulary), share, 0)


def _accumulate(term: jax.Array, out_ref: jax.Ref, sum_ref: jax.Ref) -> None:
    """Add a term to the sum over the last axis of the grid; the last program writes it."""
    step = pl.program_id(1)

    @pl.when(step == 0)
    def _start() -> None:
        sum_ref[...] = jnp.zeros(sum_ref.shape, sum_ref.dtype)

    sum_ref[...] += term

    @pl.when(step == pl.num_programs(1) - 1)
    def _finish() -> None:
        out_ref[...] = sum_ref[...].astype(out_ref.dtype)


def _sum_dtype(dtype: jnp.dtype) -> jnp.dtype:
    """Return the dtype that sums are taken in."""
    return jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)
