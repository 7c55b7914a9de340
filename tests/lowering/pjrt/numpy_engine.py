"""A double of device and compiler for the plugin's tests: NumPy walks over StableHLO, completion can be delayed.

`NumpyDevice` keeps the contract of `lowering.pjrt.engine`: buffers are byte arrays, every run takes one value of a
timeline, and with `delay_seconds` a thread reaches that value later, as a queue of a real device would.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jax.extend.mlir import deserialize_portable_artifact, ir
from jax.interpreters import mlir

from lowering import dtypes
from lowering.errors import DeviceMemoryError, UnsupportedError, message
from lowering.program import ArrayType


class NumpyBuffer:
    """Memory of the double; counts itself as live until it is freed."""

    def __init__(self, device: NumpyDevice, data: np.ndarray, ready: int) -> None:
        self.device, self.data, self.ready = device, data, ready
        self.address = data.ctypes.data
        self.nbytes = data.nbytes
        with device.lock:
            device.live += 1

    def __del__(self) -> None:
        with self.device.lock:
            self.device.live -= 1


class NumpyDevice:
    """The device double. `limit_bytes` bounds one allocation."""

    def __init__(self, delay_seconds: float = 0.0, limit_bytes: int = 1 << 32) -> None:
        self.delay_seconds, self.limit_bytes = delay_seconds, limit_bytes
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.live = self.reached = 0
        self.values = itertools.count(1)
        self.closed = False
        self.submitted: list[tuple[float, int]] = []
        self.callbacks: list[tuple[int, int, Callable[[object], None]]] = []
        if delay_seconds:
            threading.Thread(target=self._advance, daemon=True).start()

    def _advance(self) -> None:
        while True:
            with self.lock:
                while not self.submitted:
                    self.changed.wait()
                due, value = self.submitted.pop(0)
            time.sleep(max(0.0, due - time.perf_counter()))
            with self.lock:
                self.reached = value
                self.changed.notify_all()
                called = []
                while self.callbacks and self.callbacks[0][0] <= value:
                    called.append(heapq.heappop(self.callbacks)[2])
            for callback in called:
                callback(None)

    def submit(self) -> int:
        with self.lock:
            value = next(self.values)
            if self.delay_seconds:
                self.submitted.append((time.perf_counter() + self.delay_seconds, value))
                self.changed.notify_all()
            else:
                self.reached = value
            return value

    def allocate(self, nbytes: int) -> NumpyBuffer:
        if nbytes > self.limit_bytes:
            raise DeviceMemoryError(
                message(
                    "double: out of memory.", got=f"{nbytes} bytes", want=f"{self.limit_bytes}", fix="ask for less."
                )
            )
        return NumpyBuffer(self, np.empty(nbytes, np.uint8), 0)

    def upload(self, buffer: NumpyBuffer, source: np.ndarray) -> None:
        buffer.data[...] = np.ascontiguousarray(source).reshape(-1).view(np.uint8)

    def download(self, buffer: NumpyBuffer, target: np.ndarray) -> None:
        self.wait(buffer.ready)
        target[...] = buffer.data.view(target.dtype).reshape(target.shape)

    def is_done(self, value: int) -> bool:
        return value <= self.reached

    def when_done(self, value: int, callback: Callable[[object], None]) -> None:
        with self.lock:
            if value > self.reached:
                heapq.heappush(self.callbacks, (value, next(self.values), callback))
                return
        callback(None)

    def wait(self, value: int) -> None:
        with self.lock:
            while value > self.reached:
                self.changed.wait()

    def statistics(self) -> dict[str, int]:
        return {"live_bytes": 64 * self.live, "peak_live_bytes": 4096, "limit_bytes": self.limit_bytes}

    def close(self) -> None:
        self.closed = True


class NumpyExecutable:
    """A module of StableHLO that NumPy runs; `null` skips the arithmetic, to time the plugin alone."""

    def __init__(self, device: NumpyDevice, code: bytes, *, null: bool = False) -> None:
        self.device, self.null = device, null
        context = mlir.make_ir_context()
        with context:
            module = stablehlo_module(code)
            self.name = ir.StringAttr(module.operation.attributes["sym_name"]).value
            self.functions = {
                ir.StringAttr(item.operation.attributes["sym_name"]).value: item.operation
                for item in module.body.operations
                if "function_type" in item.operation.attributes
            }
            main = self.functions["main"]
            kind = ir.FunctionType(ir.TypeAttr(main.attributes["function_type"]).value)
            self.input_types = tuple(array_type(item) for item in kind.inputs)
            self.output_types = tuple(array_type(item) for item in kind.results)
            self.aliases = tuple(_aliases(main))
            self.main = Block(main.regions[0].blocks[0], self.functions)

    def run(self, buffers: Sequence[NumpyBuffer], donate: frozenset[int]) -> list[NumpyBuffer]:
        ready = self.device.submit()
        taken = {output: buffers[source] for source, output in self.aliases if source in donate}
        if self.null:
            results = [np.zeros(item.shape, dtypes.NUMPY[item.dtype]) for item in self.output_types]
        else:
            arguments = [_array(buffer, item) for buffer, item in zip(buffers, self.input_types, strict=True)]
            with np.errstate(all="ignore"):
                results = self.main.run(arguments)
        outputs = []
        for position, (result, item) in enumerate(zip(results, self.output_types, strict=True)):
            data = np.array(result, dtypes.NUMPY[item.dtype], order="C").reshape(-1).view(np.uint8)
            buffer = taken.get(position)
            if buffer is not None:
                buffer.data = None
            outputs.append(NumpyBuffer(self.device, data.copy(), ready))
        return outputs

    def cost(self) -> dict[str, float]:
        return {"flops": 12.0, "bytes accessed": 34.0, "temporary bytes": 56.0}


@dataclass(frozen=True)
class NumpyEngine:
    """Device double and interpreter."""

    device: NumpyDevice
    null: bool = False
    name: str = "NumPy double"
    version: str = "numpy double 1"
    is_open: bool = True
    attributes: Mapping[str, str | int] = field(default_factory=lambda: {"maker": "tests", "subgroup_size": 7})

    def compile(self, module: bytes) -> NumpyExecutable:
        return NumpyExecutable(self.device, module, null=self.null)


def open_engine(*, delay_seconds: float = 0.0, null: bool = False, limit_bytes: int = 1 << 32) -> NumpyEngine:
    """Return an engine on a new device double."""
    return NumpyEngine(NumpyDevice(delay_seconds, limit_bytes), null)


def stablehlo_module(code: bytes) -> ir.Module:
    """Read a portable artifact in the current context."""
    return deserialize_portable_artifact(code)


def array_type(kind: ir.Type) -> ArrayType:
    ranked = ir.RankedTensorType(kind)
    text = str(ranked.element_type)
    plain = {"i1": "bool", "complex<f32>": "c64", "complex<f64>": "c128"}.get(text, text.replace("ui", "u"))
    return ArrayType(plain, tuple(ranked.shape))


def _array(buffer: NumpyBuffer, kind: ArrayType) -> np.ndarray:
    return buffer.data.view(dtypes.NUMPY[kind.dtype]).reshape(kind.shape).copy()


def _aliases(main: ir.Operation) -> list[tuple[int, int]]:
    if "arg_attrs" not in main.attributes:
        return []
    found = []
    for position, attributes in enumerate(ir.ArrayAttr(main.attributes["arg_attrs"])):
        attributes = ir.DictAttr(attributes)
        if "tf.aliasing_output" in attributes:
            found.append((position, ir.IntegerAttr(attributes["tf.aliasing_output"]).value))
    return found


BINARY = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "compare": np.less,
    "select": np.where,
}
UNARY = {"tanh": np.tanh, "exponential": np.exp, "negate": np.negative, "sine": np.sin, "not": np.invert}
REDUCE = {"stablehlo.add": np.add, "stablehlo.maximum": np.maximum}


class Block:
    """One block as a list of (inputs, outputs, function) over numbered slots."""

    def __init__(self, block: ir.Block, functions: dict[str, ir.Operation]) -> None:
        self.functions = functions
        self.slots: dict[ir.Value, int] = {}
        self.captured: list[tuple[ir.Value, int]] = []
        self.arguments = [self.define(argument) for argument in block.arguments]
        self.steps = [self.lower(item.operation) for item in block.operations]

    def define(self, value: ir.Value) -> int:
        return self.slots.setdefault(value, len(self.slots))

    def use(self, value: ir.Value) -> int:
        if value not in self.slots:
            self.captured.append((value, self.define(value)))
        return self.slots[value]

    def run(self, values: Sequence[np.ndarray], captured: Sequence[np.ndarray] = ()) -> list[np.ndarray]:
        memory: dict[int, np.ndarray] = dict(zip(self.arguments, values, strict=True))
        memory |= {slot: value for (_, slot), value in zip(self.captured, captured, strict=True)}
        for inputs, outputs, function in self.steps[:-1]:
            results = function(*[memory[slot] for slot in inputs])
            memory.update(zip(outputs, results if isinstance(results, list) else [results], strict=True))
        return [memory[slot] for slot in self.steps[-1][0]]

    def lower(self, operation: ir.Operation) -> tuple[list[int], list[int], Callable | None]:
        inputs = [self.use(value) for value in operation.operands]
        name = operation.name.removeprefix("stablehlo.").removeprefix("func.")
        function = None
        if name == "while":
            inputs, function = self.lower_while(operation, inputs)
        elif name == "call":
            callee = self.functions[ir.FlatSymbolRefAttr(operation.attributes["callee"]).value]
            body = Block(callee.regions[0].blocks[0], self.functions)
            function = lambda *values: body.run(values)  # noqa: E731
        elif name != "return":
            function = lower_plain(name, operation)
        return inputs, [self.define(result) for result in operation.results], function

    def lower_while(self, operation: ir.Operation, inputs: list[int]) -> tuple[list[int], Callable]:
        condition, body = (Block(region.blocks[0], self.functions) for region in operation.regions)
        count, first = len(inputs), len(condition.captured)
        inputs = inputs + [self.use(value) for value, _ in condition.captured + body.captured]

        def loop(*values: np.ndarray) -> list[np.ndarray]:
            state, captured = list(values[:count]), values[count:]
            while bool(condition.run(state, captured[:first])[0]):
                state = body.run(state, captured[first:])
            return state

        return inputs, loop


def lower_plain(name: str, operation: ir.Operation) -> Callable:
    """Return the NumPy function of one operation without nested blocks."""
    if name in BINARY:
        return BINARY[name]
    if name in UNARY:
        return UNARY[name]
    if name in MAKERS:
        kind = array_type(operation.results[0].type)
        return MAKERS[name](operation.attributes, kind.shape, dtypes.NUMPY[kind.dtype], operation)
    raise UnsupportedError(
        message(
            "double: every operation must be supported.",
            got=f"{operation.name} at {operation.location}",
            want="an operation that the double knows",
            fix="use another operation.",
        )
    )


def _constant(attributes: Any, shape: tuple[int, ...], dtype: np.dtype, _: ir.Operation) -> Callable:
    value = np.array(ir.DenseElementsAttr(attributes["value"]), dtype).reshape(shape)
    return lambda: value


def _transpose(attributes: Any, *_: object) -> Callable:
    order = _ints(attributes["permutation"])
    return lambda x: x.transpose(order)


def _broadcast(attributes: Any, shape: tuple[int, ...], *_: object) -> Callable:
    axes = _ints(attributes["broadcast_dimensions"])
    added = tuple(i for i in range(len(shape)) if i not in axes)
    return lambda x: np.broadcast_to(np.expand_dims(x, added), shape)


def _iota(attributes: Any, shape: tuple[int, ...], dtype: np.dtype, _: ir.Operation) -> Callable:
    axis = ir.IntegerAttr(attributes["iota_dimension"]).value
    return lambda: np.indices(shape)[axis].astype(dtype)


def _reduce(attributes: Any, _: tuple[int, ...], dtype: np.dtype, operation: ir.Operation) -> Callable:
    axes = tuple(_ints(attributes["dimensions"]))
    function = REDUCE[next(iter(operation.regions[0].blocks[0].operations)).operation.name]
    return lambda x, first: function(function.reduce(x, axis=axes), first).astype(dtype)


MAKERS: dict[str, Callable[..., Callable]] = {
    "constant": _constant,
    "transpose": _transpose,
    "broadcast_in_dim": _broadcast,
    "iota": _iota,
    "reduce": _reduce,
    "convert": lambda _, __, dtype, ___: lambda x: x.astype(dtype),
    "reshape": lambda _, shape, *__: lambda x: x.reshape(shape),
    "dot_general": lambda _, __, dtype, ___: lambda x, y: (x @ y).astype(dtype),
    "sdy.sharding_constraint": lambda *_: lambda x: x,
}


def _ints(attribute: ir.Attribute) -> list[int]:
    return [int(item) for item in ir.DenseI64ArrayAttr(attribute)]
