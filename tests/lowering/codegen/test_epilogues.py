"""What becomes of the sums of a product in its own kernel: runs of them, other arrays beside, edges anywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from lowering import reference
from lowering.codegen import kernels
from lowering.codegen.dot_results import longest_run
from lowering.compiler import compile_graph, optimise
from lowering.graph import Graph, Node
from lowering.runtime import Device
from lowering.runtime.hazard import check_hazards
from shaders.capabilities import Capabilities
from tests.shaders.library.matmul.test_choose import capabilities

from ..programs import graph_of
from ..running import run, styled

GENERATOR = np.random.default_rng(2)
EPILOGUES: dict[str, Callable[..., Any]] = {
    "residual": lambda x, w, r, row, column: x @ w + r,
    "bias of columns": lambda x, w, r, row, column: x @ w + row[None],
    "bias of rows": lambda x, w, r, row, column: jax.nn.relu(x @ w + column[:, None]),
    "columns and rows": lambda x, w, r, row, column: (x @ w) * row[None] + column[:, None],
    "also the sums": lambda x, w, r, row, column: ((found := x @ w), found * 2)[1] + r,
    "narrowed": lambda x, w, r, row, column: (x @ w).astype(jnp.float16) + r.astype(jnp.float16),
    "turned": lambda x, w, r, row, column: (x.reshape(2, -1, x.shape[1]) @ w).transpose(1, 0, 2) * row[None, None],
}
# By eight, by four, and one by one; with edges and, where they are tried, without.
SHAPES = [
    (70, 36, 72),
    (34, 16, 31),
    pytest.param((64, 32, 128), marks=pytest.mark.exhaustive),
    pytest.param((66, 20, 44), marks=pytest.mark.exhaustive),
]
DTYPES = {"f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16}


def operands(rows: int, depth: int, columns: int, dtype: Any) -> list[np.ndarray]:
    """Return both factors, an array as large as the product, one number for each column and one for each row."""
    shapes = [(rows, depth), (depth, columns), (rows, columns), (columns,), (rows,)]
    return [GENERATOR.standard_normal(shape).astype(dtype) for shape in shapes]


def products_of(graph: Graph, capabilities: Capabilities) -> list[Node]:
    return [n for n in optimise(graph, capabilities).nodes if n.attributes.get("kind") == "dot"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", EPILOGUES)
def test_epilogue_is_right(name: str, shape: tuple[int, int, int], dtype: str, device: Device) -> None:
    arrays = operands(*shape, DTYPES[dtype])
    graph, capabilities = graph_of(EPILOGUES[name], *arrays), styled(device.capabilities, "gpu")
    (product,) = products_of(graph, capabilities)
    assert len(product.attributes["body"].nodes) > 1, "nothing is left for the epilogue"
    program = check_hazards(compile_graph(graph, capabilities))
    for got, want in zip(run(device, program, arrays), reference.run(graph, *arrays), strict=True):
        # Terms of a sum cancel: it is as exact as the largest of its like.
        tolerance, scale = 8 * float(ml_dtypes.finfo(got.dtype).eps), np.abs(want.astype(np.float64)).max()
        np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), tolerance, tolerance * scale)


@pytest.mark.parametrize(("columns", "expected"), [(128, 8), (72, 8), (44, 4), (31, 1)])
def test_runs_are_as_long_as_rows_divide(columns: int, expected: int, device: Device) -> None:
    graph = graph_of(EPILOGUES["residual"], *operands(16, 16, columns, np.float16))
    (product,) = products_of(graph, styled(device.capabilities, "gpu"))
    assert longest_run(product) == expected


@pytest.mark.parametrize("name", ["residual", "bias of columns", "turned"])
def test_large_arrays_are_counted_in_64_bits(name: str, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = operands(34, 16, 40, np.float16)
    graph, capabilities = graph_of(EPILOGUES[name], *arrays), styled(device.capabilities, "gpu")
    monkeypatch.setattr(kernels, "_index_dtype", lambda body: "u64")
    program = compile_graph(graph, capabilities)
    for got, want in zip(run(device, program, arrays), reference.run(graph, *arrays), strict=True):
        np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), 1e-2, 1e-2)


@pytest.mark.parametrize("name", ["residual", "bias of columns"])
def test_products_of_more_than_32_bits_of_results_compile(name: str) -> None:
    rows, columns = 1 << 17, 1 << 15
    shapes = [(rows, 64), (64, columns), (rows, columns), (columns,), (rows,)]
    graph = graph_of(EPILOGUES[name], *(jax.ShapeDtypeStruct(shape, np.float16) for shape in shapes))
    (kernel,) = compile_graph(graph, capabilities("h100")).kernels
    assert "OpTypeInt 64 0" in kernel.text()
