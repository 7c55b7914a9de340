"""Words of four bytes as numbers: no conversion, which GPUs do in a quarter of their lanes, but bits of a float32.

A byte whose top bit is flipped, put behind the exponent of 2^23, is 2^23 + 128 more than it; a byte that lies one
higher is that times 256. So the results of odd channels are left times 256, and steps times 2^-9: powers of two cost
nothing where they are multiplied into something that is there once.

What is unpacked has the places in a word as its first axis, so that a kernel's largest tile has the axes of words last.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

WORD = 4
"""Bytes of a word, and channels in it: planes are read as 32-bit numbers by every device."""
OF_STEPS = 2.0**9
"""What steps that are unpacked must be multiplied by."""
CENTRE = 16
"""Steps from one centre to the next."""

# A step is 1.m 2^e with three bits of m: the top bits of a float32 from 2^-22 on, up to 1.875 2^9. Numbers of float16
# need no more.
_MANTISSA_BITS, _LEAST_STEP = 20, (127 - 22) << 3
# The exponent of the least step, times 1 / OF_STEPS: no code of five bits carries out of it.
_EXPONENT = 96 << 23
# 2^23, behind which the bits of a float32 are integers.
_INTEGERS = (127 + 23) << 23

Words = Int[Array, "*batch words"]
Unpacked = Float[Array, "four *batch words"]


def unpack(words: Words) -> Unpacked:
    """Return the signed bytes of words, channels 4 i, 4 i + 1, 4 i + 2 and 4 i + 3: times 1 / ``of_bytes``."""
    place = _places(words)
    half, is_odd = words[None] >> jnp.where(place < WORD // 2, 0, 16), place % 2 == 1
    bits = (half & jnp.where(is_odd, 255 << 8, 255)) ^ jnp.where(is_odd, _INTEGERS | 128 << 8, _INTEGERS | 128)
    zero = jnp.where(is_odd, jnp.float32(2.0**23 + 128 * 256), jnp.float32(2.0**23 + 128))
    return lax.bitcast_convert_type(bits, jnp.float32) - zero


def of_bytes(words: Array, scale: float = 1) -> Unpacked:
    """Return what the bytes that ``unpack`` makes of words must be multiplied by, times a scale."""
    return jnp.where(_places(words) % 2 == 1, jnp.float32(scale / 256), jnp.float32(scale))


def unpack_steps(words: Words) -> Unpacked:
    """Return the steps whose codes words hold, in the order of ``unpack``: times 1 / ``OF_STEPS``."""
    place = _places(words)
    moved = jnp.where(place < WORD - 1, words[None] << jnp.maximum(20 - 8 * place, 0), words[None] >> 4)
    return lax.bitcast_convert_type((moved & (255 << _MANTISSA_BITS)) | _EXPONENT, jnp.float32)


def _places(words: Array) -> Int[Array, "four *batch words"]:
    return lax.broadcasted_iota(jnp.int32, (WORD, *words.shape), 0)


def encode(wanted: Float[Array, "*batch"]) -> Int[Array, "*batch"]:
    """Return the code of the smallest step that is no smaller than a number, or of the largest step."""
    bits = lax.bitcast_convert_type(wanted, jnp.int32)
    return jnp.clip(((bits + (1 << _MANTISSA_BITS) - 1) >> _MANTISSA_BITS) - _LEAST_STEP, 0, 255)


def decode(codes: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Return the steps that codes stand for."""
    return lax.bitcast_convert_type((codes + _LEAST_STEP) << _MANTISSA_BITS, jnp.float32)


def pack(numbers: Int[Array, "*batch width"]) -> Words:
    """Put four bytes into a word."""
    parts = numbers.reshape(*numbers.shape[:-1], -1, WORD) & 255
    return parts[..., 0] | (parts[..., 1] << 8) | (parts[..., 2] << 16) | (parts[..., 3] << 24)
