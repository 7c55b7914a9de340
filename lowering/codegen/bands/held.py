"""Which tiles are held as matrices, and which products are only added to something."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...graph import Value
from ..tile.blocks import Block, Step
from ..tile.roles import is_elementwise
from .checks import INTEGERS, NARROW, UnfitError
from .follow import Follows
from .views import View

_FREE = ("constant", "iota")


@dataclass
class Uses:
    """Who reads what, and where.

    Attributes:
        cell: the cell.
        readers: the steps that read each value.
        whole: values that somebody needs as matrices.
        home: the block that each value is made in.
        handed: values that blocks hand on, or give out.
    """

    cell: Block
    readers: dict[Value, list[Step]] = field(default_factory=dict)
    whole: set[Value] = field(default_factory=set)
    home: dict[Value, Block] = field(default_factory=dict)
    handed: set[Value] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Walk the cell."""
        self.handed.update(self.cell.outputs)
        for step, block in self.cell.walk():
            self.home.update(dict.fromkeys(step.outputs, block))
            for inner in step.blocks:
                self.handed.update(inner.outputs)
                self.home.update(dict.fromkeys(inner.inputs, inner))
            takes_whole = step.op in ("while", "dot_general", "reduce", "dynamic_update_slice") or narrows(step)
            for value in step.inputs:
                self.readers.setdefault(value, []).append(step)
                # What is spread is held, but for places and truth values, which are made again where they are needed.
                is_spread = step.op == "broadcast_in_dim" and value.size > 1 and value.dtype in ("f32", *NARROW)
                if takes_whole or is_spread:
                    self.whole.add(value)
        self.whole |= self.handed

    def settled(self, follows: Follows, views: Mapping[Value, View]) -> set[Value]:
        """Return the tiles that are held as matrices; the others are computed where they are needed.

        Raises:
            UnfitError: one of them has a dtype that matrices do not have.
        """
        found: set[Value] = set()
        for step, block in self.cell.walk():
            made = step.op in ("dot_general", "reduce", "while") or narrows(step)
            carries = step.blocks[1].inputs if step.op == "while" else ()
            for value in (*step.outputs, *carries):
                if value in follows and (made or value in views or self._lasts(step, block, value)):
                    found.add(value)
                if value in found and value.dtype in NARROW and value not in views and _computes(step):
                    raise UnfitError("arithmetic of 16-bit numbers")
        for value in found:
            if value.dtype not in ("f32", *NARROW) and not (value.dtype in INTEGERS and value in views):
                raise UnfitError(f"a tile {value.text} that matrices cannot hold")
        return found

    def _lasts(self, step: Step, block: Block, value: Value) -> bool:
        """Tell whether a value of arithmetic is needed whole, by several steps or by another block."""
        if value in self.whole:
            return True
        readers = self.readers.get(value, [])
        often = len(readers) > 1 and step.op not in (*_FREE, "broadcast_in_dim", "reshape")
        away = any(self._block_of(reader) is not block for reader in readers) and step.op not in _FREE
        return (often or away) and value.dtype == "f32"

    def _block_of(self, step: Step) -> Block | None:
        return self.home.get(step.outputs[0]) if step.outputs else None

    def factors(self, values: set[Value]) -> frozenset[Value]:
        """Return those values that are nothing but first factors of products."""
        return frozenset(
            value
            for value in values
            if self.readers.get(value)
            and value not in self.handed
            and all(step.op == "dot_general" and value == step.inputs[0] for step in self.readers[value])
        )

    def added(self) -> dict[Value, Step]:
        """Return the products that one addition of the same block takes, and nobody else."""
        found: dict[Value, Step] = {}
        for step, block in self.cell.walk():
            readers = self.readers.get(step.outputs[0], []) if step.op == "dot_general" else []
            if len(readers) != 1 or readers[0].op != "add" or self._block_of(readers[0]) is not block:
                continue
            # Of two products that are added to each other, one is made first.
            if not any(other in found for other in readers[0].inputs):
                found[step.outputs[0]] = readers[0]
        return found


def held_as(value: Value) -> str:
    """Return the dtype of the matrix that holds a tile: integers are read only, and lie in it bit by bit."""
    return "f32" if value.dtype in INTEGERS else value.dtype


def _computes(step: Step) -> bool:
    return (is_elementwise(step) or step.op == "broadcast_in_dim") and not narrows(step) and step.op != "constant"


def narrows(step: Step) -> bool:
    """Tell whether a step rounds f32 to what matrix units take: a conversion of a whole matrix."""
    return step.op == "convert" and step.inputs[0].dtype == "f32" and step.outputs[0].dtype in NARROW
