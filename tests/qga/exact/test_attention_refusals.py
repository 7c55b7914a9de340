"""What ``qga.attention`` refuses, and in which words: rule, got, want, fix."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from qga import OptionError, ShapeError, attention, dot_product_attention

Q, K, V = jnp.zeros((2, 3, 4, 6)), jnp.zeros((2, 5, 2, 6)), jnp.zeros((2, 5, 2, 7))

FIT = (
    "query, key and value must fit together.",
    "[batch, queries, heads, width], [batch, keys, key_heads, width], [batch, keys, key_heads, channels] "
    "with key_heads a divisor of heads",
    "move the axis of heads behind the rows; more axes of a batch are mapped with jax.vmap.",
)
ARRAYS = {
    "five axes": (Q[None], K[None], V[None], "query float32[1, 2, 3, 4, 6]"),
    "two axes": (Q[0, 0], K[0, 0], V[0, 0], "key float32[2, 6]"),
    "unlike axes": (Q, K[0], V[0], "key float32[5, 2, 6]"),
    "width": (Q, K[..., :5], V, "key float32[2, 5, 2, 5]"),
    "values": (Q, K, V[:, :4], "value float32[2, 4, 2, 7]"),
    "batch": (Q[:1], K, V, "query float32[1, 3, 4, 6]"),
    "heads": (Q[:, :, :3], K, V, "query float32[2, 3, 3, 6]"),
    "no key head": (Q, K[:, :, :0], V[:, :, :0], "key float32[2, 5, 0, 6]"),
}

# options, kind of error, rule, got, want, fix
TABLE = ("{} has axes for batch, heads, queries and keys.", "[2, 4, 3, 5], or 1 in the place of any of them",
         "add axes of length 1 with jnp.expand_dims.")  # fmt: skip
SCALE = ("scale is a number, or one for each head.", "a number, [4] or [2, 4]", "drop the other axes.")
ENTRY = ("{} has an integer for each batch entry.", "integers [2]", "pass one number, or one for each batch entry.")
HEAD = ("{} has a number for each head.", "real numbers [4]", "pass one number, or one for each query head.")
WINDOW = ("a window counts keys before and after a query.", "a number from 0 on, or a pair of them, None for all",
          "use mask_mod for any other rule.")  # fmt: skip
CAP = ("a soft cap is a number above zero.", "softcap > 0", "leave it out for none; write a traced cap as score_mod.")
SEGMENTS = ("segment_ids has an integer for each of the {}.", "integers [2, {}]",
            "pass (ids of queries, ids of keys) where they differ.")  # fmt: skip
METRIC = ("a metric is a geometry that is known, of negative curvature where it has one.",
          "one of dot, gauss, cosine, hyperbolic, fidelity, born, born_hyperbolic, curvature < 0",
          "metric='gauss' is the limit of curvature zero.")  # fmt: skip
DROPOUT = ("dropout has a rate from 0 to below 1, and a key.",
           "0 <= dropout_rate < 1, and a dropout_key where it is above zero", "pass jax.random.key(...).")  # fmt: skip


def told(lines: tuple[str, str, str], *names: str) -> tuple[str, ...]:
    waiting = iter(names)
    return tuple(line.format(next(waiting)) if "{}" in line else line for line in lines)


REFUSED: list[tuple[dict[str, Any], type[Exception], str, tuple[str, ...]]] = [
    ({"bias": jnp.ones((3, 5), bool)}, ShapeError, "bias bool[3, 5]",
     ("a bias is added to scores.", "real floating numbers", "pass what says yes or no as mask.")),
    ({"mask": jnp.ones((3, 5))}, ShapeError, "mask float32[3, 5]",
     ("a mask says True where a query may see a key.", "a bool mask",
      "compare first, such as mask > 0, or pass what is added to scores as bias.")),
    ({"bias": jnp.ones((3, 4))}, ShapeError, "bias float32[3, 4]", told(TABLE, "bias")),
    ({"bias": jnp.ones((1, 1, 1, 3, 5))}, ShapeError, "bias float32[1, 1, 1, 3, 5]", told(TABLE, "bias")),
    ({"mask": jnp.ones((2, 3, 5), bool)}, ShapeError, "mask bool[2, 3, 5]", told(TABLE, "mask")),
    ({"scale": jnp.ones(3)}, ShapeError, "float32[3]", SCALE),
    ({"scale": jnp.ones((2, 4, 1))}, ShapeError, "float32[2, 4, 1]", SCALE),
    ({"query_offset": jnp.zeros(3, int)}, ShapeError, "query_offset int32[3]", told(ENTRY, "query_offset")),
    ({"query_lengths": jnp.ones(2)}, ShapeError, "query_lengths float32[2]", told(ENTRY, "query_lengths")),
    ({"key_lengths": jnp.ones((2, 1), int)}, ShapeError, "key_lengths int32[2, 1]", told(ENTRY, "key_lengths")),
    ({"alibi": jnp.ones(2)}, ShapeError, "alibi float32[2]", told(HEAD, "alibi")),
    ({"sinks": jnp.ones(4, int)}, ShapeError, "sinks int32[4]", told(HEAD, "sinks")),
    ({"segment_ids": jnp.zeros((2, 3), int)}, ShapeError, "int32[2, 3]", told(SEGMENTS, "keys", "5")),
    ({"segment_ids": (jnp.zeros((3, 3), int), jnp.zeros(5, int))}, ShapeError, "int32[3, 3]",
     told(SEGMENTS, "queries", "3")),
    ({"segment_ids": (jnp.zeros(3), jnp.zeros(5))}, ShapeError, "float32[3]", told(SEGMENTS, "queries", "3")),
    ({"window": -1}, OptionError, "window=-1", WINDOW),
    ({"window": (1, 2, 3)}, OptionError, "window=(1, 2, 3)", WINDOW),
    ({"window": (1.0, None)}, OptionError, "window=(1.0, None)", WINDOW),
    ({"softcap": 0.0}, OptionError, "softcap=0.0", CAP),
    ({"tile": 0}, OptionError, "tile=0", ("a tile has at least one key.", "tile >= 1", "raise tile.")),
    ({"derivatives": "forward"}, OptionError, "'forward'",
     ("derivatives must be a word that is known.", "'all' or 'reverse'", "leave it out for gradients.")),
    ({"metric": "euclid"}, OptionError, "metric='euclid', curvature=-1.0", METRIC),
    ({"metric": "hyperbolic", "curvature": 0.0}, OptionError, "metric='hyperbolic', curvature=0.0", METRIC),
    ({"dropout_rate": 1.0, "dropout_key": jax.random.key(0)}, OptionError, "dropout_rate=1.0, dropout_key=given",
     DROPOUT),
    ({"dropout_rate": -0.1}, OptionError, "dropout_rate=-0.1, dropout_key=None", DROPOUT),
    ({"dropout_rate": 0.1}, OptionError, "dropout_rate=0.1, dropout_key=None", DROPOUT),
]  # fmt: skip


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_that_do_not_fit_are_refused(name: str) -> None:
    *arrays, part = ARRAYS[name]
    rule, want, fix = FIT
    with pytest.raises(ShapeError) as error:
        attention(*arrays)
    lines = str(error.value).split("\n")
    assert lines[0] == f"attention: {rule}"
    assert lines[1].startswith("  got:  query ")
    assert part in lines[1]
    assert lines[2:] == [f"  want: {want}", f"  fix:  {fix}"]


@pytest.mark.parametrize("dtypes", [(jnp.float32, jnp.bfloat16), (jnp.int32, jnp.int32), (jnp.complex64,) * 2])
def test_other_dtypes_are_refused(dtypes: tuple[Any, Any]) -> None:
    query, key, value = Q.astype(dtypes[0]), K.astype(dtypes[1]), V.astype(dtypes[1])
    with pytest.raises(ShapeError) as error:
        attention(query, key, value)
    assert str(error.value) == (
        "attention: query, key and value must have one real floating dtype.\n"
        f"  got:  query {query.dtype}[2, 3, 4, 6], key {key.dtype}[2, 5, 2, 6], value {key.dtype}[2, 5, 2, 7]\n"
        "  want: one of float16, bfloat16, float32, float64 for all three\n"
        "  fix:  convert with .astype."
    )


@pytest.mark.parametrize(
    ("options", "kind", "got", "lines"), REFUSED, ids=lambda each: "-".join(each) if isinstance(each, dict) else ""
)
def test_options_are_refused_in_four_lines(
    options: dict[str, Any], kind: type[Exception], got: str, lines: tuple[str, ...]
) -> None:
    rule, want, fix = lines
    with pytest.raises(kind) as error:
        attention(Q, K, V, **options)
    assert str(error.value) == f"attention: {rule}\n  got:  {got}\n  want: {want}\n  fix:  {fix}"


@pytest.mark.parametrize("metric", ["fidelity", "born"])
def test_rays_of_odd_width_are_refused(metric: str) -> None:
    with pytest.raises(
        ShapeError, match=re.escape("attention: real and imaginary parts need an even width.\n")
    ) as error:
        attention(Q[..., :5], K[..., :5], V, metric=metric)
    assert str(error.value).split("\n")[1:] == [
        "  got:  query float32[2, 3, 4, 5]",
        "  want: a last axis of even length",
        "  fix:  put real parts in the first half of a row, imaginary ones behind.",
    ]


@pytest.mark.parametrize("shape", [(2, 4, 3, 5), (1, 1, 1, 1), (4, 1, 5), (3, 5), (5,), ()])
def test_tables_that_broadcast_are_taken(shape: tuple[int, ...]) -> None:
    mixed = jax.eval_shape(lambda: attention(Q, K, V, jnp.zeros(shape), jnp.ones(shape, bool)))
    assert mixed.shape == (2, 3, 4, 7)


def test_the_stand_in_refuses_in_the_words_of_attention() -> None:
    with pytest.raises(OptionError, match=r"attention: a window counts keys[^$]*got:  window=-2"):
        dot_product_attention(Q, K, V, local_window_size=-2)
