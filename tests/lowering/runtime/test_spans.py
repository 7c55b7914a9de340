"""Free spans: best fit, merging, and the point of the timeline that goes with memory."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowering.runtime.spans import ALIGNMENT, FreeSpans, Span, aligned


def _spans(nbytes: int = 4096) -> FreeSpans:
    spans = FreeSpans()
    spans.add_block(1, nbytes)
    return spans


@pytest.mark.parametrize(("nbytes", "want"), [(0, 256), (1, 256), (256, 256), (257, 512)])
def test_aligned_rounds_up_and_gives_empty_arrays_room(nbytes: int, want: int) -> None:
    assert aligned(nbytes) == want


def test_take_prefers_the_smallest_span_that_fits() -> None:
    spans = _spans()
    first, _, third, _ = (spans.take(size) for size in (1024, 256, 512, 256))
    assert first is not None
    assert third is not None
    spans.give(first)
    spans.give(third)
    spans.merge_recent()
    assert spans.take(256) == Span(1, third.offset, 256)


def test_take_returns_none_where_nothing_fits() -> None:
    assert _spans().take(8192) is None


def test_take_merges_recent_spans_before_it_gives_up() -> None:
    spans = _spans(512)
    one, other = spans.take(256), spans.take(256)
    assert one is not None
    assert other is not None
    spans.give(one)
    spans.give(other)
    assert spans.take(512) == Span(1, 0, 512)


def test_merged_span_is_quiet_when_its_last_part_is() -> None:
    spans = _spans(512)
    spans.take(256)
    spans.take(256)
    spans.give(Span(1, 0, 256, quiet=7))
    spans.give(Span(1, 256, 256, quiet=3))
    assert spans.take(512) == Span(1, 0, 512, quiet=7)


def test_empty_blocks_names_only_what_is_all_free() -> None:
    spans = _spans()
    spans.add_block(2, 512)
    taken = spans.take(512)
    assert taken == Span(2, 0, 512)
    assert spans.empty_blocks() == [(1, 0)]
    spans.give(Span(2, 0, 512, quiet=4))
    assert sorted(spans.empty_blocks()) == [(1, 0), (2, 4)]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32))
def test_no_two_live_spans_overlap_and_all_memory_comes_back(seed: int) -> None:
    choose, spans, live = random.Random(seed), _spans(1 << 16), []
    for _ in range(200):
        if live and choose.random() < 0.5:
            spans.give(live.pop(choose.randrange(len(live))))
            continue
        span = spans.take(ALIGNMENT * choose.randint(1, 40))
        if span is not None:
            assert all(span.offset + span.nbytes <= o.offset or o.offset + o.nbytes <= span.offset for o in live)
            live.append(span)
    for span in live:
        spans.give(span)
    assert spans.free_bytes == 1 << 16
    assert spans.empty_blocks() == [(1, 0)]
