"""From a function that calls Pallas to the fusion of its kernel, its plan in bands and its schedule: no device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from lowering import lower
from lowering.codegen.bands import UnfitError, find_bands
from lowering.codegen.bands.plan import Bands
from lowering.compiler import choose, optimise
from lowering.graph import Graph, Node, regions
from lowering.schedule import Schedule
from shaders.capabilities import Capabilities, MatrixShape

UNIT, THIN = (MatrixShape(16, n, 16, "f16", "f16", "f32", "f32", "subgroup") for n in (16, 8))


def fusions_of(function: Callable[..., Any], *arguments: Any, capabilities: Capabilities) -> list[Node]:
    """Return the fusions of the tile kernels of a function, those in regions as well."""
    shapes = [jax.ShapeDtypeStruct(np.shape(each), each.dtype) for each in arguments]
    return list(_tiles(optimise(lower(function)(*shapes).graph, capabilities)))


def _tiles(graph: Graph) -> list[Node]:
    found = []
    for node in graph.nodes:
        if node.op == "fusion":
            found += [node] if node.attributes["kind"] == "tile" else []
        else:
            found += [each for region in regions(node) for each in _tiles(region)]
    return found


def schedules_of(function: Callable[..., Any], *arguments: Any, capabilities: Capabilities) -> list[Schedule]:
    """Return the schedules of the tile kernels of a function."""
    found = fusions_of(function, *arguments, capabilities=capabilities)
    return [choose(fusion, capabilities) for fusion in found]


def tile_node(fusion: Node) -> Node:
    """Return the `tile` node of a fusion."""
    return fusion.attributes["body"].nodes[-1]


def bands_of(function: Callable[..., Any], *arguments: Any, capabilities: Capabilities) -> Bands:
    """Return the plan of the one kernel of a function, for operations of 16 x 16 x 16."""
    (fusion,) = fusions_of(function, *arguments, capabilities=capabilities)
    return find_bands(tile_node(fusion), UNIT, THIN)


def why_unfit(function: Callable[..., Any], *arguments: Any, capabilities: Capabilities) -> str:
    """Return why the one kernel of a function cannot be written in bands."""
    with pytest.raises(UnfitError) as caught:
        _ = bands_of(function, *arguments, capabilities=capabilities)
    return str(caught.value)
