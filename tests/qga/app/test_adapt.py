"""The section on adaptive attention: what it tries of a model's heads, and a map that any reader can read."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import jax.numpy as jnp
import numpy as np
import pytest

from qga.app.run.adapt import PROMISES, SLOPE, Adapted, adapt_heads
from qga.app.run.model import ModelConfig, init_parameters, predict
from qga.app.run.report.levels import adaptive_section, level_picture
from qga.app.run.text import Text, draw_batch
from qga.tiling import LEVEL_NAMES


def adapt(model: ModelConfig, text: Text) -> tuple[Adapted, np.ndarray]:
    examples = draw_batch(text, seed=0, step=0, batch=24, context=model.context)
    return adapt_heads(init_parameters(model, 0), examples, model), examples


@pytest.mark.parametrize("model", ["dot", pytest.param("fidelity", marks=pytest.mark.exhaustive)], indirect=True)
def test_heads_of_a_model_are_tried_as_they_are_and_with_decay(model: ModelConfig, text: Text) -> None:
    adapted, _ = adapt(model, text)
    assert (adapted.heads, adapted.rows) == (2, 24 * 8)
    assert tuple(trial.eps for trial in adapted.trials) == PROMISES
    for trial in adapted.trials:
        assert trial.error.shape == (1, 192, 4)
        assert np.all(trial.error <= trial.certificate.out_error)
    names = ["first", "second & last"]
    intro, pictures = adaptive_section(adapted, names)
    assert f"{SLOPE:g} nats" in intro
    assert "192 characters" in intro
    assert "second &amp; last" in pictures
    assert pictures.count('role="img"') == 6
    for svg in re.findall(r"<svg.*?</svg>", pictures, re.DOTALL):
        ElementTree.fromstring(svg)
    assert pictures.count("<tr><td>") == 2 * len(PROMISES)


def test_errors_are_those_of_the_heads_that_the_model_has(text: Text, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qga.app.run.adapt.PROMISES", PROMISES[:1])
    model = ModelConfig(len(text.vocabulary), "dot", layers=2, heads=2, width=16, context=8, tile=4)
    adapted, examples = adapt(model, text)
    _, layers = predict(init_parameters(model, 0), jnp.asarray(examples[:, :-1]), model)
    # The third head is the first one of the second layer; values of a wrong one would have another length.
    values = np.asarray(layers[1].values[:, 0], np.float64)
    scale = np.asarray(adapted.trials[0].certificate.value_scale)[0, 0]
    assert np.isclose(scale[2], np.sqrt(np.mean(np.sum(values**2, axis=-1))), rtol=1e-5)
    assert scale[2] == scale[6] != scale[1]


def test_a_map_draws_every_tile_once() -> None:
    levels = np.array([[6, 0, 0], [3, 6, 0], [1, 1, 3]])
    root, caption = ElementTree.fromstring(level_picture(levels, "a <map>"))
    drawn = np.full(levels.shape, -1)
    for shape in root:
        (title,) = shape
        for left, top, width in re.findall(r"M(\d+) (\d+)h(\d+)v", shape.get("d", "")):
            row, first, count = int(top) // 10, int(left) // 10, int(width) // 10
            assert np.all(drawn[row, first : first + count] == -1)
            drawn[row, first : first + count] = LEVEL_NAMES.index(str(title.text))
    assert np.array_equal(drawn, levels)
    assert "left out 33.3 %" in root.get("aria-label", "")
    assert str(caption.text).startswith("a <map>: hidden 33.3 %")
