"""Small kernels and programs of known meaning that the runtime's tests run."""

from __future__ import annotations

import itertools

import numpy as np

from lowering.program import ArrayType, Barrier, Dispatch, Program, Region, Repeat, Step, While
from lowering.runtime import Device
from shaders.kernel import Kernel, Parameter
from shaders.spirv import Builder

WIDTH = 64


def scale(count: int, factor: float = 2.0, term: float = 1.0, *, descriptors: bool = False) -> Kernel:
    """y[i] = x[i] * factor + term, one element an invocation."""
    parameters = (Parameter("x", "f32", "r"), Parameter("y", "f32", "w"))
    builder = Builder("scale", workgroup=(WIDTH, 1, 1), parameters=parameters, descriptors=descriptors)
    index = builder.global_id(0)

    def body() -> None:
        builder.buffer("y")[index] = builder.buffer("x")[index] * factor + term

    builder.when(index < count, body)
    return builder.finish()


def number(workgroup: int = WIDTH) -> Kernel:
    """y[i] = i, for as many elements as there are invocations."""
    builder = Builder("number", workgroup=(workgroup, 1, 1), parameters=(Parameter("y", "u32", "w"),))
    index = builder.global_id(0)
    builder.buffer("y")[index] = index
    return builder.finish()


def put(value: int, *, descriptors: bool = False) -> Kernel:
    """c[0] = value."""
    parameters = (Parameter("c", "i32", "w"),)
    builder = Builder("put", workgroup=(1, 1, 1), parameters=parameters, descriptors=descriptors)
    builder.buffer("c")[0] = builder.const("i32", value)
    return builder.finish()


def advance(step: int = 1, *, guarded: bool = False, descriptors: bool = False) -> Kernel:
    """c[0] += step."""
    parameters = (Parameter("c", "i32", "rw"),)
    options = {"guarded": guarded, "descriptors": descriptors}
    builder = Builder("advance", workgroup=(1, 1, 1), parameters=parameters, **options)
    counter = builder.buffer("c")
    counter[0] = counter[0] + step
    return builder.finish()


def below(limit: int, *, descriptors: bool = False) -> Kernel:
    """flag[0] = c[0] < limit, guarded."""
    parameters = (Parameter("c", "i32", "r"), Parameter("flag", "i32", "w"))
    builder = Builder("below", workgroup=(1, 1, 1), parameters=parameters, guarded=True, descriptors=descriptors)
    one, zero = builder.const("i32", 1), builder.const("i32", 0)
    builder.buffer("flag")[0] = builder.select(builder.buffer("c")[0] < limit, one, zero)
    return builder.finish()


def whole(space: str, index: int, nbytes: int, offset: int = 0) -> Region:
    """A region that names all of a buffer."""
    return Region(space, index, offset, nbytes)  # pyright: ignore[reportArgumentType]


def floats(*shape: int) -> ArrayType:
    """f32 of a shape."""
    return ArrayType("f32", shape)


def scale_program(count: int, **options: float) -> Program:
    """One input, one output, one dispatch."""
    kernel = scale(count, **options)  # pyright: ignore[reportArgumentType]
    arguments = (whole("input", 0, 4 * count), whole("output", 0, 4 * count))
    step = Dispatch(0, arguments, (-(-count // WIDTH), 1, 1), label="scale")
    return Program("scale", (kernel,), (step,), (floats(count),), (floats(count),), (), 0)


def chain_program(count: int, length: int, *, descriptors: bool = False) -> Program:
    """`length` dispatches of x * 2 + 1 through the arena, each after a barrier."""
    size = -(-4 * count // 256) * 256
    slots = [whole("input", 0, 4 * count)]
    slots += [whole("arena", 0, 4 * count, offset=size * (i % 2)) for i in range(length - 1)]
    slots.append(whole("output", 0, 4 * count))
    steps: list[Step] = []
    for source, target in itertools.pairwise(slots):
        steps += [Dispatch(0, (source, target), (-(-count // WIDTH), 1, 1)), Barrier()]
    kernel = scale(count, descriptors=descriptors)
    return Program("chain", (kernel,), tuple(steps[:-1]), (floats(count),), (floats(count),), (), 2 * size)


def counter_region() -> Region:
    """The i32 output that the counting programs count in."""
    return whole("output", 0, 4)


def repeat_program(count: int, inner: int = 0) -> Program:
    """Count to `count`, or to `count * inner` with a Repeat in a Repeat."""
    step: Step = Dispatch(1, (counter_region(),), (1, 1, 1))
    body: tuple[Step, ...] = (Repeat(inner, (step,)),) if inner else (step,)
    steps = (Dispatch(0, (counter_region(),), (1, 1, 1)), Barrier(), Repeat(count, body))
    return Program("repeat", (put(0), advance()), steps, (), (ArrayType("i32", ()),), (), 0)


def while_program(limit: int, step: int = 1, *, descriptors: bool = False) -> Program:
    """c = 0; while c < limit: c += step. The flag lies in the arena."""
    flag = whole("arena", 0, 4)
    guard = (flag, 1)
    condition = (Dispatch(2, (counter_region(), flag), (1, 1, 1), guard=guard),)
    body = (Dispatch(3, (counter_region(),), (1, 1, 1), guard=guard),)
    steps = (
        Dispatch(0, (counter_region(),), (1, 1, 1)),
        Dispatch(1, (flag,), (1, 1, 1)),
        Barrier(),
        While(condition, flag, body),
    )
    kernels = (
        put(0, descriptors=descriptors),
        put(1, descriptors=descriptors),
        below(limit, descriptors=descriptors),
        advance(step, guarded=True, descriptors=descriptors),
    )
    return Program("while", kernels, steps, (), (ArrayType("i32", ()),), (), 256)


def run_on(
    device: Device, program: Program, *arrays: np.ndarray, donate: frozenset[int] = frozenset()
) -> list[np.ndarray]:
    """Upload, run once and download."""
    loaded = device.load(program)
    inputs = []
    for array in arrays:
        buffer = device.allocate(array.nbytes)
        device.upload(buffer, array)
        inputs.append(buffer)
    outputs = loaded.run(inputs, donate)
    return [fetch(device, buffer, kind) for buffer, kind in zip(outputs, program.outputs, strict=True)]


def fetch(device: Device, buffer: object, kind: ArrayType) -> np.ndarray:
    """Download one output."""
    from lowering.dtypes import NUMPY

    result = np.empty(kind.shape, NUMPY[kind.dtype])
    device.download(buffer, result)  # pyright: ignore[reportArgumentType]
    return result
