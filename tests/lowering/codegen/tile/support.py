"""Tile kernels for tests: from a function that calls Pallas to the fusion, its kernel and what both should compute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from lowering import dtypes, lower, reference
from lowering.codegen import kernels
from lowering.compiler import choose, optimise
from lowering.graph import Graph, Node, Value
from shaders.capabilities import Capabilities
from shaders.kernel import Kernel


@dataclass(frozen=True)
class Tile:
    """A tile kernel: the fusion that holds it, the kernel and how many workgroups it needs."""

    graph: Graph
    fusion: Node
    kernel: Kernel
    groups: int

    @property
    def node(self) -> Node:
        """The `tile` node."""
        return self.fusion.attributes["body"].nodes[-1]


def tile_of(function: Callable[..., Any], *arguments: Any, capabilities: Capabilities) -> Tile:
    """Return the one tile kernel of a function; it reaches its buffers by binding."""
    shapes = [jax.ShapeDtypeStruct(np.shape(each), np.asarray(each).dtype) for each in arguments]
    graph = lower(function)(*shapes).graph
    fused = optimise(graph, capabilities)
    (fusion,) = (node for node in fused.nodes if node.op == "fusion" and node.attributes["kind"] == "tile")
    schedule = choose(fusion, capabilities)
    kernel = kernels.emit_kernel(fusion, schedule, capabilities, guarded=False, descriptors=True)
    return Tile(fused, fusion, kernel, kernels.groups(fusion, schedule))


def buffers_of(tile: Tile, arguments: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the kernel's buffers before it runs: operands, then outputs, of which updated ones hold their operand."""
    inputs = [np.ascontiguousarray(each) for each in _values(tile, tile.fusion.inputs, arguments)]
    updates = tile.node.attributes["updates"]
    fresh = [np.full(value.shape, 7, dtypes.NUMPY[value.dtype]) for value in tile.fusion.outputs[updates:]]
    return [*inputs, *(inputs[number].copy() for number in range(updates)), *fresh]


def results_of(tile: Tile, buffers: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the outputs among a kernel's buffers."""
    return list(buffers[len(tile.fusion.inputs) :])


def wanted(tile: Tile, arguments: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return what NumPy gives for the kernel's outputs."""
    return _values(tile, tile.fusion.outputs, arguments)


def _values(tile: Tile, outputs: tuple[Value, ...], arguments: Sequence[np.ndarray]) -> list[np.ndarray]:
    return list(reference.run(replace(tile.graph, outputs=outputs, aliases=()), *arguments))
