"""One head of attention, cut into tiles: what is known of it, what a kernel reads, what a tile of queries looks at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .call import Block
from .modify import Given, Modifier
from .near import Near
from .score import Planes, Score
from .storage import Storage, largest_divisor
from .target import Target
from .visits import Listed, Visits, list_visits

# Rows of a tile at most, by bytes of a number: the weights of a pair of tiles take half of 32 KiB, the shared memory
# that nearly every device gives a workgroup, or all of it for numbers of 2 bytes, which matrix units hold.
_ROWS = {2: 128, 4: 64, 8: 32}
# Keys of a tile, the least that pays and the most, by bytes of a number: where lanes multiply by themselves, their
# weights lie in shared memory beside keys and values.
_KEYS = {2: (64, 128), 4: (16, 32)}
# Keys and values of a tile, in numbers of 2 bytes: what passes through shared memory at a time.
STAGED = 16384
# Rows that matrix units take at a time: fewer queries of 16-bit numbers are padded.
_FEW = 16
# Numbers at most that a program carries through its loop, in each of its results.
_CARRIED = 16384
# Bytes of the tables of all entries of a batch that a loop takes at a time.
_TABLES = 1 << 22

DEFAULT_TILE = 2048
"""Keys scored at a time, at most, where nobody says."""


class Longest(NamedTuple):
    """How long the tiles of a loop are at most: products that large keep all cores busy.

    Attributes:
        queries: rows of a tile of queries.
        keys: of a tile of keys.
        hiding: of both, where some keys are hidden: longer tiles would be looked at in vain.
        bytes: of a table of scores.
    """

    queries: int
    keys: int
    hiding: int
    bytes: int


# Tiles of a short window are no shorter, for the same reason.
_SHORT = 128
_LOOP = Longest(queries=1024, keys=2048, hiding=512, bytes=1 << 23)

Derivatives = Literal["all", "reverse"]
Products = Literal["given", "half", "split"]
Window = tuple[int | None, int | None]


@dataclass(frozen=True)
class TilePlan:
    """What is known about a tiled attention before any array is.

    Attributes:
        score: the lift-inner-link score.
        tile: keys scored at a time, at most.
        is_causal: whether query i sees keys 0 to i only.
        derivatives: "all" modes and orders by loops, or the first ones in "reverse" mode by kernels.
        scale_moves: whether the scale has a derivative; a number of Python has none.
        window: how many keys before and after its own place a query sees; None for all.
        modifier: what is done to scores and weights; None for nothing.
        near: what stands for the modifier where a row's peak allows it.
        bound: a number that no score exceeds by much nor stays far below, where one is known.
        parts: programs that the keys of few queries are shared out to, at most.
        products: what products are made of: numbers as they are "given"; 16-bit ones that stand for wider ones, "half";
            or pairs of them that add up to the wider one, "split": rows of keys are (high, low, high), of planes
            (high, high, low), of values (high, low).
        page_rows: rows of a page, where keys and values lie in pages; None where they lie in order.
        sums_only: whether nobody looks at averages: they are zeros, and values are not read.
    """

    score: Score
    tile: int
    is_causal: bool
    derivatives: Derivatives = "all"
    scale_moves: bool = True
    window: Window = (None, None)
    modifier: Modifier | None = None
    near: Near | None = None
    bound: float | None = None
    parts: int = 32
    products: Products = "given"
    page_rows: int | None = None
    sums_only: bool = False

    @property
    def back(self) -> int | None:
        """How many keys before its own place a query sees."""
        return self.window[0]

    @property
    def ahead(self) -> int | None:
        """How many keys after its own place a query sees."""
        return 0 if self.is_causal else self.window[1]


def channels_of(plan: TilePlan, problem: Problem) -> int:
    """Return the channels of a result."""
    return problem.values.shape[1] // (2 if plan.products == "split" else 1)


class Span(NamedTuple):
    """Which keys each query may see at most, and by which queries each key may be seen, as intervals.

    The first and the third rise along their axis, the others fall.

    Attributes:
        first_key: the first key that a query sees.
        keys_after: how many keys from the end on a query does not see.
        first_query: the first query that sees a key.
        queries_after: how many queries from the end on do not see a key.
    """

    first_key: Int[Array, " queries"]
    keys_after: Int[Array, " queries"]
    first_query: Int[Array, " keys"]
    queries_after: Int[Array, " keys"]


class Problem(NamedTuple):
    """The arrays of one head: what a kernel reads.

    Attributes:
        planes: the queries; where a kernel reads them, lifted.
        keys: one row for each place looked at; all rows of all pages where there are pages.
        values: what each place holds, likewise.
        scale: inverse temperature, in the dtype that sums are taken in.
        mask: True where a query may see a key; None where every query may see every key.
        given: what the plan's modifier is given.
        span: intervals outside of which nobody sees anything; None where they are not known.
        visits: the pairs of tiles that are looked at, instead of all that may see each other; a kernel reads lists.
        storage: what stands between the rows as they are kept and keys and values.
    """

    planes: Planes
    keys: Float[Array, "keys width"]
    values: Float[Array, "keys channels"]
    scale: Float[Array, ""]
    mask: Bool[Array, "queries keys"] | None
    given: Given = Given()
    span: Span | None = None
    visits: Visits | Listed | None = None
    storage: Storage = Storage()

    @property
    def dtype(self) -> jnp.dtype:
        """Dtype that products are taken in, of averages as well; rows may be kept in a narrower one."""
        return self.planes[0].dtype


class Sizes(NamedTuple):
    """Lengths of a problem's axes and of the tiles they are cut into, and which arrays there are.

    A page has ``page_tiles`` tiles of keys; where there are none, rows lie in order. All pages have ``rows`` rows.
    """

    planes: int
    is_masked: bool
    queries: int
    keys: int
    width: int
    channels: int
    query_tile: int
    key_tile: int
    given: tuple[int, ...] = (0, 0, 0, 0, 0)
    has_span: bool = False
    is_modified: bool = False
    has_visits: bool = False
    has_reference: bool = False
    scales: tuple[int, int] = (0, 0)
    page_tiles: int = 0
    rows: int | None = None

    @property
    def stored_rows(self) -> int:
        """Rows of keys that a kernel is given."""
        return self.key_tiles * self.key_tile if self.rows is None else self.rows

    @property
    def query_tiles(self) -> int:
        """Tiles of queries, at least one."""
        return max(1, -(-self.queries // self.query_tile))

    @property
    def key_tiles(self) -> int:
        """Tiles of keys, at least one: a problem without keys has a tile of keys that do not exist."""
        return max(1, -(-self.keys // self.key_tile))


def program_rows(bytes_each: int, width: int, channels: int) -> int:
    """Return the rows of a program's tile, where there are enough, for numbers of this many bytes."""
    fitting = _ROWS.get(bytes_each, min(_ROWS.values()))
    while fitting > 1 and fitting * max(width, channels) > _CARRIED:
        fitting //= 2
    return fitting


def sizes_of(plan: TilePlan, problem: Problem, target: Target = Target.VULKAN) -> Sizes:
    """Cut a problem: tiles are as long as suits a target, and key tiles no longer than the plan says.

    With visits the tiles of both sides are as long as fits a workgroup, however few rows there are.
    """
    (queries, width), (rows, channels) = problem.planes[0].shape, problem.values.shape
    pages = problem.storage.pages
    keys = rows if pages is None or plan.page_rows is None else pages.shape[0] * plan.page_rows
    cut = _fit_workgroup if target is Target.VULKAN or problem.visits is not None else fit_loop
    query_tile, key_tile = cut(plan, problem, queries, keys)
    page_tiles = 0
    if plan.page_rows is not None:
        key_tile = largest_divisor(plan.page_rows, key_tile)
        page_tiles = plan.page_rows // key_tile
    present = len(problem.planes), problem.mask is not None
    # A block has at least one element; what an empty array lacks is padded with zeros.
    axes = queries, keys, max(1, width), max(1, channels), query_tile, key_tile
    given, visits = tuple(map(len, problem.given)), problem.visits
    is_referred = isinstance(visits, Listed) and visits.reference is not None
    has = problem.span is not None, plan.modifier is not None, visits is not None, is_referred
    scales = problem.storage.count_scales()
    return Sizes(*present, *axes, given, *has, scales, page_tiles, rows if page_tiles else None)


def _fit_workgroup(plan: TilePlan, problem: Problem, queries: int, keys: int) -> tuple[int, int]:
    """Return the rows of a tile of queries and of keys for a workgroup and its shared memory."""
    width, channels, bytes_each = problem.planes[0].shape[1], problem.values.shape[1], problem.dtype.itemsize
    fitting = program_rows(bytes_each, width // 3 if plan.products == "split" else width, channels_of(plan, problem))
    least = _FEW if bytes_each == 2 else 1
    query_tile, key_tile = max(least, min(fitting, queries)), max(1, min(fitting, plan.tile, keys))
    if problem.visits is not None:
        query_tile = key_tile = fitting
    elif query_tile == least > 1:
        # One subgroup has such a tile: it is waiting for memory all the time, and more of them wait at a time.
        key_tile = min(key_tile, _FEW)
    return query_tile, _fit_keys(plan.products, bytes_each, key_tile, width + channels)


def rounds_of(products: Products, bytes_each: int, width: int, channels: int, tile: int) -> int:
    """Return in how many rounds a program with lists sums a tile of keys, at most, for columns as they lie."""
    rows = program_rows(bytes_each, width // 3 if products == "split" else width, channels)
    keys = _fit_keys(products, bytes_each, rows, width + channels)
    # Of short rows of 16 bits some kernels take as few keys at a time as pay.
    return -(-tile // min(keys, _KEYS[2][0]))


def _fit_keys(products: Products, bytes_each: int, key_tile: int, columns: int) -> int:
    """Shorten a tile of keys until it fits, where rows of keys and of values have this many columns together."""
    # Rows of pairs are wide, and weights are held twice: they take more of the shared memory, in shorter tiles.
    (least, most), staged = _KEYS.get(bytes_each, (1, key_tile)), STAGED
    if products == "split":
        least, most, staged = 16, 64, 3 * STAGED // 2
    key_tile = min(key_tile, most)
    while key_tile > least and key_tile * columns * bytes_each > 2 * staged:
        key_tile //= 2
    return key_tile


def fit_loop(plan: TilePlan, problem: Problem, queries: int, keys: int, longest: Longest = _LOOP) -> tuple[int, int]:
    """Return the rows of a tile of queries and of keys for a loop; tiles of a side are as even as they can be."""
    query_rows, key_rows = longest[:2]
    if plan.ahead is not None or plan.back is not None or problem.span is not None:
        query_rows = key_rows = longest.hiding
    if plan.ahead is not None and plan.back is not None:
        query_rows = key_rows = min(longest.hiding, max(_SHORT, plan.ahead + plan.back))
    key_tile = _even(keys, min(key_rows, plan.tile))
    fitting = longest.bytes // problem.scale.dtype.itemsize // key_tile
    return _even(queries, max(1, min(query_rows, fitting))), key_tile


def _even(rows: int, longest: int) -> int:
    """Return the length of the shortest tiles that are as few as tiles of the longest."""
    return max(1, -(-rows // max(1, -(-rows // longest))))


def entries_at_once(problem: Problem) -> int:
    """Return how many entries of a batch a loop takes at a time: as many as have small tables together."""
    rows = max(1, problem.planes[0].shape[0]) * max(1, problem.keys.shape[0])
    return _TABLES // (rows * problem.scale.dtype.itemsize)


def is_steady(plan: TilePlan, problem: Problem) -> bool:
    """Tell whether sums of 16-bit rows are relative to a number that stays.

    That is a known bound, or the largest score of some tiles of keys, where every query sees a key of these.
    """
    is_led = problem.mask is None and all(each is None for each in problem.storage)
    return problem.dtype.itemsize == 2 and plan.products == "given" and (plan.bound is not None or is_led)


class Operand(NamedTuple):
    """An array that a kernel reads, with the block of it that belongs to a tile of queries and to a tile of keys."""

    array: Array
    by_query: Block
    by_key: Block


def list_operands(sizes: Sizes, problem: Problem) -> list[Operand]:
    """List what a kernel reads, in the order of a problem's fields."""
    queries, keys = sizes.query_tiles * sizes.query_tile, sizes.key_tiles * sizes.key_tile

    def of_query(array: Array, *columns: int) -> Operand:
        return Operand(array, tile_of(sizes.query_tile, *columns), whole(queries, *columns))

    def of_key(array: Array, *columns: int) -> Operand:
        return Operand(array, whole(keys, *columns), tile_of(sizes.key_tile, *columns))

    def of_row(array: Array, *columns: int) -> Operand:
        return Operand(array, whole(sizes.stored_rows, *columns), tile_of(sizes.key_tile, *columns))

    def repeated(operand: Operand) -> Operand:
        # What is made of zeros may have no derivative, and 0 times that is not 0.
        by_query, by_key = (replace(each, repeats=sizes.is_modified) for each in operand[1:])
        return Operand(operand.array, by_query, by_key)

    def of_pair(array: Array) -> Operand:
        return Operand(array, tile_of(sizes.query_tile, keys), Block((queries, sizes.key_tile), lambda j: (0, j)))

    def of_all(array: Array) -> Operand:
        return Operand(array, whole(*array.shape), whole(*array.shape))

    def of_list(array: Array) -> Operand:
        return Operand(array, *[tile_of(1, *array.shape[1:])] * 2)

    given, span = problem.given, problem.span or ()
    visits = [each for each in problem.visits if each is not None] if isinstance(problem.visits, Listed) else ()
    return [
        *(repeated(of_query(plane, sizes.width)) for plane in problem.planes),
        repeated(of_row(problem.keys, sizes.width)), of_row(problem.values, sizes.channels),
        of_all(problem.scale.reshape(1, 1)),
        *([] if problem.mask is None else [of_pair(problem.mask)]),
        *(of_all(each.reshape(1, 1)) for each in given.numbers),
        *(repeated(of_query(each, *each.shape[1:])) for each in given.by_query),
        *(repeated(of_key(each, *each.shape[1:])) for each in given.by_key),
        *(repeated(of_pair(each)) for each in given.by_pair), *map(of_all, given.tables),
        *(repeated(of_query(each)) for each in span[:2]), *(repeated(of_key(each)) for each in span[2:]),
        *map(of_list, visits), *map(of_row, problem.storage.scales), *map(of_all, problem.storage.tables),
    ]  # fmt: skip


def operands(problem: Problem) -> list[Array]:
    """List what a kernel is launched with."""
    sizes = Sizes(0, False, 0, 0, 1, 1, 1, 1)
    return [each.array for each in list_operands(sizes, problem)]


def by_query(sizes: Sizes, problem: Problem) -> list[Block]:
    """Cut the operands for a program that has one tile of queries and all keys."""
    return [each.by_query for each in list_operands(sizes, problem)]


def by_key(sizes: Sizes, problem: Problem) -> list[Block]:
    """Cut the operands for a program that has one tile of keys and all queries."""
    return [each.by_key for each in list_operands(sizes, problem)]


def with_lists(problem: Problem, *, by_key: bool = False) -> Problem:
    """List the visits of a problem, for a kernel with a program for each tile of queries, or of keys."""
    visits = problem.visits
    return problem._replace(visits=list_visits(visits, by_key=by_key)) if isinstance(visits, Visits) else problem


def split_refs(sizes: Sizes, refs: Sequence[Any]) -> tuple[Problem, Sequence[Any]]:
    """Tell the references to ``operands`` from those that come after them."""
    rest = list(refs)

    def take(count: int) -> tuple[Any, ...]:
        taken, rest[:] = tuple(rest[:count]), rest[count:]
        return taken

    planes, (keys, values, scale) = take(sizes.planes), take(3)
    (mask,) = take(1) if sizes.is_masked else (None,)
    given = Given(*map(take, sizes.given))
    span = Span(*take(4)) if sizes.has_span else None
    visits = Listed(*take(5 + sizes.has_reference)) if sizes.has_visits else None
    scales = [take(count) for count in sizes.scales]
    storage = Storage(*(each[0] if each else None for each in scales), *take(int(sizes.page_tiles > 0)))
    return Problem(planes, keys, values, scale, mask, given, span, visits, storage), rest


def tile_of(rows: int, *columns: int) -> Block:
    """Cut the first axis: program i has block i."""
    return Block((rows, *columns), lambda i: (i, *(0 for _ in columns)))


def whole(*shape: int) -> Block:
    """Give every program the whole array."""
    return Block(shape, lambda i: tuple(0 for _ in shape))
