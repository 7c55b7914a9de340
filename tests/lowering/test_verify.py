"""Verify mode: rounding passes, also where terms cancel; anything else is named with its place."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from lowering.graph import Value
from lowering.verify import ALLOWED, VerificationError, check_node, compare

from .programs import graph_of

# Centred, so that each row's sum is rounding alone.
ROWS = np.random.default_rng(0).standard_normal((4, 4096)).astype(np.float32)
ROWS -= ROWS.mean(1, keepdims=True)


def check_sum(got: np.ndarray) -> None:
    """Check what a kernel would have made of the rows' sums."""
    graph = graph_of(lambda x: jnp.sum(x, 1), ROWS)
    constant, total = graph.nodes
    known = {graph.inputs[0]: ROWS, constant.output: np.float32(0), total.output: got}
    check_node(total, {value: np.asarray(array) for value, array in known.items()})


def in_another_order(array: np.ndarray) -> np.ndarray:
    """Return the sums of rows, added from the other end and one after the other."""
    return np.add.accumulate(array[:, ::-1], axis=1, dtype=np.float32)[:, -1]


def test_sum_that_cancels_may_differ_by_rounding() -> None:
    got = in_another_order(ROWS)
    # All of it is rounding, and more than the size of the result explains.
    assert np.abs(got - ROWS.sum(1)).max() > ALLOWED * np.finfo(np.float32).eps * np.abs(ROWS.sum(1)).max()
    check_sum(got)


def test_sum_that_lost_a_term_is_found() -> None:
    with pytest.raises(VerificationError, match="computed something else than NumPy"):
        check_sum(in_another_order(ROWS[:, 1:]))


def test_misplaced_nan_is_found() -> None:
    value = Value(0, "f32", (2,))
    got, want = np.array([1, np.nan], np.float32), np.array([1, 2], np.float32)
    difference = compare(value, got, want, 1, moved=np.array([9, 9], np.float32))
    assert difference is not None
    assert difference.position == (1,)


def test_whole_numbers_are_exact() -> None:
    value = Value(0, "i32", (2,))
    assert compare(value, np.array([1, 2]), np.array([1, 3]), 1000) is not None


def test_same_nan_and_infinity_agree() -> None:
    array = np.array([np.nan, np.inf, -np.inf], np.float32)
    assert compare(Value(0, "f32", (3,)), array, array.copy(), 1) is None
