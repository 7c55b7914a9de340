"""What the attention functions refuse, and in which words."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

from qga import OptionError, ShapeError, attention_weights, dot_attention, fidelity_attention
from qga.exact import attention_pass

ROWS = jnp.zeros((3, 4))


def test_keys_without_values_are_refused_in_four_lines() -> None:
    with pytest.raises(ShapeError) as error:
        dot_attention(ROWS, ROWS, jnp.zeros((2, 4)))
    assert str(error.value) == (
        "dot_attention: keys must have the width of queries and one value each.\n"
        "  got:  queries float32[3, 4], keys float32[3, 4], values float32[2, 4]\n"
        "  want: keys [*batch, 2, 4]\n"
        "  fix:  pass one value row for each key row, and keys as wide as queries."
    )


def test_keys_of_another_width_are_refused() -> None:
    with pytest.raises(ShapeError, match="keys must have the width of queries"):
        dot_attention(ROWS, jnp.zeros((3, 5)), ROWS)


@pytest.mark.parametrize("keys", [jnp.zeros((2, 3, 4)), jnp.zeros(4)])
def test_other_batch_axes_are_refused(keys: jnp.ndarray) -> None:
    with pytest.raises(ShapeError, match="must have the same batch axes"):
        dot_attention(ROWS, keys, keys)


def test_mixed_dtypes_are_refused() -> None:
    with pytest.raises(ShapeError, match="must have one real floating dtype"):
        dot_attention(ROWS, ROWS, ROWS.astype(jnp.bfloat16))


def test_complex_values_are_refused() -> None:
    with pytest.raises(ShapeError, match="complex states go in as real and imaginary halves"):
        fidelity_attention(*(ROWS.astype(jnp.complex64),) * 3, beta=1.0)


def test_a_mask_of_numbers_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"got:  mask float32\[3, 3\]"):
        dot_attention(ROWS, ROWS, ROWS, mask=jnp.ones((3, 3)))


def test_a_mask_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match="mask must broadcast to the batch"):
        dot_attention(ROWS, ROWS, ROWS, mask=jnp.ones((3, 2), bool))


def test_a_scale_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match="scale must broadcast to the batch"):
        dot_attention(ROWS, ROWS, ROWS, scale=jnp.ones(2))


def test_empty_tiles_are_refused() -> None:
    with pytest.raises(OptionError, match="got:  tile=0"):
        fidelity_attention(ROWS, ROWS, ROWS, beta=1.0, tile=0)


def test_odd_width_is_refused_for_states() -> None:
    odd = jnp.zeros((3, 5))
    with pytest.raises(ShapeError, match="need an even width"):
        fidelity_attention(odd, odd, ROWS, beta=1.0)


def test_weights_refuse_an_unknown_metric() -> None:
    with pytest.raises(OptionError, match=r"got:  metric='cosine'\n  want: 'dot' or 'fidelity'"):
        attention_weights(ROWS, ROWS, metric="cosine")


def test_weights_of_fidelity_need_a_scale() -> None:
    with pytest.raises(OptionError, match="no natural scale"):
        attention_weights(ROWS, ROWS, metric="fidelity")


def test_weights_refuse_other_widths() -> None:
    with pytest.raises(ShapeError, match="must have the same width"):
        attention_weights(ROWS, jnp.zeros((3, 5)))


def test_pass_of_an_unknown_metric() -> None:
    with pytest.raises(OptionError, match=r"attention_pass: metric must be a word that is known[^$]*got: +'cosine'"):
        attention_pass(ROWS, ROWS, ROWS, jnp.zeros(3), metric="cosine")


def test_a_pass_of_fidelity_needs_a_scale() -> None:
    with pytest.raises(OptionError, match="attention_pass: the fidelity score has no natural scale"):
        attention_pass(ROWS, ROWS, ROWS, jnp.zeros(3), metric="fidelity")


def test_a_pass_refuses_log_sums_of_other_rows() -> None:
    with pytest.raises(ShapeError, match=r"attention_pass: log_sums must broadcast to the batch"):
        attention_pass(ROWS, ROWS, ROWS, jnp.zeros(2))
