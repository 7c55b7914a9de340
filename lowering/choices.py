"""Which schedule a fusion gets: one that was found by measuring, if the device can run it, else the compiler's own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from shaders.capabilities import Capabilities

from . import schedule as schedules
from .codegen import bands, dot, running, scatter, tile, tiles
from .graph import Node
from .schedule import Schedule

DIGITS = 16
"""Hexadecimal digits that tell a tile kernel from all others of its name."""


@dataclass(frozen=True, slots=True)
class Choices:
    """Schedules that were found by measuring on one device, as texts, by `shape_class`.

    A text counts only where it is that of one of the fusion's `candidates`: whatever a file says, nothing runs that
    this compiler would not have tried on this device.
    """

    schedules: Mapping[str, str]

    def text(self) -> str:
        """Print one choice a line, sorted: equal texts make equal programs."""
        return "".join(f"{name}: {text}\n" for name, text in sorted(self.schedules.items()))


NO_CHOICES = Choices(MappingProxyType({}))


def choose(fusion: Node, capabilities: Capabilities, choices: Choices = NO_CHOICES) -> Schedule:
    """Return the schedule of a fusion."""
    return tuned(fusion, capabilities, choices) or _by_rules(fusion, capabilities)


def tuned(fusion: Node, capabilities: Capabilities, choices: Choices) -> Schedule | None:
    """Return the schedule that was found by measuring; None where there is none that the device can run."""
    name = shape_class(fusion) if choices.schedules else None
    text = choices.schedules.get(name) if name is not None else None
    if text is None:
        return None
    found = next((each for each in candidates(fusion, capabilities) if each.text() == text), None)
    return found if found is not None and fits(fusion, found, capabilities) else None


def candidates(fusion: Node, capabilities: Capabilities) -> Iterator[Schedule]:
    """Yield the schedules worth measuring for a fusion; `fits` tells which of them the device can run."""
    kind = fusion.attributes["kind"]
    if kind == "dot":
        yield from dot.candidates(fusion, capabilities)
    elif kind == "tile":
        yield from bands.candidates(fusion, capabilities)
        yield from tile.candidates(fusion, capabilities)


def fits(fusion: Node, schedule: Schedule, capabilities: Capabilities) -> bool:
    """Tell whether a device can run one of a fusion's candidates."""
    if schedule.kind != "tile":
        return True
    return (bands if schedule.mode in bands.MODES else tile).fits(fusion, schedule, capabilities)


def shape_class(fusion: Node) -> str | None:
    """Return what fusions have in common that share a choice, as text; None where there is nothing to choose.

    Products share by dtypes, how operands lie and sizes; tile kernels are shared by equal ones only.
    """
    kind = fusion.attributes["kind"]
    if kind == "dot":
        return dot.shape_class(fusion)
    if kind != "tile":
        return None
    digest = hashlib.sha256(fusion_text(fusion).encode()).hexdigest()[:DIGITS]
    return f"tile {tile.node_of(fusion).attributes['name']} {' '.join(value.text for value in fusion.inputs)} {digest}"


def fusion_text(fusion: Node) -> str:
    """Return everything that a fusion's kernel depends on, as text."""
    a = fusion.attributes
    head = f"{a['kind']} {a['domain']} {a['reduced']} {a['output_axes']} {a['label']}\n"
    return head + a["body"].text(with_places=False)


def _by_rules(fusion: Node, capabilities: Capabilities) -> Schedule:
    special: dict[str, Callable[[Node, Capabilities], Schedule | None]] = {
        "dot": dot.choose, "scatter": scatter.choose, "map": tiles.choose, "window": running.choose,
        "tile": lambda *given: bands.choose(*given) or tile.choose(*given),
    }  # fmt: skip
    kind = fusion.attributes["kind"]
    chosen = special[kind](fusion, capabilities) if kind in special else None
    return schedules.choose(fusion, capabilities) if chosen is None else chosen
