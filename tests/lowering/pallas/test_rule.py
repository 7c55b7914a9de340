"""A `pallas_call` on the platform: the custom call that it becomes, exported or not, and transformations of it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import pallas as pl

from lowering import compat, lower
from lowering.graph import Graph, Node, regions
from lowering.pjrt import initialize
from lowering.tilecall import TARGET

from .kernels import call, like, rows

F32 = jnp.float32
X = np.random.default_rng(0).normal(size=(40, 16)).astype(np.float32)


@pytest.fixture(autouse=True, scope="module")
def registered() -> None:
    initialize()


def doubled(x: Any) -> Any:
    def kernel(a: Any, o: Any) -> None:
        o[...] = a[...] * 2

    return call(kernel, x, grid=(5,), in_specs=[rows(8, 16)], out_specs=rows(8, 16), name="doubled")


def tiles_of(graph: Graph) -> list[Node]:
    """Return all tile nodes of a graph, those of its regions as well."""
    found = []
    for node in graph.nodes:
        found += [node] if node.op == "tile" else []
        for region in regions(node) if node.op != "tile" else ():
            found += tiles_of(region)
    return found


# -- the custom call ---------------------------------------------------------------------------------------------------


def test_call_becomes_one_custom_call() -> None:
    text = jax.jit(doubled).trace(X).lower(lowering_platforms=("vulkan",)).as_text()
    assert text.count(f"@{TARGET}") == 1


def test_custom_call_becomes_a_tile_node() -> None:
    (node,) = tiles_of(lower(doubled)(X).graph)
    assert (node.attributes["name"], node.attributes["grid"], node.attributes["updates"]) == ("doubled", (5,), 0)


def test_updated_operands_come_first() -> None:
    def kernel(a: Any, b: Any, o: Any, p: Any) -> None:
        o[...] = a[...]
        p[...] = b[...] + 1

    def function(x: Any, y: Any) -> Any:
        block = rows(8, 16)
        return pl.pallas_call(
            kernel,
            out_shape=(like(x), like(y)),
            grid=(5,),
            in_specs=[block, block],
            out_specs=(block, block),
            input_output_aliases={1: 1},
        )(x, y)

    y = X.astype(np.int32)
    graph = lower(function)(X, y).graph
    (node,) = tiles_of(graph)
    assert node.attributes["updates"] == 1
    assert [value.dtype for value in node.inputs] == ["i32", "f32"]
    assert [value.dtype for value in node.outputs] == ["i32", "f32"]
    assert [value.dtype for value in graph.outputs] == ["f32", "i32"]


def test_exported_kernel_runs_after_reading(vulkan: Any) -> None:
    checks = [jax.export.DisabledSafetyCheck.custom_call(TARGET)]
    exported = jax.export.export(jax.jit(doubled), platforms=("vulkan",), disabled_checks=checks)(X)
    read = jax.export.deserialize(exported.serialize())
    np.testing.assert_array_equal(np.asarray(jax.jit(read.call)(jax.device_put(X, vulkan))), 2 * X)


def test_export_without_the_check_is_refused_by_jax() -> None:
    with pytest.raises(ValueError, match=TARGET):
        jax.export.export(jax.jit(doubled), platforms=("vulkan",))(X)


def test_registration_without_pallas_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lowering.compat.HAS_PALLAS", False)
    assert compat.register_pallas("nobody", print) is False


# -- transformations ---------------------------------------------------------------------------------------------------


def sine(x: Any) -> Any:
    def kernel(a: Any, o: Any) -> None:
        o[...] = jnp.sin(a[...])

    return call(kernel, x)


def sine_backward(x: Any, g: Any) -> Any:
    def kernel(a: Any, b: Any, o: Any) -> None:
        o[...] = jnp.cos(a[...]) * b[...]

    return call(kernel, x, g)


differentiable_sine = jax.custom_vjp(sine)
differentiable_sine.defvjp(lambda x: (sine(x), x), lambda x, g: (sine_backward(x, g),))


def on(vulkan: Any, function: Any, *arguments: Any) -> np.ndarray:
    """Run a jitted function on the device."""
    return np.asarray(jax.jit(function)(*(jax.device_put(each, vulkan) for each in arguments)))


def test_kernel_twice_in_a_program_is_one_kernel() -> None:
    lowered = lower(lambda x: doubled(doubled(x)))(X)
    assert len(tiles_of(lowered.graph)) == 2


def test_kernel_twice_in_a_program_runs_twice(vulkan: Any) -> None:
    np.testing.assert_array_equal(on(vulkan, lambda x: doubled(doubled(x)), X), 4 * X)


def test_mapped_kernel(vulkan: Any) -> None:
    stacked = np.stack([X, X + 1, X + 2])
    np.testing.assert_array_equal(on(vulkan, jax.vmap(doubled), stacked), 2 * stacked)


def test_kernel_mapped_over_its_second_axis(vulkan: Any) -> None:
    stacked = np.stack([X, X + 1, X + 2], 1)
    got = on(vulkan, jax.vmap(doubled, in_axes=1, out_axes=1), stacked)
    np.testing.assert_array_equal(got, 2 * stacked)


def test_gradient_through_a_custom_rule(vulkan: Any) -> None:
    got = on(vulkan, jax.grad(lambda x: (differentiable_sine(x) ** 2).sum()), X)
    np.testing.assert_allclose(got, 2 * np.sin(X) * np.cos(X), rtol=1e-5, atol=1e-6)


def test_gradient_through_rematerialisation(vulkan: Any) -> None:
    function = jax.checkpoint(lambda x: differentiable_sine(differentiable_sine(x)))
    got = on(vulkan, jax.grad(lambda x: function(x).sum()), X)
    np.testing.assert_allclose(got, np.cos(np.sin(X)) * np.cos(X), rtol=1e-5, atol=1e-6)


def test_forward_mode_of_a_kernel_itself(vulkan: Any) -> None:
    got = on(vulkan, lambda x: jax.jvp(sine, (x,), (x * 2,))[1], X)
    np.testing.assert_allclose(got, np.cos(X) * X * 2, rtol=1e-5, atol=1e-6)


def test_loop_around_a_kernel(vulkan: Any) -> None:
    got = on(vulkan, lambda x: lax.scan(lambda y, _: (doubled(y) - x, None), x, None, length=4)[0], X)
    np.testing.assert_allclose(got, X, rtol=1e-5, atol=1e-5)


def test_branch_around_a_kernel(vulkan: Any) -> None:
    got = on(vulkan, lambda x: lax.cond(x[0, 0] > 100, lambda: x, lambda: doubled(x)), X)
    np.testing.assert_array_equal(got, 2 * X)


def incremented_in_place(x: Any) -> Any:
    def kernel(a: Any, o: Any) -> None:
        o[...] = a[...] + 1

    specs = {"in_specs": [rows(8, 16)], "out_specs": rows(8, 16), "input_output_aliases": {0: 0}}
    return call(kernel, x, grid=(5,), **specs)


def test_donated_operand_of_an_aliasing_kernel(vulkan: Any) -> None:
    x = jax.device_put(X, vulkan)
    np.testing.assert_array_equal(np.asarray(jax.jit(incremented_in_place, donate_argnums=0)(x)), X + 1)


def test_operand_of_an_aliasing_kernel_stays_what_it_was(vulkan: Any) -> None:
    x = jax.device_put(X, vulkan)
    np.testing.assert_array_equal(np.asarray(jax.jit(incremented_in_place)(x)), X + 1)
    np.testing.assert_array_equal(np.asarray(x), X)
