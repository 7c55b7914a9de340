"""Tests against heavy libraries: an environment of their own, made by ``make test-oracles``; not part of the suite."""

from __future__ import annotations

import os

import numpy as np
import pytest

collect_ignore_glob = [] if os.environ.get("QGA_TEST_ORACLES") else ["test_*.py"]


@pytest.fixture
def random() -> np.random.Generator:
    """Return a seeded source of test data."""
    return np.random.default_rng(20240229)
