"""Graph + Capabilities -> Program: the only module that joins the passes, the code generator and the memory plan."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from shaders.capabilities import Capabilities
from shaders.kernel import Kernel

from .choices import NO_CHOICES, Choices, choose, fusion_text, tuned
from .codegen import bands, kernels, tile
from .graph import Graph, Node, map_regions, regions, verify
from .passes.degenerate import degenerate
from .passes.fold_tiles import fold_tiles
from .passes.fuse import fuse
from .passes.normalise import normalise
from .passes.read_transposed import read_transposed
from .passes.repeat import repeat_results
from .passes.simplify import simplify
from .passes.split_dot import split_dot
from .passes.split_loops import split_loops
from .passes.split_reduce import split_reduce
from .passes.tables import fold_tables
from .passes.turn_dot import turn_dot
from .passes.unit_axes import drop_unit_axes
from .plan.assemble import assemble
from .program import Program
from .requirements import require_features
from .watch import watched


def compile_graph(
    graph: Graph, capabilities: Capabilities, *, descriptors: bool = False, choices: Choices = NO_CHOICES
) -> Program:
    """Return the program that computes a graph on a device with these capabilities; needs no device.

    Args:
        graph: what to compute.
        capabilities: of the device.
        descriptors: make kernels that synchronization validation can follow; `runtime.descriptors` runs them.
        choices: schedules that were found by measuring on the device.

    Raises:
        UnsupportedError: the device lacks a dtype that the graph needs.
    """
    maker = KernelMaker(capabilities, descriptors=descriptors, choices=choices)
    return assemble(optimise(graph, capabilities), maker.kernel_of)


def compile_watched(
    graph: Graph, capabilities: Capabilities, choices: Choices = NO_CHOICES
) -> tuple[Program, Program, Graph]:
    """Return a graph's program, the one that gives out what every kernel computes, and the fused graph of both."""
    fused = optimise(graph, capabilities)
    maker = KernelMaker(capabilities, choices=choices)
    return assemble(fused, maker.kernel_of), assemble(watched(fused), maker.kernel_of), fused


def optimise(graph: Graph, capabilities: Capabilities) -> Graph:
    """Return the fused graph of a program on a device."""
    # Clean first, so that others meet one form of everything; cut before fusing, so that all parts take neighbours in.

    def keeps_bands(before: Node, after: Node) -> bool:
        return bands.can_plan(after, capabilities) or not bands.can_plan(before, capabilities)

    finish = _Finish(capabilities)
    read = read_transposed(drop_unit_axes(fold_tables(clean(graph), finish)), keeps_bands)
    cleaned = require_features(fold_tiles(read, keeps_bands), capabilities)
    cut = split_reduce(split_loops(split_dot(turn_dot(cleaned), capabilities), capabilities), capabilities)
    return verify(repeat_results(fuse(cut)))


@dataclass
class _Finish:
    """Cleans kernels of tables, and keeps those that run on matrix units; equal ones are asked about once."""

    capabilities: Capabilities
    found: dict[str, Node | None] = field(default_factory=dict)

    def __call__(self, kernel: Node) -> Node | None:
        cell, given = kernel.attributes["cell"], {k: v for k, v in kernel.attributes.items() if k != "cell"}
        key = f"{given} {cell.text(with_places=False)}"
        if key not in self.found:
            cleaned = map_regions(kernel, clean)
            self.found[key] = cleaned if bands.takes_matrices(cleaned, self.capabilities) else None
        found = self.found[key]
        return None if found is None else replace(kernel, attributes=found.attributes)


def clean(graph: Graph) -> Graph:
    """Return the graph in normal form, without anything that need not be computed."""
    return _with_clean_cells(degenerate(normalise(simplify(normalise(verify(graph))))))


def _with_clean_cells(graph: Graph) -> Graph:
    """Clean the cells of tile kernels, wherever they are called."""

    def cleaned(node: Node) -> Node:
        return map_regions(node, clean if node.op == "tile" else _with_clean_cells)

    return replace(graph, nodes=tuple(cleaned(node) for node in graph.nodes))


def schedule_text(graph: Graph, capabilities: Capabilities, choices: Choices = NO_CHOICES) -> str:
    """Print the fused graph with each fusion's schedule, and the memory plan."""
    fused = optimise(graph, capabilities)
    program = assemble(fused, KernelMaker(capabilities, choices=choices).kernel_of)
    lines = [with_schedules(fused, capabilities, choices).text()]
    lines += _tile_lines(fused, capabilities, choices)
    lines.append(f"kernels: {len(program.kernels)}")
    lines.append(f"arena: {program.arena_bytes} bytes (liveness bound {program.liveness_bound_bytes})")
    return "\n".join(lines)


def _tile_lines(graph: Graph, capabilities: Capabilities, choices: Choices) -> list[str]:
    """Say where the tiles of each tile kernel live, in regions too."""
    lines: list[str] = []
    for node in graph.nodes:
        if node.op == "fusion" and node.attributes["kind"] == "tile":
            schedule = choose(node, capabilities, choices)
            lines += (bands if schedule.mode in bands.MODES else tile).describe(node, schedule)
        elif node.op != "fusion":
            lines += (line for region in regions(node) for line in _tile_lines(region, capabilities, choices))
    return lines


def with_schedules(graph: Graph, capabilities: Capabilities, choices: Choices = NO_CHOICES) -> Graph:
    """Return the fused graph with each fusion's schedule among its attributes, for people to read."""

    def annotate(node: Node) -> Node:
        if node.op == "fusion":
            found = tuned(node, capabilities, choices)
            text = f"tuned {found.text()}" if found is not None else choose(node, capabilities).text()
            return replace(node, attributes={"schedule": f"<{text}>", **node.attributes})
        return map_regions(node, lambda region: with_schedules(region, capabilities, choices))

    return replace(graph, nodes=tuple(annotate(node) for node in graph.nodes))


@dataclass
class KernelMaker:
    """Emits the kernel of each fusion; equal fusions share one."""

    capabilities: Capabilities
    descriptors: bool = False
    choices: Choices = NO_CHOICES
    made: dict[tuple[str, str, bool], Kernel] = field(default_factory=dict)

    def kernel_of(self, fusion: Node, guarded: bool) -> tuple[Kernel, int]:
        """Return a fusion's kernel and its number of workgroups."""
        schedule = choose(fusion, self.capabilities, self.choices)
        key = (fusion_text(fusion), schedule.text(), guarded)
        if key not in self.made:
            options = {"guarded": guarded, "descriptors": self.descriptors}
            self.made[key] = kernels.emit_kernel(fusion, schedule, self.capabilities, **options)
        return self.made[key], kernels.groups(fusion, schedule)
