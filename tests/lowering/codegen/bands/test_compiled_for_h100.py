"""Attention in 16-bit floats is written in bands for an H100: valid code within its shared memory, without a device."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import qga
from lowering import lower
from lowering.codegen.bands import BANDS
from qga.cache import attend, empty_cache, empty_paged_cache
from shaders.capabilities import Capabilities
from shaders.spirv.validate import is_available, validate

from .support import schedules_of

ROWS = 256
ATTENTIONS: dict[str, Callable[..., Any]] = {
    "dot": qga.dot_attention,
    "fidelity": functools.partial(qga.fidelity_attention, beta=2.0),
    "causal": functools.partial(qga.dot_attention, is_causal=True),
}


def operands(width: int, dtype: Any) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Return the types of queries, keys and values."""
    return (jax.ShapeDtypeStruct((ROWS, width), dtype),) * 3


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16], ids=["f16", "bf16"])
@pytest.mark.parametrize("width", [64, 128])
@pytest.mark.parametrize("name", ATTENTIONS)
def test_attention_is_written_in_bands(name: str, width: int, dtype: Any, h100: Capabilities) -> None:
    given = operands(width, dtype)
    schedules = schedules_of(ATTENTIONS[name], *given, capabilities=h100)
    # The second kernel computes again what the first one has lost.
    assert [schedule.mode for schedule in schedules] == [BANDS, BANDS]
    for kernel in lower(ATTENTIONS[name])(*given).program(h100).kernels:
        assert kernel.shared_bytes <= h100.max_shared_bytes
        if is_available():
            validate(kernel.words)


@pytest.mark.parametrize("vendor", [True, False], ids=["whole", "fragments"])
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16], ids=["f16", "bf16"])
def test_only_bf16_is_rounded_in_integers(dtype: Any, vendor: bool, h100: Capabilities) -> None:
    """NVIDIA's conversion to bf16 cuts off: what it is given must be a bf16 already, in weights and in results."""
    machine = h100 if vendor else dataclasses.replace(h100, features_nv=frozenset(), matrices_nv=())
    text = lower(qga.dot_attention)(*operands(64, dtype)).program(machine).kernels[1].text()
    assert ("OpBitFieldUExtract" in text) == (dtype == jnp.bfloat16)
    given = set(re.findall(r"OpFConvert %\S+ (%\d+)", text))
    makers = {maker[1] for name in given if (maker := re.search(rf"{name} = (\w+)", text))}
    if dtype == jnp.bfloat16:
        # Fragments leave as words of two, which no conversion makes.
        assert makers == ({"OpCooperativeMatrixPerElementOpNV"} if vendor else set())


@pytest.mark.parametrize(("name", "questions"), [("causal", 1), ("dot", 0)])
def test_only_a_loop_that_may_have_no_round_asks_before_it_reads(name: str, questions: int, h100: Capabilities) -> None:
    text = lower(ATTENTIONS[name])(*operands(64, jnp.float16)).as_text("spirv", h100)
    # Of the two kernels the first one: the other has a question around it.
    kernel = next(each for each in text.split("OpCapability Shader\n") if "CooperativeMatrixMulAdd" in each)
    assert kernel.count("OpSelectionMerge") == questions


def test_attention_in_f32_is_not(h100: Capabilities) -> None:
    schedules = schedules_of(qga.dot_attention, *operands(64, jnp.float32), capabilities=h100)
    assert [schedule.mode for schedule in schedules if schedule.mode == BANDS] == []
    assert schedules


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16], ids=["f16", "bf16"])
@pytest.mark.parametrize("is_paged", [False, True])
def test_a_cache_of_8_bits_is_read_in_bands(is_paged: bool, dtype: Any, h100: Capabilities) -> None:
    def make() -> Any:
        if is_paged:
            return empty_paged_cache(2, 8, 2, 64, pages=20, dtype=jnp.int8)
        return empty_cache(2, 1024, 2, 64, dtype=jnp.int8)

    leaves, structure = jax.tree.flatten(jax.eval_shape(make))
    query = jax.ShapeDtypeStruct((2, 1, 8, 64), dtype)

    def run(query: Any, *leaves: Any) -> Any:
        return attend(jax.tree.unflatten(structure, leaves), query)

    schedules = schedules_of(run, query, *leaves, capabilities=h100)
    # The second kernel joins what parts of the keys came to.
    assert [schedule.mode for schedule in schedules] == [BANDS, ""]
    for kernel in lower(run)(query, *leaves).program(h100).kernels:
        assert kernel.shared_bytes <= h100.max_shared_bytes
        if is_available():
            validate(kernel.words)
