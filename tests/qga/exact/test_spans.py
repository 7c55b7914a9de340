"""Intervals of what can be seen: they hold everything that is seen, rise, and are no larger than they must be."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qga.exact.scores import DOT_NARROW
from qga.exact.spans import span_of
from qga.kernels.modify import Extents, cut_function
from qga.kernels.problem import Problem, Span, TilePlan, by_query, sizes_of
from qga.kernels.steps import key_steps

Drawn = tuple[int, int, dict[str, Any]]
NUMBERS = st.none() | st.integers(0, 9)


@st.composite
def draw_call(draw: st.DrawFn) -> Drawn:
    queries, keys = draw(st.sampled_from([(1, 6), (6, 4), (5, 8), (3, 0)]))
    options: dict[str, Any] = {
        "offset": draw(st.none() | st.integers(-5, 9)), "back": draw(NUMBERS), "ahead": draw(NUMBERS),
        "query_length": draw(NUMBERS), "key_length": draw(NUMBERS),
    }  # fmt: skip
    if draw(st.booleans()):
        options["segments"] = [
            np.int32(draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))) for n in (queries, keys)
        ]
    return queries, keys, options


def visible(queries: int, keys: int, options: dict[str, Any]) -> np.ndarray:
    """Tell of each pair whether the query sees the key."""
    query, key = np.indices((queries, keys))
    here = query + (options.get("offset") or 0)
    seen = np.ones((queries, keys), bool)
    for limit, distance in ((options.get("back"), here - key), (options.get("ahead"), key - here)):
        seen &= limit is None or distance <= limit
    for length, place in ((options.get("query_length"), query), (options.get("key_length"), key)):
        seen &= length is None or place < length
    segments = options.get("segments")
    return seen if segments is None else seen & (segments[0][:, None] == segments[1][None])


def spanned(queries: int, keys: int, options: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, ...]]:
    """Return which pairs the intervals of queries hold, which those of keys, and the ends of all."""
    arrays = {name: each if name in ("back", "ahead", "segments") or each is None else jnp.int32(each)
              for name, each in options.items()}  # fmt: skip
    if arrays.get("segments") is not None:
        arrays["segments"] = tuple(map(jnp.asarray, arrays["segments"]))
    first, after, first_query, queries_after = map(np.asarray, span_of(queries, keys, **arrays))
    query, key = np.indices((queries, keys))
    by_query = (key >= first[:, None]) & (key < (keys - after)[:, None])
    by_key = (query >= first_query[None]) & (query < (queries - queries_after)[None])
    return by_query, by_key, (first, keys - after, first_query, queries - queries_after)


@settings(deadline=None, max_examples=40)
@given(call=draw_call())
def test_intervals_hold_every_pair_that_is_seen_and_rise(call: Drawn) -> None:
    by_query, by_key, ends = spanned(*call)
    seen = visible(*call)
    assert not (seen & ~by_query).any()
    assert not (seen & ~by_key).any()
    for each in ends:
        assert (np.diff(each) >= 0).all()
        assert each.dtype == np.int32


CALLS = [
    (7, 9, {"ahead": 0}),
    (7, 9, {"ahead": 0, "back": 2, "offset": 3}),
    (9, 7, {"back": 3, "ahead": 1}),
    (6, 8, {"key_length": 5, "ahead": 2}),
    (6, 8, {"query_length": 4, "key_length": 5}),
    (8, 9, {"segments": [np.int32([0, 0, 0, 1, 1, 2, 2, 2]), np.int32([0, 0, 1, 1, 1, 1, 2, 2, 2])]}),
    (8, 9, {"segments": [np.int32([0, 0, 0, 1, 1, 2, 2, 2]), np.int32([0, 0, 1, 1, 1, 1, 2, 2, 2])], "ahead": 0}),
]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: "-".join(call[2]))
def test_intervals_are_tight_where_what_is_seen_rises(call: Drawn) -> None:
    by_query, by_key, _ = spanned(*call)
    seen = visible(*call)
    rows, columns = seen.any(axis=1), seen.any(axis=0)
    assert np.array_equal(by_query[rows], seen[rows])
    assert np.array_equal(by_key[:, columns], seen[:, columns])
    assert not by_query.all()


def test_queries_that_do_not_exist_reach_nothing() -> None:
    by_query, by_key, _ = spanned(6, 8, {"query_length": 4})
    assert not by_query[4:].any()
    assert not by_key[4:].any()


def test_unsorted_segments_have_larger_intervals_than_they_need() -> None:
    call = 3, 4, {"segments": [np.int32([0, 1, 0]), np.int32([0, 1, 1, 0])]}
    by_query, _, _ = spanned(*call)
    assert (by_query & ~visible(*call)).any()


def test_rows_that_fill_up_a_tile_look_no_farther_than_the_last_one() -> None:
    cut = cut_function(lambda s, b, h, q, k: (jnp.where(k < 5, s, -jnp.inf),), Extents(1, 1, 4, 64), [], [], np.float32)
    span = span_of(4, 64, key_length=jnp.int32(5))
    rows, keys = jnp.zeros((4, 8), jnp.float16), jnp.zeros((64, 8), jnp.float16)
    problem = Problem((rows,), keys, keys, jnp.float32(1), None, cut.given, span)
    plan = TilePlan(DOT_NARROW, 16, is_causal=False, modifier=cut.modifier)
    sizes = sizes_of(plan, problem)
    assert sizes.query_tile == 16
    # The intervals are what comes last; a row that is not there is padded with what the last one sees.
    assert all(block.repeats for block in by_query(sizes, problem)[-4:])
    padded = [jnp.pad(each, (0, 12), mode="edge") for each in span[:2]]
    assert int(key_steps(plan, sizes, 0, problem._replace(span=Span(*padded, *span[2:]))).stop) == 1
    zeros = [jnp.pad(each, (0, 12)) for each in span[:2]]
    assert int(key_steps(plan, sizes, 0, problem._replace(span=Span(*zeros, *span[2:]))).stop) == 4
