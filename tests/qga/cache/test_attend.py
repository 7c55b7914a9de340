"""Attention to a cache beside the dense formula of the rows that each entry has."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qga
from lowering import lower
from qga import OptionError, ShapeError
from qga.cache import KVCache, append, attend, decode
from tests.lowering.plan.support import machine
from tests.qga.cache.rows import CHANNELS, HEADS, KEY_HEADS, SECOND, WIDTH, Drawn, draw, fill, new_cache, truth
from tests.qga.tolerances import VULKAN_ROUNDINGS, assert_close, assert_far

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "options": {"window": (4, 0), "alibi": jnp.linspace(0.1, 0.4, HEADS), "sinks": jnp.linspace(-1.0, 1.0, HEADS),
                "softcap": 2.0},
}  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("page_rows", [None, 8, pytest.param(12, marks=pytest.mark.exhaustive)])
def test_every_entry_sees_its_own_rows(options: str, page_rows: int | None, random: np.random.Generator) -> None:
    drawn, given = draw(random), OPTIONS[options]

    @jax.jit
    def run(drawn: Drawn) -> Any:
        cache = fill(new_cache(page_rows=page_rows), drawn)
        last = drawn.query[:, -1:]
        shorter = cache._replace(lengths=cache.lengths - 1)
        return [
            attend(each, q, return_lse=True, **given)
            for each, q in ((cache, drawn.query), (cache, last), (shorter, last))
        ]

    several, single, shorter = run(drawn)
    for entry in range(3):
        for got, count in ((several, SECOND), (single, 1)):
            for one, other in zip(got, truth(drawn, entry, count, **given), strict=True):
                assert_close(one[entry], other, depth=24, scale=4.0)
        assert_far(shorter[0][entry], truth(drawn, entry, 1, **given)[0])


def test_steps_of_a_scan_are_the_causal_attention_of_the_whole(random: np.random.Generator) -> None:
    steps, batch, models = 9, 2, 2
    query, key, value = (
        jnp.asarray(random.normal(size=(models, batch, steps, heads, width)), jnp.float32)
        for heads, width in ((HEADS, WIDTH), (KEY_HEADS, WIDTH), (KEY_HEADS, CHANNELS))
    )

    def write(query: Any, key: Any, value: Any) -> Any:
        def step(cache: Any, rows: Any) -> Any:
            out, cache = decode(cache, *(each[:, None] for each in rows))
            return cache, out[:, 0]

        rows = tuple(jnp.moveaxis(each, 1, 0) for each in (query, key, value))
        return jnp.moveaxis(jax.lax.scan(step, new_cache(batch=batch), rows)[1], 0, 1)

    got = jax.jit(jax.vmap(write))(query, key, value)
    want = jax.vmap(partial(qga.attention, is_causal=True))(query, key, value)
    assert_close(got, want, depth=steps, scale=4.0)
    assert_far(got, jax.vmap(qga.attention)(query, key, value))


def test_an_empty_cache_gives_zeros_and_queries_that_do_not_exist_as_well(random: np.random.Generator) -> None:
    drawn = draw(random)
    rows = jnp.array([0, 2, SECOND])

    @jax.jit
    def run(drawn: Drawn) -> Any:
        cache = append(new_cache(), drawn.key[:, :SECOND], drawn.value[:, :SECOND], rows=rows)
        return attend(cache, drawn.query, rows=rows, return_lse=True)

    out, log_sums = run(drawn)
    assert not np.any(out[0])
    assert np.all(np.isneginf(log_sums[0]))
    assert not np.any(out[1, 2:])
    want = qga.attention(*(each[1:2, :2] for each in drawn), is_causal=True)
    assert_close(out[1, :2], want[0], depth=2, scale=4.0)
    assert np.all(np.any(out[2], axis=-1))


def test_a_cache_of_narrower_numbers_is_read_in_those_of_the_queries(random: np.random.Generator) -> None:
    drawn = draw(random)
    narrow = Drawn(drawn.query, *(each.astype(np.float16) for each in drawn[1:]))
    got = jax.jit(lambda drawn: attend(fill(new_cache(jnp.float16), drawn), drawn.query))(narrow)
    assert got.dtype == jnp.float32
    held = Drawn(drawn.query, *(each.astype(np.float32) for each in narrow[1:]))
    assert_close(got[1], truth(held, 1)[0], depth=24, scale=4.0)
    assert_far(got[1], truth(drawn, 1)[0])


def test_only_a_cache_as_the_queries_are_has_derivatives(random: np.random.Generator) -> None:
    drawn = draw(random)

    def loss(query: Any, cache: Any) -> Any:
        return jnp.sum(jnp.square(attend(cache, query)))

    def plainly(query: Any, cache: Any) -> Any:
        out = qga.attention(
            query, cache.keys, cache.values, is_causal=True, key_lengths=cache.lengths,
            query_offset=cache.lengths - SECOND,
        )  # fmt: skip
        return jnp.sum(jnp.square(out))

    cache = jax.jit(fill)(new_cache(), drawn)
    got, want = jax.jit(lambda *given: [jax.grad(each)(*given) for each in (loss, plainly)])(drawn.query, cache)
    assert np.array_equal(got, want)
    assert np.any(got)
    with pytest.raises(OptionError, match="rows that are kept in pages or in fewer bits have no derivative"):
        _ = jax.eval_shape(jax.grad(loss), drawn.query, new_cache(jnp.int8))


def test_what_does_not_fit_a_cache_is_refused() -> None:
    query = jnp.ones((3, 1, HEADS, WIDTH))
    with pytest.raises(ShapeError, match=re.escape("attend: rows are read in the dtype of the queries.\n")):
        _ = attend(new_cache(), query.astype(jnp.float16))
    with pytest.raises(OptionError, match="attend: rows of few bits or in pages are scored by inner products"):
        _ = attend(new_cache(jnp.int8), query, metric="cosine")
    with pytest.raises(ShapeError, match="attend: query, key and value must fit together"):
        _ = attend(new_cache(page_rows=8), query[:2])


def test_vulkan_computes_what_the_cpu_computes(vulkan: jax.Device, random: np.random.Generator) -> None:
    drawn = draw(random)

    @jax.jit
    def run(drawn: Drawn) -> Any:
        paged, plain = fill(new_cache(jnp.int8, page_rows=8), drawn), fill(new_cache(), drawn)
        return attend(paged, drawn.query), attend(plain, drawn.query[:, -1:])

    there, here = run(jax.device_put(drawn, vulkan)), run(drawn)
    for one, other in zip(there, here, strict=True):
        assert_close(one, other, depth=24, scale=4.0, roundings=VULKAN_ROUNDINGS)
    assert_far(there[0], run(drawn._replace(key=drawn.key[:, ::-1]))[0])


def test_a_step_of_decoding_is_three_launches() -> None:
    capabilities = machine("h100")
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float16) for shape in ((2, 1, 2, 64), (2, 4096, 2, 64))]
    lengths = jax.ShapeDtypeStruct((2,), jnp.int32)
    step = lower(lambda query, rows, lengths: attend(KVCache(rows, rows, lengths), query))
    program = step(*shapes, lengths).program(capabilities)
    # Rows of a query that fill a matrix up, a kernel for each part of the keys, and one that joins what they find.
    assert len(program.kernels) == 3


def test_parts_of_a_long_cache_are_joined(vulkan: Any, random: np.random.Generator) -> None:
    capacity, lengths = 1100, np.array([1100, 700, 3, 0], np.int32)
    rows = [random.normal(size=(4, capacity, 2, 8)).astype(np.float32) for _ in range(2)]
    query = random.normal(size=(4, 1, 6, 8)).astype(np.float32)
    # The second part of the first entry has a value that is no number; its other heads do not see it.
    rows[1][0, 600, 1, 2] = np.nan

    step = jax.jit(lambda keys, values, lengths, query: attend(KVCache(keys, values, lengths), query, return_lse=True))
    out, log_sums = step(*(jax.device_put(each, vulkan) for each in (*rows, lengths, query)))
    for entry, length in enumerate(lengths):
        keys, values = (np.repeat(each[entry, :length].astype(float), 3, axis=1) for each in rows)
        scores = np.einsum("hw,khw->hk", query[entry, 0].astype(float), keys) / 8**0.5
        weights = np.exp(scores)
        want = np.einsum("hk,khw->hw", weights, values) / np.maximum(weights.sum(axis=1), 1e-30)[:, None]
        with np.errstate(divide="ignore"):
            sums = np.log(weights.sum(axis=1))
        assert_close(out[entry, 0], want, depth=int(length), scale=4.0, roundings=VULKAN_ROUNDINGS)
        assert_close(log_sums[entry, 0], sums, depth=int(length), scale=8.0, roundings=VULKAN_ROUNDINGS)
