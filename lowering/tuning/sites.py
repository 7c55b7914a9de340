"""Find the kernels of a program that have alternatives, with what they read when the program runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from shaders.capabilities import Capabilities

from ..choices import Choices, shape_class
from ..compiler import KernelMaker
from ..graph import Graph, Node, Value, regions
from ..plan.assemble import assemble
from ..program import Program
from ..runtime import Buffer, Device
from ..schedule import Schedule


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """A kernel and its inputs on the device: the first of its class in a program, in the first round of its loops.

    Attributes:
        name: its shape class.
        fusion: the node of the fused graph.
        inputs: one buffer for each of the fusion's inputs.
    """

    name: str
    fusion: Node
    inputs: tuple[Buffer, ...]

    def program(self, schedule: Schedule, capabilities: Capabilities) -> Program:
        """Return a program of this kernel alone, compiled as a stored choice of this schedule would compile it."""
        graph = Graph("tuning", self.fusion.inputs, (self.fusion,), self.fusion.outputs)
        maker = KernelMaker(capabilities, choices=Choices({self.name: schedule.text()}))
        return assemble(graph, maker.kernel_of)


def find_sites(device: Device, fused: Graph, inputs: Sequence[Buffer]) -> list[Site]:
    """Run a program as far as its kernels with alternatives need it, and return these, one for each class.

    Args:
        device: where.
        fused: what `compiler.optimise` made of the program.
        inputs: one buffer for each input of the program.

    Raises:
        DeviceMemoryError: what the kernels read does not fit the device all at once.
    """
    sites: dict[str, Site] = {}
    _collect(device, fused, inputs, sites)
    return list(sites.values())


def _collect(device: Device, graph: Graph, inputs: Sequence[Buffer], sites: dict[str, Site]) -> None:
    asked = [node for node in graph.nodes if any(name not in sites for name in _classes(node))]
    if not asked:
        return
    known = dict(zip(graph.inputs, inputs, strict=True))
    known |= _computed(device, graph, inputs, [value for node in asked for value in node.inputs if value not in known])
    for node in asked:
        if node.op == "fusion":
            (name,) = _classes(node)
            _ = sites.setdefault(name, Site(name, node, tuple(known[value] for value in node.inputs)))
            continue
        for region in regions(node):
            # A branch does not see the number that chose it.
            taken = node.inputs[len(node.inputs) - len(region.inputs) :]
            _collect(device, region, [known[value] for value in taken], sites)


def _classes(node: Node) -> Iterator[str]:
    """Yield the classes of a node's kernels with alternatives, in its regions too."""
    if node.op != "fusion":
        for region in regions(node):
            for inner in region.nodes:
                yield from _classes(inner)
        return
    name = shape_class(node)
    if name is not None:
        yield name


def _computed(device: Device, graph: Graph, inputs: Sequence[Buffer], wanted: Sequence[Value]) -> dict[Value, Buffer]:
    """Return what a graph computes on its way."""
    values = tuple(dict.fromkeys(wanted))
    if not values:
        return {}
    program = assemble(replace(graph, outputs=values, aliases=()), KernelMaker(device.capabilities).kernel_of)
    return dict(zip(values, device.load(program).run(inputs), strict=True))
