"""Fused graph -> Program: which memory each value lives in, in what order kernels run, how loops and branches run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from shaders.kernel import Kernel

from .. import dtypes
from ..graph import Graph, Node, Value
from ..program import ArrayType, Program
from . import barriers, control, memory
from .inplace import arrange
from .steps import Guard, Launch, Level, Storage

KernelOf = Callable[[Node, bool], tuple[Kernel, int]]


@dataclass
class Assembler:
    """Collects kernels and constants while regions become levels of launches."""

    kernel_of: KernelOf
    kernels: list[Kernel] = field(default_factory=list)
    constants: list[bytes] = field(default_factory=list)
    _kernel_numbers: dict[int, int] = field(default_factory=dict)
    _constant_numbers: dict[bytes, int] = field(default_factory=dict)

    def temporary(self, nbytes: int) -> Storage:
        """Return new memory in the arena."""
        return Storage("arena", 0, nbytes)

    def constant(self, node: Node) -> Storage:
        """Return the memory of a constant array; equal contents share it."""
        value = node.output
        array = node.attributes["value"].astype(dtypes.NUMPY[value.dtype], copy=False)
        data = array.reshape(value.shape).tobytes()
        number = self._constant_numbers.setdefault(data, len(self.constants))
        if number == len(self.constants):
            self.constants.append(data)
        return Storage("constant", number, len(data))

    def launch(self, node: Node, places: dict[Value, Storage], guard: Guard | None) -> Launch | None:
        """Return the dispatch of a fusion; nothing if it has nothing to compute."""
        if all(value.size == 0 for value in node.outputs):
            return None
        kernel, groups = self.kernel_of(node, guard is not None)
        if groups == 0:
            return None
        number = self._kernel_numbers.setdefault(id(kernel), len(self.kernels))
        if number == len(self.kernels):
            self.kernels.append(kernel)
        arguments = tuple(places[value] for value in (*node.inputs, *node.outputs))
        return Launch(number, arguments, groups, node.attributes["label"], node.where, guard)

    def region(
        self,
        graph: Graph,
        places: dict[Value, Storage],
        wanted: dict[int, Storage],
        mutable: set[Value],
        guard: Guard | None,
    ) -> tuple[list[Level], list[Storage]]:
        """Return the levels of a graph whose inputs are in `places`, and the memory that each output ends up in.

        `wanted`: memory that an output should be made in, by position. `mutable`: inputs that may be overwritten.
        """
        plan = arrange(graph, places, wanted, mutable, self)
        levels: list[Level] = []
        for nodes in plan.levels:
            level = Level()
            for node in nodes:
                if node.op == "fusion":
                    launch = self.launch(node, plan.places, guard)
                    if launch is not None:
                        level.steps.append(launch)
                elif node.op in ("while", "case"):
                    levels.extend(control.lower(self, node, plan.places, guard))
            if level.steps:
                levels.append(level)
        return levels, [plan.places[value] for value in graph.outputs]


def assemble(graph: Graph, kernel_of: KernelOf) -> Program:
    """Return the program of a fused and scheduled graph."""
    aliases = {output: source for source, output in graph.aliases}
    while True:
        program = _with_aliases(graph, aliases, kernel_of)
        kept = {output: source for source, output in program.aliases}
        if kept == aliases:
            return program
        # An input whose memory no output takes belongs to the caller: plan again, so that nothing writes into it.
        aliases = kept


def _with_aliases(graph: Graph, aliases: dict[int, int], kernel_of: KernelOf) -> Program:
    """Return the program that may overwrite the inputs of `aliases` (output -> input), and the aliases that held."""
    assembler = Assembler(kernel_of)
    places = {value: Storage("input", i, value.nbytes) for i, value in enumerate(graph.inputs)}
    wanted: dict[int, Storage] = {}
    for i, value in enumerate(graph.outputs):
        source = aliases.get(i)
        wanted[i] = places[graph.inputs[source]] if source is not None else Storage("output", i, value.nbytes)
    mutable = {graph.inputs[source] for source in aliases.values()}
    levels, ends = assembler.region(graph, places, wanted, mutable, None)
    kept = _honoured(graph, aliases, ends, places)
    levels += _copies(assembler, graph, ends, kept)
    arena, bound = memory.plan_arena(levels)
    return Program(
        name=graph.name,
        kernels=tuple(assembler.kernels),
        steps=barriers.finish(levels, assembler.kernels),
        inputs=tuple(ArrayType(v.dtype, v.shape) for v in graph.inputs),
        outputs=tuple(ArrayType(v.dtype, v.shape) for v in graph.outputs),
        constants=tuple(assembler.constants),
        arena_bytes=arena,
        aliases=tuple((source, output) for output, source in sorted(kept.items())),
        liveness_bound_bytes=bound,
    )


def _honoured(
    graph: Graph, aliases: dict[int, int], ends: list[Storage], places: dict[Value, Storage]
) -> dict[int, int]:
    """Return the aliases whose output really ended up in the input's memory."""
    return {o: i for o, i in aliases.items() if ends[o] is places[graph.inputs[i]] and graph.outputs[o].nbytes}


def _copies(assembler: Assembler, graph: Graph, ends: list[Storage], kept: dict[int, int]) -> list[Level]:
    """Return the copies of outputs that live elsewhere: inputs passed through, constants, results asked for twice."""
    level = Level()
    for i, value in enumerate(graph.outputs):
        if i in kept:
            continue
        if ends[i].space == "output" and ends[i].index == i:
            continue
        target = Storage("output", i, value.nbytes)
        launch = control.copy(assembler, value, ends[i], target, None)
        if launch is not None:
            level.steps.append(launch)
    return [level] if level.steps else []
