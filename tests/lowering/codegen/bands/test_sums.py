"""Functions of elements are written for few instructions: what a column shares comes first, and nothing is divided."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from lowering.codegen import kernels
from lowering.compiler import choose
from shaders.capabilities import Capabilities

from .elements import CASES
from .kernels import CHUNK, F32, QUERIES, chunk, in_bands, keys, multiply, queries, typed
from .support import fusions_of


def text_of(function: Callable[..., Any], *arguments: Any, capabilities: Capabilities) -> str:
    (fusion,) = fusions_of(function, *arguments, capabilities=capabilities)
    return kernels.emit_kernel(fusion, choose(fusion, capabilities), capabilities, guarded=False).text()


def test_sums_of_products_begin_with_what_a_column_shares(h100: Capabilities) -> None:
    def run(q: Any, k: Any, n: Any) -> Any:
        def body(a: Any, b: Any, n: Any, o: Any) -> None:
            scores = multiply(a[...], chunk(b, 0).T)
            o[...] = jnp.exp(0.5 * (scores * scores + scores) - n[...][None])

        return in_bands(body, q, k, n, out=typed(F32, QUERIES, CHUNK), interpret=False, driver_exp=True)

    text = text_of(run, queries(), keys(), np.zeros(CHUNK, np.float32), capabilities=h100)
    function = text[text.index("%exponential = OpFunction") :].split("OpFunctionEnd")[0]
    lines = [line.split() for line in function.splitlines() if " = OpF" in line and "Function" not in line]
    sums = [words for words in lines if words[2] == "OpFAdd"]
    # Each of them is joined with the product that it adds.
    assert len(sums) == 2
    (first,) = (words for words in lines if words[0] == sums[0][4])
    assert first[2] == "OpFMul"
    assert first[4].startswith("%f32_n1_44")


def test_tangents_take_no_division(h100: Capabilities) -> None:
    case = CASES["lines_through_a_tangent"]
    text = text_of(functools.partial(case.function, interpret=False), *case.arguments, capabilities=h100)
    assert (text.count(" Exp2 "), text.count(" InverseSqrt "), text.count("OpFDiv")) == (2, 1, 0)


def test_tangents_are_the_driver_s_for_16_bits_only_where_the_author_says_so(h100: Capabilities) -> None:
    found = []
    for is_said in (False, True):

        def run(q: Any, k: Any, is_said: bool = is_said) -> Any:
            def body(a: Any, b: Any, o: Any) -> None:
                o[...] = jnp.exp(5 * jnp.tanh(multiply(a[...], chunk(b, 0).T) * 0.2))

            out, said = typed(F32, QUERIES, CHUNK), {"driver_exp": True, "driver_tanh": is_said}
            return in_bands(body, q, k, out=out, interpret=False, **said)

        text = text_of(run, queries(), keys(), capabilities=h100)
        found.append((text.count(" Tanh "), text.count("RelaxedPrecision"), text.count(" InverseSqrt ")))
        slow = text_of(run, queries(), keys(), capabilities=replace(h100, driver_name="another"))
        assert " Tanh " not in slow
    assert found == [(0, 0, 1), (1, 1, 0)]
