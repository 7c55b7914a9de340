"""A loop in bands: what each round works on is on its way while the round before is at work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from shaders.spirv import MatrixType
from shaders.spirv import Value as Register

from ...graph import Value
from ..tile.blocks import Step
from .matrices import Tile

if TYPE_CHECKING:
    from .emit import Emitter


class Loop:
    """Writes one loop.

    Carried are the tiles and numbers that rounds hand on and, beside them, this invocation's share of what the next
    round reads: a round puts its own share into shared memory, asks for the next, and works. Where lanes hold tiles
    themselves they have no registers left for that: a round brings its own, and other workgroups work meanwhile.
    """

    def __init__(self, emitter: Emitter, step: Step) -> None:
        self.emitter = emitter
        self.step = step
        self.condition, self.body = step.blocks
        bands = emitter.bands
        self.carried = [place for place, value in enumerate(self.body.inputs) if value not in bands.memory.arrays]
        self.taken = [each.outputs[0] for each in self.body.steps if each.outputs and each.outputs[0] in bands.staged]
        self.copies = [emitter.copy_of(value) for value in self.taken]

    def write(self) -> list[Tile]:
        """Write the loop; return what is carried last, shares after it."""
        emitter, step = self.emitter, self.step
        starts = [emitter.carry(step.inputs[place], self.body.inputs[place]) for place in self.carried]
        trips = step.node.attributes["trip_count"]
        first = [*starts, *([] if emitter.waits else self._ask_first(starts))]
        if trips is None:
            return emitter.matrices.while_loop(self._check, self._advance, first)
        # Counted rounds: the loop's own condition may have been folded away.
        return emitter.matrices.loop(trips, first, self._advance)

    def _check(self, values: list[Tile]) -> Register:
        scalars = self.emitter.scalars
        return scalars.at(self.condition.outputs[0], dict(scalars.known) | dict(self._numbers(values)))

    def _advance(self, values: list[Tile]) -> list[Tile]:
        emitter, scalars = self.emitter, self.emitter.scalars
        outer = dict(emitter.held), dict(emitter.spread), dict(scalars.known)
        copied = dict(emitter.copies)
        for place, register in zip(self.carried, values, strict=False):
            emitter.bind(self.body.inputs[place], register)
        if emitter.waits:
            shares = []
            self._bring(dict(scalars.known))
        else:
            self._put([share for share in values[len(self.carried) :] if isinstance(share, Register)])
            following = [emitter.scalars.at(self.body.outputs[place]) for place in self._places()]
            names = [self.body.inputs[place] for place in self._places()]
            shares = self._ask(outer[2] | dict(zip(names, following, strict=True)))
        emitter.block(self.body)
        results = [emitter.carry(self.body.outputs[place], self.body.inputs[place]) for place in self.carried]
        emitter.held, emitter.spread, scalars.known = outer
        # What a round has copied by itself is there for no other: the loop may not run.
        emitter.free.extend(copy.memory for value, copy in emitter.copies.items() if value not in copied)
        emitter.copies = copied
        return [*results, *(register for share in shares for register in share)]

    def _places(self) -> list[int]:
        """Return which carried values are numbers."""
        return [place for place in self.carried if self.body.inputs[place].size == 1]

    def _numbers(self, tiles: Sequence[Tile]) -> Iterator[tuple[Value, Register]]:
        """Yield the carried numbers by name."""
        for place, tile in zip(self.carried, tiles, strict=False):
            if isinstance(tile, Register) and not isinstance(tile.dtype, MatrixType):
                yield self.body.inputs[place], tile

    def _ask(self, known: dict[Value, Register]) -> list[list[Register]]:
        """Read this invocation's share of each window, at the places that the known numbers lead to."""
        arrays = self.emitter.arrays
        return [copy.load(self.emitter.scalars, arrays[copy.view.number], known) for copy in self.copies]

    def _ask_first(self, starts: list[Tile]) -> list[Register]:
        """Read what the first round reads; nobody waits for that where a loop from a number of its own on has no round.

        A loop from a known number on has rounds in nearly every program, and is not asked.
        """
        builder, numbers = self.emitter.builder, dict(self._numbers(starts))

        def ask() -> list[Register]:
            return [word for share in self._ask(dict(self.emitter.scalars.known) | numbers) for word in share]

        def zeros() -> list[Register]:
            each = [builder.const(("u32", copy.words) if copy.words > 1 else "u32", 0) for copy in self.copies]
            return [zero for zero, copy in zip(each, self.copies, strict=True) for _ in range(copy.share)]

        is_sure = self.step.node.attributes["trip_count"] is not None
        if is_sure or not self.copies or any(number.constant is not None for number in numbers.values()):
            return ask()
        return builder.branch(self._check(starts), ask, zeros)

    def _put(self, held: Sequence[Register]) -> None:
        """Put the shares that a round has been handed into shared memory."""
        if not self.copies:
            return
        builder, rest = self.emitter.builder, list(held)
        builder.barrier()
        for copy in self.copies:
            copy.store(builder, rest[: copy.share])
            rest = rest[copy.share :]
        builder.barrier()

    def _bring(self, known: dict[Value, Register]) -> None:
        """Copy the windows of this round while everybody waits, one after another: no register lasts."""
        if not self.copies:
            return
        builder, emitter = self.emitter.builder, self.emitter
        builder.barrier()
        for copy in self.copies:
            copy.store(builder, copy.load(emitter.scalars, emitter.arrays[copy.view.number], known))
        builder.barrier()
