"""Attention is found inside a model that knows nothing of the analysis."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qga
from qga import OptionError, ShapeError
from qga.analysis import observe
from tests.qga.tolerances import assert_close, assert_far

ROWS, HEADS, WIDTH = 24, 2, 4


def project(weights: jax.Array, rows: jax.Array) -> tuple[jax.Array, ...]:
    return tuple((rows @ each).reshape(ROWS, HEADS, WIDTH) for each in weights)


def with_qga(weights: jax.Array, rows: jax.Array) -> jax.Array:
    for layer, is_causal in enumerate((False, True)):
        queries, keys, values = (jnp.swapaxes(each, 0, 1) for each in project(weights[layer], rows))
        mixed = qga.dot_attention(queries, keys, values, is_causal=is_causal)
        rows = rows + jnp.swapaxes(mixed, 0, 1).reshape(rows.shape)
    return rows


@pytest.fixture
def model(random: np.random.Generator) -> tuple[jax.Array, jax.Array]:
    features = HEADS * WIDTH
    weights = random.normal(size=(2, 3, features, features)) / features**0.5
    return jnp.asarray(weights, jnp.float32), jnp.asarray(random.normal(size=(ROWS, features)), jnp.float32)


def with_one_jitted_layer(weights: jax.Array, rows: jax.Array) -> jax.Array:
    queries, keys, values = project(weights[0], rows)
    return jax.nn.dot_product_attention(queries, keys, values, is_causal=True)


def test_calls_of_qga_are_found(model: tuple[jax.Array, jax.Array]) -> None:
    report = qga.analyze_model(with_qga, *model)
    assert report.layers == ("0", "1")
    assert [head.is_causal for head in report.heads] == [False, False, True, True]


def test_calls_of_jax_are_found(model: tuple[jax.Array, jax.Array]) -> None:
    report = qga.analyze_model(with_one_jitted_layer, *model)
    queries, keys, values = (jnp.swapaxes(each, 0, 1) for each in project(model[0][0], model[1]))
    want = qga.analyze(queries, keys, values, is_causal=True)
    for ours, theirs in zip(report.heads, want.heads, strict=True):
        assert np.allclose(ours.row_entropy, theirs.row_entropy, atol=1e-5)
        assert np.allclose(ours.tile_operator, theirs.tile_operator, atol=1e-5)


def test_jax_is_left_as_it_was(model: tuple[jax.Array, jax.Array]) -> None:
    before = jax.nn.dot_product_attention
    qga.analyze_model(with_one_jitted_layer, *model)
    assert jax.nn.dot_product_attention is before
    with pytest.raises(ZeroDivisionError):
        qga.analyze_model(lambda weights, rows: 1 / 0, *model)
    assert jax.nn.dot_product_attention is before


def test_layers_can_be_chosen(model: tuple[jax.Array, jax.Array]) -> None:
    assert qga.analyze_model(with_qga, *model, layers=[1]).layers == ("1",)
    with pytest.raises(OptionError, match=r"got:  layers=\[2\]\n  want: numbers from 0 to 1"):
        qga.analyze_model(with_qga, *model, layers=[2])


def test_an_attention_of_ones_own_is_observed(model: tuple[jax.Array, jax.Array]) -> None:
    def apply(weights: jax.Array, rows: jax.Array) -> jax.Array:
        queries, keys, values = (jnp.swapaxes(each, 0, 1) for each in project(weights[0], rows))
        observe("mine", queries, keys, values, scale=0.3)
        return jax.nn.softmax(0.3 * queries @ jnp.swapaxes(keys, 1, 2)) @ values

    assert qga.analyze_model(apply, *model).layers == ("mine",)
    # Unwatched it does nothing, whatever it is given.
    assert observe(None, *model, model[1]) is None  # type: ignore[func-returns-value]


def test_a_loop_over_layers_is_refused(model: tuple[jax.Array, jax.Array]) -> None:
    def apply(weights: jax.Array, rows: jax.Array) -> jax.Array:
        return jax.lax.scan(
            lambda rows, layer: (with_one_jitted_layer(layer[None], rows).reshape(rows.shape), None), rows, weights
        )[0]

    with pytest.raises(OptionError, match="attention inside of a loop, a branch or a map cannot be observed"):
        qga.analyze_model(apply, *model)


def test_a_model_without_attention_is_refused(model: tuple[jax.Array, jax.Array]) -> None:
    with pytest.raises(OptionError, match="no attention was found in the model"):
        qga.analyze_model(lambda weights, rows: rows, *model)


def test_a_mask_and_a_batch_are_refused(model: tuple[jax.Array, jax.Array]) -> None:
    def masked(weights: jax.Array, rows: jax.Array) -> jax.Array:
        parts = project(weights[0], rows)
        return jax.nn.dot_product_attention(*parts, mask=jnp.ones((1, ROWS, ROWS), bool))

    with pytest.raises(
        OptionError, match=r"with a mask or a bias is not a function of queries and keys alone.\n  got:  mask"
    ):
        qga.analyze_model(masked, *model)

    def batched(weights: jax.Array, rows: jax.Array) -> jax.Array:
        parts = (jnp.stack([each, each]) for each in project(weights[0], rows))
        return jax.nn.dot_product_attention(*parts)

    with pytest.raises(
        ShapeError, match=r"observe: one example at a time, heads in front.\n  got:  queries float32\[2, 24, 2, 4\]"
    ):
        qga.analyze_model(batched, *model)


def test_grouped_attention_is_observed_with_a_scale_for_each_head() -> None:
    x, scale = jax.random.normal(jax.random.key(0), (1, 16, 4, 8)), jnp.arange(1.0, 5.0)
    found = qga.analyze_model(lambda scale, x: qga.attention(x, x[:, :, :2], x[:, :, :2], scale=scale), scale, x)
    heads = jnp.swapaxes(x[0], 0, 1)
    want = qga.analyze(heads, heads[:2], heads[:2], scale=scale)
    for one, other in zip(found.heads, want.heads, strict=True):
        assert_close(one.row_entropy, other.row_entropy, depth=16, scale=4.0)
    assert_far(found.heads[0].row_entropy, want.heads[1].row_entropy)


def test_a_metric_without_a_scale_is_observed_with_its_own() -> None:
    x = jax.random.normal(jax.random.key(0), (1, 16, 4, 8))
    found = qga.analyze_model(lambda _, x: qga.attention(x, x, x, metric="fidelity"), 0, x)
    assert len(found.heads) == 4
