"""The share that an audit names is exceeded no oftener than it says, whatever the true share is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta, binom

from qga import OptionError
from qga.tiling import Audit, share_bounds
from qga.tiling.audit import allowed_failures

# Shares of failing rows; the smallest is far below one row.
TRUTHS = np.concatenate([np.geomspace(1e-4, 0.1, 60), np.linspace(0.1, 0.999, 90)])
CASES = [(1, 0.5), (7, 0.9), (64, 0.99), (257, 0.95), (257, 0.999999)]


def coverage(bounds: np.ndarray, rows: int) -> np.ndarray:
    """How likely the bound is no less than the true share, for each true share: a sum over all outcomes."""
    chances = binom.pmf(np.arange(rows + 1)[None], rows, TRUTHS[:, None])
    return np.sum(np.where(bounds[None] >= TRUTHS[:, None], chances, 0), axis=1)


@pytest.mark.parametrize(("rows", "confidence"), CASES)
def test_bounds_are_those_of_clopper_and_pearson(rows: int, confidence: float) -> None:
    bounds, failures = np.asarray(share_bounds(rows, confidence)), np.arange(rows)
    expected = beta.ppf(confidence, failures + 1, rows - failures)
    assert np.all(bounds[:-1] >= expected)
    np.testing.assert_allclose(bounds[:-1], expected, rtol=1e-8)
    assert bounds[-1] == 1


@pytest.mark.parametrize(("rows", "confidence"), CASES)
def test_the_true_share_is_covered_as_often_as_promised(rows: int, confidence: float) -> None:
    bounds = np.asarray(share_bounds(rows, confidence))
    assert np.all(coverage(bounds, rows) >= confidence - 1e-12)


@pytest.mark.parametrize("rows", [64, 257])
def test_smaller_bounds_do_not_cover(rows: int) -> None:
    bounds = np.asarray(share_bounds(rows, 0.99))
    # As if one row fewer had failed, and the failures that were seen themselves.
    for broken in (np.concatenate([[0], bounds[:-1]]), np.arange(rows + 1) / rows):
        assert np.min(coverage(broken, rows)) < 0.99
    # No room is left: a few parts in a hundred less would not do.
    assert np.min(coverage(0.97 * bounds, rows)) < 0.99


def test_an_audit_passes_while_its_bound_is_small_enough() -> None:
    audit = Audit(rows=500, share=0.02, confidence=0.95)
    bounds, most = share_bounds(500, 0.95), allowed_failures(audit)
    assert bounds[most] <= 0.02 < bounds[most + 1]
    assert allowed_failures(Audit()) == 0
    assert allowed_failures(Audit(rows=10)) == -1


@pytest.mark.parametrize(("rows", "confidence"), [(0, 0.5), (5, 0.0), (5, 1.0)])
def test_impossible_audits_are_refused(rows: int, confidence: float) -> None:
    with pytest.raises(OptionError, match=rf"share_bounds: .*\n  got:  rows={rows}, confidence={confidence}"):
        share_bounds(rows, confidence)
