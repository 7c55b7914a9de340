"""Promises that were tried: errors against float64 lie below bounds, and pictures show what was found."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from qga import OptionError, attention
from qga.analysis import Trial, plot_promises, try_promises
from qga.analysis.promises import _attend_exactly
from tests.qga.adaptive.test_adaptive import SLOPES, draw

OPTIONS = {"alibi": SLOPES, "is_causal": True}


@pytest.fixture(scope="module")
def trials() -> tuple[Trial, ...]:
    rows = draw()
    return try_promises(*rows, promises=[1e-1, 1e-3], products="half", **OPTIONS)


def is_bounded(trial: Trial) -> bool:
    return bool(np.all(trial.error <= trial.certificate.out_error))


def test_errors_lie_below_their_bounds(trials: tuple[Trial, ...]) -> None:
    for trial in trials:
        assert is_bounded(trial)
        assert trial.error.shape == (1, 384, 2)
        assert np.max(trial.error) > 0
        assert 1 < trial.tightness < np.inf
        broken = trial.certificate._replace(out_error=trial.certificate.out_error / (2 * trial.tightness))
        assert not is_bounded(dataclasses.replace(trial, certificate=broken))


def test_a_larger_promise_does_less(trials: tuple[Trial, ...]) -> None:
    loose, tight = (float(np.sum(trial.certificate.flops)) for trial in trials)
    assert loose < tight


def test_calls_are_timed(trials: tuple[Trial, ...]) -> None:
    assert all(trial.seconds > 0 and trial.seconds_exact > 0 for trial in trials)
    assert len({trial.seconds_exact for trial in trials}) == 1


def test_the_truth_is_of_double_precision() -> None:
    rows = tuple(map(jnp.asarray, draw()))
    truth = _attend_exactly(rows, OPTIONS)
    assert truth.dtype == np.float64
    difference = np.abs(truth - np.asarray(attention(*rows, **OPTIONS), np.float64))
    assert 0 < difference.max() < 1e-5


def test_a_picture_has_maps_bounds_and_work_of_each_head(trials: tuple[Trial, ...]) -> None:
    figure = plot_promises([("steep", trials, 0), ("flat", trials, 1)])
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[:4] == ["eps = 0.1", "eps = 0.001", "bound and error of a query, in values", titles[3]]
    assert len(figure.axes) == 8
    drawn = [axis.get_images()[0].get_array() for axis in figure.axes if axis.get_images()]
    wanted = [trial.levels.levels[0, head] for head in (0, 1) for trial in trials]
    assert all(np.array_equal(left, right) for left, right in zip(drawn, wanted, strict=True))
    assert not np.array_equal(drawn[0], drawn[2])


def test_a_picture_of_nothing_is_refused() -> None:
    with pytest.raises(OptionError, match=r"1 rows of \[0\] trials"):
        plot_promises([("none", [], 0)])
