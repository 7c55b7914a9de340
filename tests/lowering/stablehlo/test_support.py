from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from lowering.errors import UnsupportedError
from lowering.stablehlo import import_module

from ..programs import graph_of, normal


def test_unsupported_lists_everything_at_once() -> None:
    def run(x: jax.Array) -> object:
        return jnp.sort(x), jnp.fft.fft(x), jnp.sort(-x), x.astype(jnp.float8_e4m3fn)

    with pytest.raises(UnsupportedError) as caught:
        _ = graph_of(run, normal(4))
    text = str(caught.value)
    assert "operation sort (2 uses at test_support.py:" in text
    assert "operation fft (1 use at test_support.py:" in text
    assert "dtype f8E4M3FN" in text
    assert [line.split(":")[0].strip() for line in text.splitlines()[1:4]] == ["got", "want", "fix"]


def test_unsupported_looks_into_loops() -> None:
    def body(_: int, c: jax.Array) -> jax.Array:
        return jnp.sort(c)

    with pytest.raises(UnsupportedError, match=r"operation sort \(1 use at test_support.py:\d+ in .*body"):
        _ = graph_of(lambda x: lax.fori_loop(0, 3, body, x), normal(4))


def test_unsupported_names_the_target_of_a_custom_call() -> None:
    with pytest.raises(UnsupportedError, match="operation custom_call @mine"):
        _ = graph_of(jax.ffi.ffi_call("mine", jax.ShapeDtypeStruct((3,), np.float32)), normal(3))


def test_unsupported_names_dynamic_shapes() -> None:
    text = "module @m { func.func public @main(%x: tensor<?xf32>) -> tensor<?xf32> { return %x : tensor<?xf32> } }"
    with pytest.raises(UnsupportedError, match=r"a dynamic shape \(1 use at input of the program\)"):
        _ = import_module(text.encode())
