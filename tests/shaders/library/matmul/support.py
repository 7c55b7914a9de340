"""Products of plain matrices: kernels over three buffers, seeded operands, float64 truth and a way to run them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np

from lowering.program import ArrayType, Dispatch, Program, Region
from lowering.runtime import Device
from shaders import Kernel, Parameter
from shaders.capabilities import Capabilities
from shaders.library import matmul
from shaders.library.complex import Complex, Number, is_complex, map_parts, part_dtype
from shaders.library.matmul import MatmulAccess, MatmulProblem, MatmulTiles, Pieces, Plain
from shaders.library.matmul.problem import Store, StoreRun, StoreWords
from shaders.spirv import Buffer, Builder, Value
from shaders.spirv.dtypes import BITS, REGISTERS

NUMPY = {
    "f16": np.dtype(np.float16),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
    "i8": np.dtype(np.int8),
    "u8": np.dtype(np.uint8),
    "i32": np.dtype(np.int32),
    "u32": np.dtype(np.uint32),
    "i64": np.dtype(np.int64),
    "c64": np.dtype(np.complex64),
    "c128": np.dtype(np.complex128),
}
ACCUMULATORS = {"f16": "f32", "bf16": "f32", "i8": "i32", "u8": "u32"}


@dataclass(frozen=True)
class Case:
    """A product and how its operands lie: row-major unless turned, read by vectors of 4, or in pieces, if asked."""

    problem: MatmulProblem
    lhs_turned: bool = False
    rhs_turned: bool = False
    vectors: bool = False
    pieces: bool = False


def product(
    rows: int, columns: int, depth: int, dtype: str = "f32", *, batch: int = 1, result: str | None = None
) -> MatmulProblem:
    """Return the problem of a product of two matrices of one dtype."""
    accumulator = ACCUMULATORS.get(dtype, dtype)
    return MatmulProblem(batch, rows, columns, depth, dtype, dtype, accumulator, result or accumulator)


def registers(rows: int, columns: int, lanes: int, depth: int = 1) -> MatmulTiles:
    """Return tiles of the kernel without shared memory; the sizes are a lane's part."""
    return MatmulTiles("registers", rows, columns * lanes, depth, rows, columns, lanes, lanes)


def vector(rows: int, columns: int, lanes: int, subgroups: int = 1) -> MatmulTiles:
    """Return tiles of the kernel that reduces along depth; the sizes are a subgroup's part."""
    return MatmulTiles("vector", rows, columns * subgroups, 1, rows, columns, lanes * subgroups, lanes)


def slices(rows: int, columns: int, lanes: int, turns: int) -> MatmulTiles:
    """Return tiles of the kernel for few rows; `turns` invocations share a column."""
    return MatmulTiles("slices", rows, columns * lanes, 1, rows, columns, lanes * turns)


def tiled(tile: tuple[int, int, int], part: tuple[int, int]) -> MatmulTiles:
    """Return tiles of the kernel that stages operands in shared memory."""
    threads = (tile[0] // part[0]) * (tile[1] // part[1])
    return MatmulTiles("tiled", *tile, *part, threads)


def fragments(
    tile: tuple[int, int, int], part: tuple[int, int], lanes: int, fragment: tuple[int, int, int]
) -> MatmulTiles:
    """Return tiles of the kernel on matrix units."""
    threads = (tile[0] // part[0]) * (tile[1] // part[1]) * lanes
    return MatmulTiles("matrix", *tile, *part, threads, lanes, fragment)


def make_kernel(
    case: Case,
    tiles: MatmulTiles,
    *,
    epilogue: Callable[[Builder, Number], Number] | None = None,
    capabilities: Capabilities | None = None,
) -> Kernel:
    """Return the kernel of a case; `epilogue` is applied to each sum before it is stored."""
    sizes = case.problem
    names = zip("abc", (sizes.lhs, sizes.rhs, sizes.result), ("r", "r", "w"), strict=True)
    builder = Builder(
        f"matmul {tiles}",
        workgroup=matmul.workgroup(tiles),
        parameters=tuple(Parameter(name, part_dtype(dtype), access) for name, dtype, access in names),
        subgroup_size=matmul.subgroup_size(tiles),
    )
    matmul.emit(builder, sizes, tiles, _access(builder, case, epilogue), capabilities)
    return builder.finish()


def _access(builder: Builder, case: Case, epilogue: Callable[[Builder, Number], Number] | None) -> MatmulAccess:
    sizes = case.problem
    a, b, c = (builder.buffer(name) for name in "abc")

    def lhs_at(batch: Value, row: Value, depth: Value) -> Value:
        if case.lhs_turned:
            return (batch * sizes.depth + depth) * sizes.rows + row
        return (batch * sizes.rows + row) * sizes.depth + depth

    def rhs_at(batch: Value, depth: Value, column: Value) -> Value:
        if case.rhs_turned:
            return (batch * sizes.columns + column) * sizes.depth + depth
        return (batch * sizes.depth + depth) * sizes.columns + column

    store, store_run, store_words = _stores(case, c, epilogue)
    lhs_pieces, rhs_pieces = _pieces(case, (a, b), (lhs_at, rhs_at)) if case.pieces else (None, None)
    return MatmulAccess(
        load_lhs=lambda _, batch, row, depth: _read(a, lhs_at(batch, row, depth), sizes.lhs),
        load_rhs=lambda _, batch, depth, column: _read(b, rhs_at(batch, depth, column), sizes.rhs),
        lhs_depth_contiguous=not case.lhs_turned,
        rhs_column_contiguous=not case.rhs_turned,
        lhs_vector=(lambda _, batch, row, depth: a.load(lhs_at(batch, row, depth), 4)) if case.vectors else None,
        rhs_vector=(lambda _, batch, depth, column: b.load(rhs_at(batch, depth, column), 4)) if case.vectors else None,
        lhs_plain=_plain(a, sizes.rows, sizes.depth, is_turned=case.lhs_turned) if case.vectors else None,
        rhs_plain=_plain(b, sizes.columns, sizes.depth, is_turned=not case.rhs_turned) if case.vectors else None,
        store=store,
        store_run=store_run,
        store_words=store_words,
        lhs_pieces=lhs_pieces,
        rhs_pieces=rhs_pieces,
    )


def _stores(
    case: Case, c: Buffer, epilogue: Callable[[Builder, Number], Number] | None
) -> tuple[Store, StoreRun | None, StoreWords | None]:
    """Return the stores of a case: one by one, four at a time, and by 16 bytes where no epilogue looks at the sums."""
    builder, sizes = c.builder, case.problem

    def result_at(slot: Value, row: Value, column: Value) -> Value:
        return (slot * sizes.rows + row) * sizes.columns + column

    def store(_: Builder, slot: Value, row: Value, column: Value, value: Number) -> None:
        value = epilogue(builder, value) if epilogue is not None else value
        register = part_dtype(sizes.result)
        value = map_parts(lambda part: builder.convert(part, REGISTERS.get(register, register)), value)
        _write(c, result_at(slot, row, column), value)

    def store_run(_: Builder, slot: Value, row: Value, column: Value, elements: Sequence[Value]) -> Callable[[], None]:
        place = result_at(slot, row, column)
        vector = builder.convert(builder.vector(elements), REGISTERS.get(sizes.result, sizes.result))
        return lambda: c.store(place, vector)

    def store_words(_: Builder, slot: Value, row: Value, column: Value, words: Value) -> None:
        c.store_words(builder.divide_exactly(result_at(slot, row, column), 128 // BITS[sizes.result]), words)

    is_whole = case.vectors and epilogue is None and sizes.columns % 8 == 0
    return store, store_run if case.vectors else None, store_words if is_whole else None


def _pieces(
    case: Case, buffers: tuple[Buffer, Buffer], places: tuple[Callable[..., Value], Callable[..., Value]]
) -> tuple[Pieces, Pieces]:
    """Describe dense operands by their lines alone."""
    sizes, (a, b), (lhs_at, rhs_at) = case.problem, buffers, places

    def lhs_words(batch: Value, row: Value, depth: Value, words: int) -> Value:
        return a.load_words(lhs_at(batch, row, depth) // (words * 32 // BITS[sizes.lhs]), words)

    def rhs_words(batch: Value, column: Value, depth: Value, words: int) -> Value:
        return b.load_words(rhs_at(batch, depth, column) // (words * 32 // BITS[sizes.rhs]), words)

    lhs = Pieces(lhs_words, sizes.rows if case.lhs_turned else sizes.depth)
    return lhs, Pieces(rhs_words, sizes.depth if case.rhs_turned else sizes.columns)


def _plain(buffer: Buffer, outer: int, depth: int, *, is_turned: bool) -> Plain:
    """Describe a dense operand: lines along depth, or along the outer axis if turned."""
    strides = (1, outer) if is_turned else (depth, 1)
    return Plain(buffer, lambda batch: batch * (outer * depth), *strides, alignment=outer * depth)


def _read(buffer: Buffer, index: Value, dtype: str) -> Number:
    if not is_complex(dtype):
        return buffer[index]
    return Complex(buffer[index * 2], buffer[index * 2 + 1])


def _write(buffer: Buffer, index: Value, value: Number) -> None:
    if isinstance(value, Complex):
        buffer[index * 2], buffer[index * 2 + 1] = value.re, value.im
    else:
        buffer[index] = value


def make_operands(problem: MatmulProblem, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return seeded operands: small integers, or normally distributed numbers."""
    generator = np.random.default_rng(seed)

    def draw(shape: tuple[int, ...], name: str) -> np.ndarray:
        dtype = NUMPY[name]
        if dtype.kind in "iu":
            return generator.integers(0 if dtype.kind == "u" else -9, 10, shape).astype(dtype)
        real = generator.standard_normal(shape)
        return (real + 1j * generator.standard_normal(shape) if dtype.kind == "c" else real).astype(dtype)

    lhs = draw((problem.batch, problem.rows, problem.depth), problem.lhs)
    return lhs, draw((problem.batch, problem.depth, problem.columns), problem.rhs)


def run(
    device: Device, case: Case, tiles: MatmulTiles, operands: tuple[np.ndarray, np.ndarray], kernel: Kernel
) -> np.ndarray:
    """Run a kernel; return slots x rows x columns, where a slot is one batch or one part of its depth."""
    sizes = case.problem
    laid = [
        np.ascontiguousarray(operand.swapaxes(1, 2) if turned else operand)
        for operand, turned in zip(operands, (case.lhs_turned, case.rhs_turned), strict=True)
    ]
    target = np.zeros((sizes.batch * tiles.splits, sizes.rows, sizes.columns), NUMPY[sizes.result])
    regions = tuple(Region("input", i, 0, array.nbytes) for i, array in enumerate(laid))
    program = Program(
        name="matmul",
        kernels=(kernel,),
        steps=(Dispatch(0, (*regions, Region("output", 0, 0, target.nbytes)), matmul.groups(sizes, tiles)),),
        inputs=tuple(ArrayType(name, x.shape) for name, x in zip((sizes.lhs, sizes.rhs), laid, strict=True)),
        outputs=(ArrayType(sizes.result, target.shape),),
        constants=(),
        arena_bytes=0,
    )
    loaded = device.load(program)
    buffers = [device.allocate(array.nbytes) for array in laid]
    for buffer, array in zip(buffers, laid, strict=True):
        device.upload(buffer, array)
    outputs = loaded.run(buffers)
    device.download(outputs[0], target)
    for buffer in (*buffers, *outputs):
        buffer.free()
    loaded.close()
    return target


def check(device: Device, case: Case, tiles: MatmulTiles) -> None:
    """Run a case with a schedule that fits the device and compare the result with float64."""
    operands = make_operands(case.problem)
    got = run(device, case, tiles, operands, make_kernel(case, tiles, capabilities=device.capabilities))
    check_product(got, case, tiles, operands)


def check_product(slots: np.ndarray, case: Case, tiles: MatmulTiles, operands: tuple[np.ndarray, np.ndarray]) -> None:
    """Compare what `run` returned with float64: |error| <= eps sqrt(depth) |lhs| |rhs|, and the result's rounding."""
    sizes, (lhs, rhs) = case.problem, operands
    wide = np.complex128 if lhs.dtype.kind == "c" else np.float64
    got = slots.astype(wide).reshape(sizes.batch, tiles.splits, sizes.rows, sizes.columns).sum(1)
    want = lhs.astype(wide) @ rhs.astype(wide)
    scale = np.abs(lhs.astype(wide)) @ np.abs(rhs.astype(wide))
    limit = _eps(sizes.accumulator) * np.sqrt(sizes.depth) * scale + _eps(sizes.result) * np.abs(want)
    error = np.abs(got - want)
    worst = np.unravel_index(np.argmax(error - limit), want.shape)
    assert (error <= limit).all(), f"at {worst}: got {got[worst]}, want {want[worst]} +- {limit[worst]}"


def _eps(dtype: str) -> float:
    return 0.0 if NUMPY[dtype].kind in "iu" else float(ml_dtypes.finfo(NUMPY[dtype]).eps)
