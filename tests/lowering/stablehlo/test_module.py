from __future__ import annotations

from typing import Any

import jax
import jax.extend.mlir
import jax.interpreters.mlir
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.mlir.dialects import stablehlo

from lowering.api import lower
from lowering.errors import GraphError
from lowering.graph import Graph, verify
from lowering.stablehlo import import_module

from ..programs import graph_of, lowered, normal


def operations(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]


def test_import_inlines_calls() -> None:
    graph = graph_of(lambda x: jax.nn.silu(x) + jax.nn.silu(x + 1.0), normal(3))
    assert "call" not in operations(graph)
    assert operations(graph).count("exponential") == 2


def test_import_decomposes_special_functions() -> None:
    assert not [op for op in operations(graph_of(jax.scipy.special.erf, normal(3))) if "." in op]


def test_import_leaves_the_module_as_it_was() -> None:
    module = lowered(jax.scipy.special.erf, normal(3))
    before = str(module)
    _ = import_module(module)
    assert str(module) == before


def test_import_drops_barriers_and_shardings() -> None:
    def run(x: Any) -> Any:
        y = lax.optimization_barrier((x, x * 2))
        place = jax.sharding.SingleDeviceSharding(jax.devices("cpu")[0])
        return lax.with_sharding_constraint(y[0] + y[1], place)

    assert operations(graph_of(run, normal(3))) == ["constant", "broadcast_in_dim", "multiply", "add"]


def test_import_drops_shardy_annotations() -> None:
    kind = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((1,), ("batch",), axis_types=kind, devices=jax.devices("cpu")[:1])
    place = jax.NamedSharding(mesh, jax.P("batch"))
    graph = graph_of(lambda x: lax.with_sharding_constraint(jnp.sin(x), place), normal(4))
    assert operations(graph) == ["sine"]


def test_import_closes_regions_over_what_they_capture() -> None:
    graph = graph_of(lambda x, y: lax.cond(x[0] > 0, lambda: jnp.sin(x), lambda: x * y), normal(3), normal(3, seed=1))
    (case,) = [node for node in graph.nodes if node.op == "case"]
    assert set(case.inputs[1:]) == set(graph.inputs)
    assert all(len(branch.inputs) == 2 for branch in case.attributes["branches"])


def test_import_makes_captured_constants_inside() -> None:
    table = np.arange(5, dtype=np.float32)
    graph = graph_of(lambda x: lax.cond(x[0] > 0, lambda: x * table, lambda: x), normal(5))
    (case,) = [node for node in graph.nodes if node.op == "case"]
    inside = [node for branch in case.attributes["branches"] for node in branch.nodes if node.op == "constant"]
    assert case.inputs[1:] == graph.inputs
    np.testing.assert_array_equal(inside[0].attributes["value"], table)


def test_import_pairs_donated_inputs_with_outputs() -> None:
    graph = graph_of(lambda x, y: (y * 2, x.sum(), x + 1), normal(3), normal(4), donate_argnums=(0, 1))
    assert sorted(graph.aliases) == [(0, 2), (1, 0)]


def test_import_gives_no_alias_without_donation() -> None:
    assert graph_of(lambda x: x + 1, normal(3)).aliases == ()


def test_import_pairs_a_buffer_donor_with_an_output_of_its_type() -> None:
    text = """
      module @m { func.func public @main(%a: tensor<3xf32> {jax.buffer_donor = true}, %b: tensor<2xi32>)
        -> (tensor<2xi32>, tensor<3xf32>) { return %b, %a : tensor<2xi32>, tensor<3xf32> } }"""
    assert import_module(text.encode()).aliases == ((0, 1),)


def test_import_names_inputs_after_the_arguments() -> None:
    graph = graph_of(lambda weights, tokens: weights["a"] + tokens, {"a": normal(2)}, normal(2))
    assert graph.input_names[-1] == "tokens"
    assert "a" in graph.input_names[0]


def test_import_gives_the_users_line() -> None:
    graph = graph_of(lambda x: jnp.tanh(x), normal(2))
    assert graph.nodes[-1].where.startswith("test_module.py:")
    assert graph.nodes[-1].where.endswith("<lambda>")


def test_import_never_names_a_line_of_the_compiler() -> None:
    """JAX leaves its own frames out: what remains of a library function's are ours, which called it."""
    graph = lower(jax.nn.softmax)(normal(2, 3)).graph
    assert {node.where for node in graph.nodes} == {""}


def test_import_turns_if_into_case() -> None:
    text = """
      module @m { func.func public @main(%p: tensor<i1>, %x: tensor<f32>) -> tensor<f32> {
        %0 = "stablehlo.if"(%p) ({ stablehlo.return %x : tensor<f32> },
          { %1 = stablehlo.negate %x : tensor<f32>
            stablehlo.return %1 : tensor<f32> }) : (tensor<i1>) -> tensor<f32>
        return %0 : tensor<f32> } }"""
    graph = verify(import_module(text.encode()))
    assert operations(graph) == ["convert", "case"]
    assert operations(graph.nodes[1].attributes["branches"][0]) == ["negate"]


def test_import_flattens_tuples() -> None:
    text = """
      module @m { func.func public @main(%x: tensor<f32>, %y: tensor<i32>) -> tensor<i32> {
        %0 = stablehlo.tuple %x, %y : tuple<tensor<f32>, tensor<i32>>
        %1 = stablehlo.get_tuple_element %0[1] : (tuple<tensor<f32>, tensor<i32>>) -> tensor<i32>
        return %1 : tensor<i32> } }"""
    graph = import_module(text.encode())
    assert graph.outputs == (graph.inputs[1],)


@pytest.mark.parametrize("form", ["artifact", "bytecode", "text"])
def test_import_reads_bytes(form: str) -> None:
    module = lowered(lambda x: jnp.sin(x) * 2, normal(3))
    if form == "artifact":
        # jax 0.10.0 takes the text of a module, later releases the module.
        source = str(module) if jax.__version__ == "0.10.0" else module
        data = jax.extend.mlir.serialize_portable_artifact(source, stablehlo.get_current_version())
    else:
        data = jax.interpreters.mlir.module_to_bytecode(module) if form == "bytecode" else str(module).encode()
    assert sorted(operations(import_module(data))) == sorted(operations(import_module(module)))


def test_import_refuses_other_bytes() -> None:
    with pytest.raises(
        GraphError, match=r"(?s)must hold a StableHLO module.*got:  4 bytes.*want: a portable artifact.*fix:"
    ):
        _ = import_module(b"nope")


def test_import_refuses_a_module_without_main() -> None:
    with pytest.raises(GraphError, match="must have a function `main`"):
        _ = import_module(b"module @m { func.func @other() { return } }")
