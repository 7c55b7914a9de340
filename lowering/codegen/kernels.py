"""Fusion + Schedule -> Kernel: the frame that all kernels share, and the table of what fills it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from shaders.capabilities import Capabilities
from shaders.functions.narrow import RTE_CONTROLS
from shaders.functions.split import SPLIT_CONTROLS
from shaders.kernel import Kernel, Parameter
from shaders.spirv import Builder

from .. import dtypes
from ..errors import UnsupportedError, message
from ..graph import Graph, Node, Value
from ..schedule import Schedule
from . import bands, dot, maps, rows, running, scatter, serial, tile, tiles, update, window
from .expression import Expression
from .guess import is_guessed

Emit = Callable[[Builder, Expression, Node, Schedule], None]
Groups = Callable[[Node, Schedule], int]


@dataclass(frozen=True, slots=True)
class Template:
    """A family of kernels: what it writes into the body, and how many workgroups it needs."""

    emit: Emit
    groups: Groups


TEMPLATES: Mapping[str, Template] = {
    "map": Template(maps.emit, maps.groups),
    "map tile": Template(tiles.emit, tiles.groups),
    "window scan": Template(running.emit, running.groups),
    "rows": Template(rows.emit, rows.groups),
    "partial": Template(rows.emit, rows.groups),
    "serial": Template(serial.emit, serial.groups),
    "update": Template(update.emit, update.groups),
    "scatter": Template(scatter.emit, scatter.groups),
    "window": Template(window.emit, window.groups),
    "dot": Template(dot.emit, dot.groups),
    "tile": Template(tile.emit, tile.groups),
    f"tile {bands.BANDS}": Template(bands.emit, tile.groups),
    f"tile {bands.FRAGMENTS}": Template(bands.emit, tile.groups),
    f"tile {bands.LANES}": Template(bands.emit, tile.groups),
}

# Arrays with more elements or bytes than this need 64-bit index arithmetic: SPIR-V reads an index as signed, so that
# a u32 of 2^31 or more reaches below the buffer, and NVIDIA's driver counts the bytes to an element in 32 bits.
LARGEST_U32 = 2**31 - 2**20
LARGEST_U32_BYTES = 2**32 - 2**22


def emit_kernel(
    fusion: Node, schedule: Schedule, capabilities: Capabilities, *, guarded: bool, descriptors: bool = False
) -> Kernel:
    """Return the kernel of a fusion. Parameters are the body's inputs, then its outputs.

    `descriptors`: reach buffers through bindings, for `lowering.runtime.descriptors`.
    """
    body: Graph = fusion.attributes["body"]
    names = parameter_names(body)
    builder = Builder(
        name=_name(fusion),
        workgroup=(schedule.workgroup, 1, 1),
        parameters=tuple(names.values()),
        subgroup_size=schedule.subgroup or None,
        guarded=guarded,
        descriptors=descriptors,
        float_controls=float_controls(_dtypes_of(body), capabilities)
        | _controls_of_guesses(fusion, schedule, capabilities),
    )
    # A processor takes as long for its own power of two as for a polynomial.
    builder.takes_exp2 = capabilities.keeps_exp2 and not capabilities.is_cpu
    builder.has_short_tanh = capabilities.has_short_tanh
    buffers = {value: builder.buffer(parameter.name) for value, parameter in names.items()}
    expression = Expression(builder, body, buffers, _index_dtype(body))
    template(fusion, schedule).emit(builder, expression, fusion, schedule)
    kernel = builder.finish()
    if fusion.attributes["kind"] == "tile":
        tile.require_shared(fusion, kernel.shared_bytes, capabilities)
    _require_rounds(fusion, builder.loop_rounds, capabilities)
    return kernel


def _require_rounds(fusion: Node, rounds: int, capabilities: Capabilities) -> None:
    """Refuse a kernel whose loops the driver would leave early.

    Raises:
        UnsupportedError: one invocation's loops may go round more often than the driver lets them.
    """
    limit = capabilities.loop_rounds
    if limit is not None and rounds > limit:
        raise UnsupportedError(
            message(
                f"A kernel's loops must go round at most {limit:,} times on {capabilities.device_name}.",
                got=f"up to {rounds:,} rounds for {fusion.attributes['label']} over {fusion.attributes['domain']}",
                want=f"at most {limit:,}: past that, this driver leaves every loop without a word",
                fix="make the window, or the row, that one element needs shorter, or choose another device.",
                at=fusion.where,
                stage="compile",
            )
        )


def groups(fusion: Node, schedule: Schedule) -> int:
    """Return how many workgroups the fusion's kernel needs."""
    return template(fusion, schedule).groups(fusion, schedule)


def template(fusion: Node, schedule: Schedule) -> Template:
    """Return the family of kernels that a fusion belongs to."""
    kind = fusion.attributes["kind"]
    return TEMPLATES.get(f"{kind} {schedule.mode}", TEMPLATES[kind])


def parameter_names(body: Graph) -> dict[Value, Parameter]:
    """Return the kernel parameter of each input and output of a body; complex arrays are buffers of their parts."""
    result: dict[Value, Parameter] = {}
    scattered = {value for node in body.nodes if node.op in ("scatter", "tile") for value in node.outputs}
    for position, value in enumerate(body.inputs):
        result[value] = Parameter(f"in{position}", dtypes.real_part(value.dtype), "r")
    for position, value in enumerate(body.outputs):
        access = "rw" if value in scattered else "w"
        result.setdefault(value, Parameter(f"out{position}", dtypes.real_part(value.dtype), access))
    return result


def _dtypes_of(body: Graph) -> set[str]:
    return {value.dtype for node in body.nodes for value in (*node.inputs, *node.outputs)}


def float_controls(used: set[str], capabilities: Capabilities) -> frozenset[str]:
    """Return the modes of a kernel that computes with these dtypes.

    They keep a driver from folding away NaN, infinities, signed zeros and conversions' rounding. On a GPU f16 is
    rounded by the device's own conversion, which takes 2 instructions for 10.
    """
    wanted = {"signed_zero_inf_nan_preserve_32"}
    if used & {"f64", "c128"}:
        wanted.add("signed_zero_inf_nan_preserve_64")
    if "f16" in used and capabilities.has_f16 and not capabilities.is_cpu:
        wanted |= RTE_CONTROLS
    return frozenset(wanted) & capabilities.float_controls


def _controls_of_guesses(fusion: Node, schedule: Schedule, capabilities: Capabilities) -> frozenset[str]:
    """Return the modes under which rounding to bf16 may be guessed; a processor has nothing to win."""
    is_possible = not capabilities.is_cpu and capabilities.float_controls >= SPLIT_CONTROLS
    return SPLIT_CONTROLS if is_possible and is_guessed(fusion, schedule) else frozenset()


def _name(fusion: Node) -> str:
    return "".join(c if c.isalnum() or c == "_" else "_" for c in fusion.attributes["label"]) or "kernel"


def _index_dtype(body: Graph) -> str:
    values = {value for node in body.nodes for value in (*node.inputs, *node.outputs)}
    elements = max((value.size for value in values), default=0)
    nbytes = max((value.size * dtypes.itemsize(value.dtype) for value in values), default=0)
    return "u32" if elements < LARGEST_U32 and nbytes < LARGEST_U32_BYTES else "u64"
