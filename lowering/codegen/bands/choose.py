"""Choose a schedule in bands for a tile kernel, where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache

from shaders.capabilities import Capabilities, MatrixShape
from shaders.kernel import Parameter
from shaders.spirv import Builder

from ...errors import UnsupportedError, message
from ...graph import Graph, Node
from ...schedule import MOST_SUBGROUPS, Schedule
from ..expression import Expression
from ..tile.choose import asked_threads
from .checks import NARROW, UnfitError
from .emit import BANDS, FRAGMENTS, LANES, write
from .lanes import ROWS_OF_A_LANE, unit_of
from .plan import Bands, find_bands

_FEATURES = {"flexible_dimensions", "reductions", "conversions", "per_element"}
_MOST_THREADS = 256
# Lanes stand in rows of four, and rows of a tile are shared out over at least two of these.
_LEAST_LANES = 8


def choose(fusion: Node, capabilities: Capabilities) -> Schedule | None:
    """Return a schedule in bands, or None where the device, the author or the cell does not allow one.

    Raises:
        UnsupportedError: the author asks for a workgroup that the device does not have, or for bands without rows.
    """
    return _choose(fusion.attributes["body"].nodes[-1], capabilities)


def _choose(node: Node, capabilities: Capabilities) -> Schedule | None:
    for schedules in _schedules(node, capabilities):
        if schedules and _shared_bytes(node, schedules[0]) <= capabilities.max_shared_bytes:
            return schedules[0]
    return None


def candidates(fusion: Node, capabilities: Capabilities) -> Iterator[Schedule]:
    """Yield the schedules worth measuring; `fits` tells which of them the device can run."""
    node: Node = fusion.attributes["body"].nodes[-1]
    for schedules in _schedules(node, capabilities):
        yield from schedules


def fits(fusion: Node, schedule: Schedule, capabilities: Capabilities) -> bool:
    """Tell whether a kernel can be written with a schedule and its chunks fit the device's shared memory."""
    try:
        return _shared_bytes(fusion.attributes["body"].nodes[-1], schedule) <= capabilities.max_shared_bytes
    except UnfitError:
        return False


def _schedules(node: Node, capabilities: Capabilities) -> Iterator[list[Schedule]]:
    """Yield each plan's schedules: as many subgroups as share its rows evenly, then fewer if the author has no wish."""
    options = dict(node.attributes.get("options", ()))
    size = capabilities.subgroup_size
    most = min(_MOST_THREADS, MOST_SUBGROUPS * size, capabilities.max_invocations)
    for mode, shapes, bands in _plans(node, capabilities):
        parts = (asked_threads(node, capabilities) or most) // size
        if "band" in options:
            parts = min(parts, max(1, bands.rows // _asked_rows(node, options["band"])))
        elif mode == LANES and asked_threads(node, capabilities) is None:
            parts = min(parts, max(1, bands.rows // (ROWS_OF_A_LANE * bands.unit.m)))
        while parts > 1 and bands.rows % (parts * bands.unit.m):
            parts //= 2
        counts = (
            [parts]
            if {"threads", "band"} & set(options)
            else [parts >> halving for halving in range(parts.bit_length())]
        )
        yield [Schedule("tile", count * size, subgroup=size, mode=mode, fragments=shapes) for count in counts if count]


def _asked_rows(node: Node, rows: int) -> int:
    if rows < 1:
        raise UnsupportedError(
            message(
                "CompilerParams: a band must have rows.",
                got=f"band={rows} for {node.attributes['name']}",
                want="at least 1",
                fix="leave `band` out, or ask for as many rows as a subgroup shall have.",
                at=node.where,
                stage="codegen",
            )
        )
    return rows


def can_plan(node: Node, capabilities: Capabilities) -> bool:
    """Tell whether a tile kernel can be planned in bands on a device; shared memory is counted for lanes alone."""
    modes = {mode for mode, _, _ in _plans(node, capabilities)}
    return bool(modes - {LANES}) or (LANES in modes and _choose(node, capabilities) is not None)


def takes_matrices(node: Node, capabilities: Capabilities) -> bool:
    """Tell whether a tile kernel runs in bands of matrices on a device, shared memory counted."""
    if not {mode for mode, _, _ in _plans(node, capabilities)} - {LANES}:
        return False
    schedule = _choose(node, capabilities)
    return schedule is not None and schedule.mode != LANES


def _plans(node: Node, capabilities: Capabilities) -> Iterator[tuple[str, tuple[MatrixShape, ...], Bands]]:
    """Yield modes, units of the device with the ones that go with them, and plans of a kernel with them."""
    options = dict(node.attributes.get("options", ()))
    if not options.get("bands", not capabilities.is_cpu):
        return
    is_whole = capabilities.features_nv >= _FEATURES
    for shape in capabilities.matrices if options.get("matrix_units", True) else ():
        if shape.scope != "subgroup" or shape.a not in NARROW or not shape.c == shape.result == "f32":
            continue
        shapes = _with_thin(shape, capabilities) if is_whole else _with_native(shape, capabilities)
        if is_whole and shape.m != shape.n:
            continue
        with suppress(UnfitError):
            yield BANDS if is_whole else FRAGMENTS, shapes, find_bands(node, *shapes[:2])
    if capabilities.subgroup_size >= _LEAST_LANES:
        with suppress(UnfitError):
            shapes = unit_of(capabilities.subgroup_size)
            yield LANES, shapes, find_bands(node, *shapes)


def _with_thin(unit: MatrixShape, capabilities: Capabilities) -> tuple[MatrixShape, ...]:
    """Return a unit, and the one of as few columns as the device has for numbers for rows."""
    same = [each for each in capabilities.matrices if replace(each, n=unit.n, k=unit.k) == unit]
    return unit, min(same, key=lambda each: each.n)


def _with_native(unit: MatrixShape, capabilities: Capabilities) -> tuple[MatrixShape, ...]:
    """Return a unit, the same for numbers for rows, and one whose sums are of the factors' 16 bits, if there is one."""
    narrow = (
        each
        for each in capabilities.matrices
        if (each.m, each.n, each.scope, each.result) == (unit.m, unit.n, unit.scope, unit.a)
    )
    return unit, unit, *[each for each in (next(narrow, None),) if each is not None]


@lru_cache(maxsize=64)
def _shared_bytes(node: Node, schedule: Schedule) -> int:
    """Return the shared memory that a kernel takes, by writing it; nodes are equal only to themselves."""
    held = (*node.inputs, *node.outputs)
    parameters = [
        Parameter(f"p{i}", value.dtype, "r" if i < len(node.inputs) else "rw") for i, value in enumerate(held)
    ]
    builder = Builder(
        "trial", workgroup=(schedule.workgroup, 1, 1), parameters=parameters, subgroup_size=schedule.subgroup
    )
    buffers = {value: builder.buffer(parameter.name) for value, parameter in zip(held, parameters, strict=True)}
    write(Expression(builder, Graph("trial", held, (), ()), buffers), node, schedule)
    return builder.shared_bytes
