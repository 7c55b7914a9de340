"""Fixtures of the tests of ``qga run``: a small text, a small model, JAX's own promotion rules."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import pytest

from qga.app.run.model import ModelConfig
from qga.app.run.text import Text, number_text
from qga.app.run.train import TrainConfig


@pytest.fixture(autouse=True)
def standard_promotion(jax_settings: None) -> Iterator[None]:
    """Undo the suite's strict promotion: optax mixes dtypes, as users of this command do."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="session")
def text() -> Text:
    """Return a text of few characters."""
    return number_text("a small text", "the quick brown fox jumps over the lazy dog\n" * 8)


@pytest.fixture(params=["dot", "fidelity"])
def model(request: pytest.FixtureRequest, text: Text) -> ModelConfig:
    """Return a tiny model of each kind of attention."""
    return ModelConfig(len(text.vocabulary), request.param, layers=1, heads=2, width=16, context=8, tile=4)


@pytest.fixture
def train() -> TrainConfig:
    """Return a training of small batches."""
    return TrainConfig(seed=3, batch=4)
