"""Turn pairs of channels by an angle that grows with the position (rotary position embedding).

    (a, b) -> (a cos t - b sin t, a sin t + b cos t),   t = position · base^(-2 i / width)

for pair i: channel i of the first half with channel i of the second. One program turns a block of positions of one
head, in place where the caller gives its array away. The gradient turns back: the same kernel at the angle -t.

Moves 2 · heads · positions · width numbers and does 3 operations a number, a sine and a cosine a pair.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jaxtyping import Array, Float, Int

from qga.errors import ShapeError, describe, refuse

Channels = Float[Array, "heads positions width"]
Positions = Int[Array, "positions"]
# The base, the direction (1 or -1), the block and `interpret`.
Options = tuple[float, int, int, bool]


def rope(
    x: Channels, positions: Positions, *, base: float = 10_000.0, block_positions: int = 32, interpret: bool = False
) -> Channels:
    """Turn the channels of each position by its angles.

    Args:
        x: queries or keys, of even width; f16 and bf16 are computed in f32.
        positions: where each row stands, int32; below 2^24, beyond which f32 has no exact integers.
        base: the slowest pair turns about this many times slower than the first.
        block_positions: positions that one program turns.
        interpret: run the kernel as JAX operations, on any platform.

    Returns:
        The turned channels in the dtype of ``x``. Differentiable to any order, in reverse, in ``x``.

    Raises:
        ShapeError: the width is odd, or there is not one position for each row.

    Error: angles are rounded to f32, so the results err by eps times the position.
    Source: Su et al. 2021.
    """
    if x.ndim != 3 or x.shape[2] % 2 or positions.shape != x.shape[1:2] or positions.dtype != jnp.int32:
        refuse(
            ShapeError,
            "rope: channels come in pairs, and each row has a position.",
            got=f"x {describe(x)}, positions {describe(positions)}",
            want="x [heads, positions, even width], positions int32[positions]",
            fix="reshape the leading axes into one.",
        )
    return _rope(x, positions, (base, 1, block_positions, interpret))


def reference(x: Channels, positions: Positions, *, base: float = 10_000.0) -> Channels:
    """Return what ``rope`` computes, in plain JAX."""
    angles = positions.astype(x.dtype)[:, None] * jnp.asarray(_frequencies(base, x.shape[2]), x.dtype)[None, :]
    cosine, sine = jnp.cos(angles)[None], jnp.sin(angles)[None]
    first, second = jnp.split(x, 2, axis=2)
    return jnp.concatenate([first * cosine - second * sine, first * sine + second * cosine], axis=2)


def _frequencies(base: float, width: int) -> np.ndarray:
    return base ** (-2 * np.arange(width // 2) / width)


def _primal(x: Channels, positions: Positions, options: Options) -> Channels:
    base, direction, block, interpret = options
    heads, rows, width = x.shape
    frequencies = jnp.asarray(direction * _frequencies(base, width), _sum_dtype(x.dtype))
    spec = pl.BlockSpec((None, block, width), lambda head, i: (head, i, 0))
    return pl.pallas_call(
        functools.partial(_turn, half=width // 2),
        grid=(heads, pl.cdiv(rows, block)),
        in_specs=[
            spec,
            pl.BlockSpec((block,), lambda head, i: (i,)),
            pl.BlockSpec((width // 2,), lambda head, i: (0,)),
        ],
        out_specs=spec,
        out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype),
        input_output_aliases={0: 0},
        interpret=interpret,
        name="rope",
    )(x, positions, frequencies)


def _forward(x: Channels, positions: Positions, options: Options) -> tuple[Channels, Positions]:
    return _rope(x, positions, options), positions


def _backward(options: Options, positions: Positions, out_bar: Channels) -> tuple[Channels, None]:
    base, direction, block, interpret = options
    return _rope(out_bar, positions, (base, -direction, block, interpret)), None


_rope = jax.custom_vjp(_primal, nondiff_argnums=(2,))
_rope.defvjp(_forward, _backward)


def _turn(x_ref: jax.Ref, positions_ref: jax.Ref, frequencies_ref: jax.Ref, out_ref: jax.Ref, *, half: int) -> None:
    dtype = frequencies_ref.dtype
    angles = positions_ref[...].astype(dtype)[:, None] * frequencies_ref[...][None, :]
    cosine, sine = jnp.cos(angles), jnp.sin(angles)
    first, second = x_ref[:, :half].astype(dtype), x_ref[:, half:].astype(dtype)
    out_ref[:, :half] = (first * cosine - second * sine).astype(out_ref.dtype)
    out_ref[:, half:] = (first * sine + second * cosine).astype(out_ref.dtype)


def _sum_dtype(dtype: jnp.dtype) -> jnp.dtype:
    """Return the dtype that sums are taken in."""
    return jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)
