"""Verify mode finds the first kernel that computes something else than NumPy, and names it with its source line."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from lowering.codegen.combine import Reduction
from lowering.codegen.scalar import floats
from lowering.compiler import compile_watched
from lowering.graph import Graph, Node, Value
from lowering.runtime import Device
from lowering.verify import VerificationError, VerifiedExecutable, check_node, compare, depth

from .corpus import CASES
from .programs import graph_of, normal
from .running import arguments_of, case_graph, leaves

F32 = Value(0, "f32", (4,))
VERIFIED = (
    "softmax",
    "long_rows",
    "extremes",
    "scatter_read_later",
    "product_epilogues",
    "while",
    "branch_in_scan",
    "updates_in_loop",
    "complex_sums",
    "bfloat16_sums",
    "model_layer_norm_gradient",
    "prime_sizes",
)


def verified(graph: Graph, device: Device) -> VerifiedExecutable:
    return VerifiedExecutable(*compile_watched(graph, device.capabilities), device)


def upload(device: Device, arrays: list[np.ndarray]) -> list[Any]:
    buffers = [device.allocate(array.nbytes) for array in arrays]
    for buffer, array in zip(buffers, arrays, strict=True):
        device.upload(buffer, array)
    return buffers


@pytest.mark.parametrize("name", VERIFIED)
def test_sound_programs_pass(name: str, device: Device) -> None:
    executable = verified(case_graph(name), device)
    outputs = executable.run(upload(device, leaves(arguments_of(CASES[name], "value"))))
    assert len(outputs) == len(executable.output_types)


def layered(x: Any, y: Any) -> Any:
    total = jnp.sum(x * y, axis=1)
    return jnp.sin(total) + 1, y * 2


def test_a_broken_reduction_is_named_with_its_line(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lanes that forget what their neighbours found: the kind of defect that only shows in sums."""
    monkeypatch.setattr(Reduction, "across", lambda self, state, lanes: state)
    arrays = [normal(4, 100), normal(4, 100, seed=1)]
    executable = verified(graph_of(layered, *arrays), device)
    with pytest.raises(VerificationError) as caught:
        executable.run(upload(device, arrays))
    text = str(caught.value)
    assert text.startswith("verify: multiply+reduce")
    assert "computed something else than NumPy from the same inputs." in text
    assert "of f32[4]" in text
    assert "fix:  report this defect with the function, its shapes and the device's name." in text
    assert "at: test_verify.py:" in text
    assert "in: verify" in text


def test_a_broken_operation_is_named_and_its_neighbours_are_not(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first kernel is right, the second wrong: what the second did with right inputs is what counts."""
    monkeypatch.setitem(floats.ROUNDED_UNARY, "sine", lambda b, x: x)
    arrays = [normal(4, 100), normal(4, 100, seed=1)]
    graph = graph_of(lambda x: jnp.sin(x.sum(0))[::-1] @ x.T @ x, arrays[0])
    with pytest.raises(VerificationError, match=r"verify: [a-z_+]*sine"):
        verified(graph, device).run(upload(device, arrays[:1]))


def test_compare_allows_rounding_and_no_more() -> None:
    want = np.array([1.0, 100.0, -3.0, 0.0], np.float32)
    assert compare(F32, want * np.float32(1 + 1e-6), want, 1) is None
    worst = compare(F32, want + np.array([0, 0, 1, 0], np.float32), want, 1)
    assert worst is not None
    assert (worst.position, float(str(worst.got)), float(str(worst.want))) == ((2,), -2.0, -3.0)


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_compare_wants_special_numbers_in_the_same_places(special: float) -> None:
    want = np.array([1.0, special, 2.0, 3.0], np.float32)
    assert compare(F32, want.copy(), want, 1) is None
    assert compare(F32, np.array([1, 2, 2, 3], np.float32), want, 1) is not None
    assert compare(F32, want, np.array([1, 2, 2, 3], np.float32), 1) is not None


def test_compare_wants_integers_exactly() -> None:
    value = Value(0, "i32", (2,))
    assert compare(value, np.array([1, 2], np.int32), np.array([1, 2], np.int32), 100) is None
    assert compare(value, np.array([1, 3], np.int32), np.array([1, 2], np.int32), 100) is not None


def test_compare_of_nothing_finds_nothing() -> None:
    assert compare(Value(0, "f32", (0,)), np.zeros(0, np.float32), np.zeros(0, np.float32), 1) is None


def test_compare_reads_complex_numbers_as_one() -> None:
    value = Value(0, "c64", (1,))
    assert compare(value, np.array([1 + 2j], np.complex64), np.array([1 + 2j], np.complex64), 1) is None
    assert compare(value, np.array([1 + 2.1j], np.complex64), np.array([1 + 2j], np.complex64), 1) is not None


def test_check_node_uses_the_inputs_it_is_given() -> None:
    y = Value(1, "f32", (4,))
    node = Node("negate", (F32,), (y,), where="model.py:3 in f")
    ones = np.ones(4, np.float32)
    check_node(node, {F32: ones, y: -ones})
    with pytest.raises(
        VerificationError, match=r"(?s)verify: negate.*got:  1\.0 at \[0\] of f32\[4\].*model.py:3 in f"
    ):
        check_node(node, {F32: ones, y: ones})


def test_depth_multiplies_sums_and_rounds() -> None:
    graph = graph_of(lambda x: x @ x.T, normal(5, 7))
    assert max(depth(node) for node in graph.nodes) == 7
    loop = case_graph("while")
    assert max(depth(node) for node in loop.nodes) == 5
