"""Bytes and steps of words: all of them, exactly, against NumPy's reading of the same memory."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from qga.cache.planes_bytes import OF_STEPS, WORD, decode, encode, of_bytes, pack, unpack, unpack_steps

ALL = np.array([np.roll(np.arange(256, dtype=np.uint8), 64 * place) for place in range(WORD)]).T.copy()
WORDS = jnp.asarray(ALL.view("<i4")[:, 0])


def test_unpack_gives_every_signed_byte_at_every_place() -> None:
    got = np.asarray(unpack(WORDS) * of_bytes(WORDS))
    assert np.array_equal(got.T, ALL.view(np.int8))
    # Another word is another byte.
    assert not np.array_equal(np.asarray(unpack(WORDS ^ 1) * of_bytes(WORDS)), got)


def test_factors_of_bytes_take_a_scale() -> None:
    assert np.array_equal(of_bytes(WORDS, 3.0), 3 * np.asarray(of_bytes(WORDS)))


def test_unpack_steps_gives_the_step_of_every_code_at_every_place() -> None:
    codes = ALL.astype(int)
    want = (1 + (codes & 7) / 8) * 2.0 ** ((codes >> 3) - 22)
    assert np.array_equal(np.asarray(unpack_steps(WORDS)).T * OF_STEPS, want)
    assert np.array_equal(decode(jnp.asarray(codes)), want)


@pytest.mark.parametrize("number", [2.0**-22, 0.3, 1.0, 1.0001, 900.0])
def test_a_code_is_that_of_the_next_step(number: float) -> None:
    code = encode(jnp.float32(number))
    assert decode(code - 1) < np.float32(number) <= decode(code) or code == 0


def test_pack_puts_the_first_channel_lowest() -> None:
    assert np.array_equal(pack(jnp.asarray(ALL.reshape(-1), jnp.int32)), WORDS)
