"""Run what is written for one element over whole arrays, one invocation an element."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import ml_dtypes
import numpy as np

from lowering.codegen.kernels import float_controls
from lowering.program import ArrayType, Dispatch, Program, Region
from lowering.runtime import Device
from shaders.kernel import Kernel, Parameter
from shaders.spirv import Builder, Value, validate

WIDTH = 64
NUMPY: dict[str, np.dtype] = {
    "bool": np.dtype(np.bool_),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    **{f"f{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
    **{f"i{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"u{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
}
NAMES = {dtype: name for name, dtype in NUMPY.items()}


def run_body(
    device: Device,
    body: Callable[[Builder, Value], None],
    inputs: Sequence[np.ndarray],
    outputs: Sequence[tuple[str, int]],
    count: int,
) -> list[np.ndarray]:
    """Validate and run `body(builder, index)` for `count` elements; buffers are x0, x1, … and y0, y1, …

    Args:
        outputs: dtype and number of elements of each result.
    """
    input_dtypes, output_dtypes = [NAMES[array.dtype] for array in inputs], [dtype for dtype, _ in outputs]
    # What the compiler's kernels ask for: without it a driver may take it that there is neither infinity nor NaN.
    modes = float_controls({*input_dtypes, *output_dtypes}, device.capabilities)
    kernel = _kernel(body, input_dtypes, output_dtypes, count, modes)
    if validate.is_available():
        validate.validate(kernel.words)
    input_types = tuple(ArrayType(NAMES[array.dtype], array.shape) for array in inputs)
    output_types = tuple(ArrayType(dtype, (size,)) for dtype, size in outputs)
    results = [np.empty(size, NUMPY[dtype]) for dtype, size in outputs]
    regions = [
        *(Region("input", place, 0, array.nbytes) for place, array in enumerate(inputs)),
        *(Region("output", place, 0, result.nbytes) for place, result in enumerate(results)),
    ]
    step = Dispatch(0, tuple(regions), (-(-count // WIDTH), 1, 1))
    program = Program(kernel.name, (kernel,), (step,), input_types, output_types, (), 0)
    buffers = [device.allocate(array.nbytes) for array in inputs]
    for buffer, array in zip(buffers, inputs, strict=True):
        device.upload(buffer, array)
    loaded = device.load(program)
    returned = loaded.run(buffers, frozenset())
    for buffer, result in zip(returned, results, strict=True):
        device.download(buffer, result)
    for buffer in (*buffers, *returned):
        buffer.free()
    return results


def run_elementwise(
    device: Device,
    function: Callable[..., Value | Sequence[Value]],
    inputs: Sequence[np.ndarray],
    output_dtypes: Sequence[str],
) -> list[np.ndarray]:
    """Apply `function(builder, *elements)`, which returns one value for each output, to arrays of one length."""
    count = inputs[0].size

    def body(b: Builder, index: Value) -> None:
        results = function(b, *(b.buffer(f"x{place}")[index] for place in range(len(inputs))))
        for place, value in enumerate([results] if isinstance(results, Value) else results):
            b.buffer(f"y{place}")[index] = value

    return run_body(device, body, inputs, [(dtype, count) for dtype in output_dtypes], count)


def _kernel(
    body: Callable[[Builder, Value], None],
    input_dtypes: Sequence[str],
    output_dtypes: Sequence[str],
    count: int,
    modes: frozenset[str],
) -> Kernel:
    parameters = [
        *(Parameter(f"x{place}", dtype, "r") for place, dtype in enumerate(input_dtypes)),
        *(Parameter(f"y{place}", dtype, "w") for place, dtype in enumerate(output_dtypes)),
    ]
    builder = Builder("elementwise", workgroup=(WIDTH, 1, 1), parameters=parameters, float_controls=modes)
    index = builder.global_id(0)
    builder.when(index < count, lambda: body(builder, index))
    return builder.finish()
