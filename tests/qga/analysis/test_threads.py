"""Solvers run on one thread, and whoever set another number finds it again."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from qga.analysis.threads import _libraries, one_thread

OTHER = 2


@pytest.fixture
def counts() -> Generator[list[int]]:
    before = [get() for get, _ in _libraries()]
    for _, put in _libraries():
        put(OTHER)
    yield [OTHER] * len(before)
    for (_, put), count in zip(_libraries(), before, strict=True):
        put(count)


def now() -> list[int]:
    return [get() for get, _ in _libraries()]


def test_the_libraries_of_numpy_and_jax_are_found() -> None:
    assert len(_libraries()) >= 1


def test_inside_there_is_one_thread_and_outside_what_was_before(counts: list[int]) -> None:
    assert now() == counts
    with one_thread:
        assert now() == [1] * len(counts)
    assert now() == counts


def test_only_the_last_one_out_puts_the_number_back(counts: list[int]) -> None:
    with one_thread:
        with one_thread:
            assert now() == [1] * len(counts)
        assert now() == [1] * len(counts)
    assert now() == counts


def test_an_error_inside_puts_the_number_back(counts: list[int]) -> None:
    with pytest.raises(ZeroDivisionError), one_thread:
        _ = 1 / 0
    assert now() == counts
