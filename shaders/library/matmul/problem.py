"""What a matrix product computes and how its kernel reaches the operands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ...spirv import Buffer, Builder, Value
from ..complex import Number

Load = Callable[[Builder, Value, Value, Value], Number]
LoadVector = Callable[[Builder, Value, Value, Value], Value]
Store = Callable[[Builder, Value, Value, Value, Number], None]
StoreRun = Callable[[Builder, Value, Value, Value, Sequence[Value]], Callable[[], None]]
StoreWords = Callable[[Builder, Value, Value, Value, Value], None]
LoadWords = Callable[[Value, Value, Value, int], Value]


@dataclass(frozen=True, slots=True)
class MatmulProblem:
    """result[batch, row, column] = sum over depth of lhs[batch, row, depth] * rhs[batch, depth, column].

    `lhs` and `rhs` name the dtypes that the load callbacks stand for, `accumulator` the dtype of products and sums,
    `result` the dtype that the caller stores; every size is at least 1.
    """

    batch: int
    rows: int
    columns: int
    depth: int
    lhs: str
    rhs: str
    accumulator: str
    result: str

    @property
    def operations(self) -> int:
        """Count multiplications and additions."""
        return 2 * self.batch * self.rows * self.columns * self.depth


@dataclass(frozen=True, slots=True)
class Plain:
    """An operand that lies in memory as it is: element (batch, outer, depth) at start(batch) + outer and depth strides.

    Attributes:
        buffer: that holds it.
        start: from the batch to the first element, u32.
        outer: stride of the rows of a left operand, of the columns of a right one, in elements.
        depth: stride along depth, in elements.
        alignment: every start is a multiple of this many elements.
    """

    buffer: Buffer
    start: Callable[[Value], Value]
    outer: int
    depth: int
    alignment: int


@dataclass(frozen=True, slots=True)
class Pieces:
    """An operand that lies in memory piece by piece, each along the contiguous index, with any steps between them.

    Attributes:
        load: (batch, outer, depth, words) -> u32, or a vector of 2 or 4: what lies from that element on.
        run: elements of a piece; where the contiguous index is a multiple of a power of two that divides this, as many
            elements lie side by side, and the first at a multiple of their size.
    """

    load: LoadWords
    run: int


@dataclass(frozen=True, slots=True)
class MatmulAccess:
    """The callbacks through which a kernel loads operands and stores results; they emit code in place.

    Indices are u32 Values. Kernels only pass indices in range, but may load an element several times and in any order,
    so loads must be free of side effects. A load returns the element in its operand's dtype or in the accumulator's.
    `store` receives the accumulator's dtype, once for every element of the result.

    Attributes:
        load_lhs: (builder, batch, row, depth) -> element.
        load_rhs: (builder, batch, depth, column) -> element.
        store: (builder, batch, row, column, value).
        lhs_depth_contiguous: neighbours in depth are neighbours in memory (else neighbouring rows are).
        rhs_column_contiguous: neighbouring columns are neighbours in memory (else neighbours in depth are).
        lhs_vector: like `load_lhs`, but returns a vector of 4 elements that are consecutive along the contiguous index;
            the index there is a multiple of 4, and so must be the size of that axis. Real dtypes only.
        rhs_vector: the same for the right operand.
        store_run: (builder, batch, row, column, elements): like `store`, but for 4 or `longest_run` elements of
            consecutive columns, the first of which is a multiple of their number, and so must be the number of columns.
            Returns what writes the results, so that what several runs read is under way before the first one writes.
        longest_run: 4 or 8.
        is_short: what `store_run` does is a few instructions, worth writing out for each run.
        store_words: (builder, batch, row, column, u32x4): stores 16 bytes of consecutive results as they are to lie, in
            the dtype `result`; the column is a multiple of their count, and so must be the number of columns. Only
            where results are the sums, rounded.
        lhs_plain: where the left operand lies, if it is plain memory of fewer than 2^31 elements.
        rhs_plain: the same for the right operand.
        lhs_pieces: where the left operand lies, if it is plain in pieces.
        rhs_pieces: the same for the right operand.
    """

    load_lhs: Load
    load_rhs: Load
    store: Store
    lhs_depth_contiguous: bool = True
    rhs_column_contiguous: bool = True
    lhs_vector: LoadVector | None = None
    rhs_vector: LoadVector | None = None
    store_run: StoreRun | None = None
    longest_run: int = 4
    is_short: bool = False
    store_words: StoreWords | None = None
    lhs_plain: Plain | None = None
    rhs_plain: Plain | None = None
    lhs_pieces: Pieces | None = None
    rhs_pieces: Pieces | None = None


def transpose_problem(problem: MatmulProblem) -> MatmulProblem:
    """Return the problem of the transposed product: result^T = rhs^T lhs^T."""
    return replace(problem, rows=problem.columns, columns=problem.rows, lhs=problem.rhs, rhs=problem.lhs)


def transpose_access(access: MatmulAccess) -> MatmulAccess:
    """Return access to the same memory for `transpose_problem`."""

    def swap(load: Callable) -> Callable:
        return lambda builder, batch, first, second: load(builder, batch, second, first)

    return MatmulAccess(
        load_lhs=swap(access.load_rhs),
        load_rhs=swap(access.load_lhs),
        store=lambda builder, batch, row, column, value: access.store(builder, batch, column, row, value),
        lhs_depth_contiguous=not access.rhs_column_contiguous,
        rhs_column_contiguous=not access.lhs_depth_contiguous,
        lhs_vector=swap(access.rhs_vector) if access.rhs_vector else None,
        rhs_vector=swap(access.lhs_vector) if access.lhs_vector else None,
        lhs_plain=access.rhs_plain,
        rhs_plain=access.lhs_plain,
        lhs_pieces=access.rhs_pieces,
        rhs_pieces=access.lhs_pieces,
    )
