"""What bands ask of a device's matrices, in one place: whole tiles, fragments of the units' own sizes, or registers.

`whole.Whole` answers where matrices may have any size (VK_NV_cooperative_matrix2), `fragments.Fragments` where all that
there is are products of the units' sizes (VK_KHR_cooperative_matrix), `lanes.Lanes` where there is no unit for a dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from shaders.spirv import Builder, MatrixType
from shaders.spirv import Value as Register
from shaders.spirv.buffers import Buffer

from ...graph import Value
from .. import scalar
from .copies import Copy
from .scalars import single


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """What a subgroup has of each tile.

    Attributes:
        high: its rows.
        thin: columns of a number for each row.
        first_row: its first row in the workgroup's tiles.
        subgroups: of a workgroup.
        lanes: of a subgroup.
        skips_nan: whether extrema may lose NaN.
    """

    high: int
    thin: int
    first_row: Register
    subgroups: int
    lanes: int
    skips_nan: bool


NEUTRAL = {"max": float("-inf"), "min": float("inf"), "add": 0.0}
"""What changes nothing in a reduction."""


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """A tile in fragments.

    Attributes:
        dtype: of the tile, as if it were one matrix.
        parts: rows of fragments. Those of a number for each row are one fragment wide, the number in every column.
        is_partial: the number of a row is the sum of what the fragment's row holds.
        is_late: the tile is a first factor whose parts are sums yet: the product that reads it makes it one.
    """

    dtype: MatrixType
    parts: tuple[tuple[Register, ...], ...]
    is_partial: bool = False
    is_late: bool = False


Rows: TypeAlias = Callable[[Register, int], tuple[tuple[Register, ...], ...]]
"""(a multiple of 16, 0 or 4 or 8 or 12) -> four steps of depth from their sum on, for each row of a lane."""


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """A first factor that lies in memory, where lanes read it.

    Attributes:
        dtype: of the tile.
        rows_at: reads it.
    """

    dtype: MatrixType
    rows_at: Rows


Tile: TypeAlias = Register | Pieces | Placed
"""A tile, or a number: what is held under a name, and what a loop carries."""

Element: TypeAlias = Callable[[dict[Value, Register], Register, Register], Register]
"""(elements by name, row in the workgroup's tile, column) -> the element that a function makes of them."""


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """What a function of elements is given.

    Attributes:
        name: of the function.
        tiles: of elements, all of the result's sizes.
        numbers: that are the same for all elements.
        first_row: of this subgroup, where the function asks for rows.
        asks_columns: whether it asks for columns.
    """

    name: str
    tiles: Mapping[Value, Tile]
    numbers: Mapping[Value, Register]
    first_row: Register | None
    asks_columns: bool


class Matrices(Protocol):
    """The operations on tiles; `dtype` is always that of a whole tile."""

    def filled(self, dtype: MatrixType, number: float) -> Tile:
        """Return a tile of one number."""
        ...

    def load(
        self, dtype: MatrixType, places: Buffer, start: Register, stride: int, *, column_major: bool, is_grouped: bool
    ) -> Tile:
        """Read a tile: rows, or columns if `column_major`, are `stride` elements apart, which may be none.

        `is_grouped`: whether rows begin at multiples of four elements.
        """
        ...

    def store(self, places: Buffer, start: Register, tile: Tile, stride: int, *, column_major: bool) -> None:
        """Write a tile."""
        ...

    def each_row(self, tile: Tile, write: Callable[[Register, Register], None]) -> None:
        """Call `write` (row of the subgroup, number) once for each row of a tile of a number for each row."""
        ...

    def convert(self, tile: Tile, dtype: MatrixType) -> Tile:
        """Return a tile as another dtype, or as a first factor."""
        ...

    def spread(self, tile: Tile, columns: int) -> Tile:
        """Return a number for each row in so many columns."""
        ...

    def partial(self, tile: Tile) -> Tile:
        """Return numbers for rows as partial sums, where matrices have them."""
        ...

    def joined(self, tile: Tile) -> Tile:
        """Return numbers for rows as they are: partial sums are added up."""
        ...

    def reduced(self, tile: Tile, dtype: MatrixType, kind: str, *, is_partial: bool) -> Tile:
        """Reduce rows; the result may stay a partial sum."""
        ...

    def combined(self, tile: Tile, kind: str, number: Register) -> Tile:
        """Combine every element with a number."""
        ...

    def product(self, left: Tile, copy: Copy, dtype: MatrixType, total: Tile, *, is_transposed: bool) -> Tile:
        """Return left @ right + total; the second factor of this type lies in shared memory."""
        ...

    def arithmetic(self, op: str, left: Tile, right: Tile) -> Tile:
        """Return the sum, difference, product or quotient of tiles."""
        ...

    def apply(self, dtype: MatrixType, given: Given, element: Element) -> Tile:
        """Return the tile of what a function makes of elements."""
        ...

    def loop(self, trips: int, first: Sequence[Tile], body: Callable[[list[Tile]], list[Tile]]) -> list[Tile]:
        """Run `body` so often; return what is carried last."""
        ...

    def while_loop(
        self, check: Callable[[list[Tile]], Register], body: Callable[[list[Tile]], list[Tile]], first: Sequence[Tile]
    ) -> list[Tile]:
        """Run `body` as long as `check` holds; return what is carried last."""
        ...


def combine(builder: Builder, kind: str, left: Register, right: Register, *, skips_nan: bool) -> Register:
    """Combine two numbers of a reduction."""
    if kind == "spread" or (skips_nan and kind == "max"):
        return builder.max(left, right)
    if skips_nan and kind == "min":
        return builder.min(left, right)
    op = {"max": "maximum", "min": "minimum"}.get(kind, kind)
    return single(scalar.emit(builder, op, [left, right], ["f32", "f32"], "f32", {}))


def arithmetic_of(op: str, left: Register, right: Register) -> Register:
    """Return the sum, difference, product or quotient of registers."""
    return {
        "add": left.__add__, "subtract": left.__sub__, "multiply": left.__mul__, "divide": left.__truediv__
    }[op](right)  # fmt: skip


def matrix_of(tile: Tile | Register) -> MatrixType:
    """Return the type of a tile."""
    assert isinstance(tile.dtype, MatrixType)
    return tile.dtype


def flat(tiles: Sequence[Tile]) -> list[Register]:
    """Return the registers of tiles and numbers."""
    found: list[Register] = []
    for tile in tiles:
        assert not isinstance(tile, Placed)
        found += [part for row in tile.parts for part in row] if isinstance(tile, Pieces) else [tile]
    return found


def formed(like: Sequence[Tile], registers: Sequence[Register]) -> list[Tile]:
    """Return registers in the form of tiles and numbers."""
    rest, found = iter(registers), list[Tile]()
    for tile in like:
        if isinstance(tile, Pieces):
            parts = tuple(tuple(next(rest) for _ in row) for row in tile.parts)
            found.append(Pieces(tile.dtype, parts, tile.is_partial))
        else:
            found.append(next(rest))
    return found


def loop_of_pieces(
    builder: Builder, trips: int, first: Sequence[Tile], body: Callable[[list[Tile]], list[Tile]]
) -> list[Tile]:
    """Run `body` so often, with what is carried in registers."""
    run = lambda registers: flat(body(formed(first, registers)))  # noqa: E731
    last = builder.loop(0, trips, 1, flat(first), lambda _, registers: run(registers), unroll=False)
    return formed(first, last)


def while_of_pieces(
    builder: Builder,
    check: Callable[[list[Tile]], Register],
    body: Callable[[list[Tile]], list[Tile]],
    first: Sequence[Tile],
) -> list[Tile]:
    """Run `body` as long as `check` holds, with what is carried in registers."""
    checked = lambda registers: check(formed(first, registers))  # noqa: E731
    run = lambda registers: flat(body(formed(first, registers)))  # noqa: E731
    return formed(first, builder.while_loop(checked, run, flat(first), unroll=False))


def arithmetic_of_pieces(op: str, left: Tile, right: Tile) -> Pieces:
    """Return the sum, difference, product or quotient of tiles, part by part."""
    assert isinstance(left, Pieces)
    assert isinstance(right, Pieces)
    parts = tuple(
        tuple(arithmetic_of(op, one, other) for one, other in zip(*rows, strict=True))
        for rows in zip(left.parts, right.parts, strict=True)
    )
    return Pieces(left.dtype, parts, is_partial=left.is_partial)
