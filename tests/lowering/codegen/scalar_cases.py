"""Every elementwise operation with every dtype that it takes, and what XLA makes of it on the CPU."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jax import lax

from lowering import dtypes
from lowering.codegen import scalar
from lowering.dtypes import COMPLEX, FLOATS, INTEGERS, NAMES, NUMPY
from lowering.runtime import Device
from shaders.spirv import Builder, Value
from tests.shaders.functions.elementwise import run_body

COUNT = 1024

# The operands of each kernel: three of the dtype and one bool.
X, Y, Z, CONDITION = range(4)


@dataclass(frozen=True)
class Call:
    """One operation on some of the four operands, its reference, and its tolerance in eps of the wanted size."""

    op: str
    reference: Callable[..., Any]
    operands: tuple[int, ...] = (X, Y)
    tolerance: float = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""

    @property
    def name(self) -> str:
        """What tests call it."""
        return self.label or self.op


def _away(x: Any) -> Any:
    return lax.round(x, lax.RoundingMethod.AWAY_FROM_ZERO)


def _even(x: Any) -> Any:
    return lax.round(x, lax.RoundingMethod.TO_NEAREST_EVEN)


def _clamp_pairs(low: Any, x: Any, high: Any) -> Any:
    # StableHLO orders complex numbers by pairs; XLA's own clamp on the CPU looks at real parts only.
    return lax.min(lax.max(low, x), high)


def _unary(tolerance: float, **functions: Callable[..., Any]) -> list[Call]:
    return [Call(op, function, (X,), tolerance) for op, function in functions.items()]


def _binary(tolerance: float, **functions: Callable[..., Any]) -> list[Call]:
    return [Call(op, function, (X, Y), tolerance) for op, function in functions.items()]


_SHARED = _binary(0, add=lax.add, multiply=lax.mul, maximum=lax.max, minimum=lax.min)
_BITWISE = [
    *_binary(0, xor=lax.bitwise_xor, **{"and": lax.bitwise_and, "or": lax.bitwise_or}),
    Call("not", lax.bitwise_not, (X,)),
]
_INTEGER = [
    *_SHARED,
    *_BITWISE,
    *_binary(0, subtract=lax.sub, divide=lax.div, remainder=lax.rem, shift_left=lax.shift_left),
    *_binary(0, shift_right_logical=lax.shift_right_logical, shift_right_arithmetic=lax.shift_right_arithmetic),
    *_unary(0, negate=lax.neg, sign=lax.sign, popcnt=lax.population_count, count_leading_zeros=lax.clz),
    Call("clamp", lax.clamp, (X, Y, Z)),
]
# XLA divides exactly, a device to 2.5 units; the transcendental functions of XLA err by a few units themselves.
_FLOAT = [
    *_SHARED,
    *_binary(0, subtract=lax.sub, remainder=lax.rem),
    *_binary(3, divide=lax.div),
    *_binary(8, power=lax.pow, atan2=lax.atan2),
    *_unary(0, negate=lax.neg, sign=lax.sign, abs=lax.abs, floor=lax.floor, ceil=lax.ceil, is_finite=lax.is_finite),
    *_unary(0, round_nearest_afz=_away, round_nearest_even=_even),
    *_unary(3, sqrt=lax.sqrt, rsqrt=lax.rsqrt, cbrt=lax.cbrt, sine=lax.sin, cosine=lax.cos, tan=lax.tan),
    *_unary(4, exponential=lax.exp, exponential_minus_one=lax.expm1, log=lax.log, logistic=lax.logistic, tanh=lax.tanh),
    # XLA's own loses up to 100 units in f64 where x is between -0.42 and -0.37.
    *_unary(128, log_plus_one=lax.log1p),
    Call("clamp", lax.clamp, (X, Y, Z)),
]
_COMPLEX = [
    *_binary(0, add=lax.add, subtract=lax.sub, maximum=lax.max, minimum=lax.min),
    *_binary(3, multiply=lax.mul, divide=lax.div),
    *_unary(0, negate=lax.neg, real=lax.real, imag=lax.imag),
    *_unary(3, abs=lax.abs, sign=lax.sign),
    Call("clamp", _clamp_pairs, (X, Y, Z)),
]
_DIRECTIONS = {"EQ": lax.eq, "NE": lax.ne, "LT": lax.lt, "LE": lax.le, "GT": lax.gt, "GE": lax.ge}


def calls(dtype: str) -> list[Call]:
    """Return every operation that takes the dtype."""
    select = Call("select", lambda c, x, y: lax.select(c, x, y), (CONDITION, X, Y))
    shared = [select, *_comparisons(dtype), *_conversions(dtype)]
    if dtype in FLOATS:
        return [*_FLOAT, *shared, *_precisions()]
    if dtype in COMPLEX:
        return [*_COMPLEX, *shared]
    if dtype == "bool":
        return [*_BITWISE, *shared, *_binary(0, maximum=lax.max, minimum=lax.min), Call("clamp", lax.clamp, (X, Y, Z))]
    absolute = [Call("abs", lax.abs, (X,))] if dtype in dtypes.SIGNED else []
    return [*_INTEGER, *absolute, *shared]


def _comparisons(dtype: str) -> list[Call]:
    directions = ("EQ", "NE") if dtype in COMPLEX else tuple(_DIRECTIONS)
    return [
        Call("compare", _DIRECTIONS[name], attributes={"direction": name, "total_order": False}, label=name)
        for name in directions
    ]


def _conversions(dtype: str) -> list[Call]:
    targets = [name for name in NUMPY if name != dtype]
    if dtype in COMPLEX:
        return [Call("convert", _complex_to(name), (X,), label=f"to {name}") for name in targets if name != "bool"]
    found = [Call("convert", _to(name), (X,), label=f"to {name}") for name in targets]
    numbers = INTEGERS | FLOATS
    width = dtypes.itemsize(dtype)
    same = [name for name in targets if dtype in numbers and name in numbers and dtypes.itemsize(name) == width]
    return found + [Call("bitcast_convert", _bits_as(name), (X,), label=f"bits as {name}") for name in same]


def _to(name: str) -> Callable[..., Any]:
    return lambda x: lax.convert_element_type(x, NUMPY[name])


def _complex_to(name: str) -> Callable[..., Any]:
    return lambda x: lax.convert_element_type(x if name in COMPLEX else lax.real(x), NUMPY[name])


def _bits_as(name: str) -> Callable[..., Any]:
    return lambda x: lax.bitcast_convert_type(x, NUMPY[name])


def _precisions() -> list[Call]:
    def reduced(exponent: int, mantissa: int) -> Call:
        attributes = {"exponent_bits": exponent, "mantissa_bits": mantissa}
        label = f"e{exponent}m{mantissa}"
        function = functools.partial(lax.reduce_precision, exponent_bits=exponent, mantissa_bits=mantissa)
        return Call("reduce_precision", function, (X,), 0, attributes, label)

    return [reduced(5, 2), reduced(5, 10), reduced(8, 7), reduced(4, 3), reduced(8, 23), reduced(11, 52), reduced(3, 0)]


def values(dtype: str, seed: int) -> np.ndarray:
    """Return special values, many of them repeated so that pairs of them occur, and random ones."""
    random = np.random.default_rng(seed)
    if dtype == "bool":
        return random.integers(0, 2, COUNT).astype(np.bool_)
    if dtype in COMPLEX:
        parts = [values(dtypes.real_part(dtype), seed + 10 * place) for place in (1, 2)]
        return np.stack(parts, -1).reshape(-1).view(NUMPY[dtype])
    if dtype in INTEGERS:
        limits = np.iinfo(NUMPY[dtype])
        special = [limits.min, limits.max, 0, 1, 2, 3, 7, 8, 31, 32, 63, 64, 100] + ([-1, -2, -8] if limits.min else [])
        bits = random.integers(0, 2**64, COUNT, np.uint64).astype(NUMPY[dtype])
        chosen = np.array(special, NUMPY[dtype])
    else:
        special = [0, 1, 0.5, 1.5, 2.5, 3, np.inf, np.nan, 127, 128, 255, 256, 129, 32767.5, 65519, 65520, 1e10, 1e30]
        special += [2147483520.0, 2147483648.0, 4294967296.0, 9.3e18, 1.9e19, 1e-6, 6e-8]
        with np.errstate(over="ignore"):
            chosen = np.array([*special, *(-number for number in special)]).astype(NUMPY[dtype])
            bits = (random.standard_normal(COUNT) * np.exp(random.uniform(-5, 8, COUNT))).astype(NUMPY[dtype])
    is_special = random.random(COUNT) < 0.5
    return np.where(is_special, random.choice(chosen, COUNT), bits)


def operands(dtype: str) -> list[np.ndarray]:
    """Return the four operands; the second equals the first in a third of the places."""
    x, y, z = (values(dtype, seed) for seed in range(3))
    y[: COUNT // 3] = x[: COUNT // 3]
    return [x, y, z, values("bool", 3)]


def references(chosen: Sequence[Call], inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return what XLA computes on the CPU, in one program; for f16 and bf16 by f32, rounded once."""
    dtype = inputs[0].dtype
    is_narrow = NAMES[dtype] in ("f16", "bf16")
    wide = [array.astype(np.float32) if is_narrow and array.dtype == dtype else array for array in inputs]

    def program(narrow: Sequence[jax.Array], widened: Sequence[jax.Array]) -> list[Any]:
        sources = [widened if call.tolerance else narrow for call in chosen]
        pairs = zip(chosen, sources, strict=True)
        return [call.reference(*(source[k] for k in call.operands)) for call, source in pairs]

    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]), np.errstate(over="ignore"):
        results = [np.asarray(result) for result in jax.jit(program)(inputs, wide)]
        return [
            result.astype(dtype) if is_narrow and call.tolerance else result
            for call, result in zip(chosen, results, strict=True)
        ]


def run_calls(
    device: Device, chosen: Sequence[Call], inputs: Sequence[np.ndarray], targets: Sequence[str]
) -> list[np.ndarray]:
    """Compute all calls in one kernel; `targets` are the dtypes of their results."""
    input_dtypes = [NAMES[array.dtype] for array in inputs]

    def body(b: Builder, index: Value) -> None:
        elements = [scalar.load(b, b.buffer(f"x{k}"), index, dtype) for k, dtype in enumerate(input_dtypes)]
        for place, (call, target) in enumerate(zip(chosen, targets, strict=True)):
            taken = [elements[k] for k in call.operands]
            taken_dtypes = [input_dtypes[k] for k in call.operands]
            result = scalar.emit(b, call.op, taken, taken_dtypes, target, call.attributes)
            scalar.store(b, b.buffer(f"y{place}"), index, result, target)

    parts = [array.view(NUMPY[dtypes.real_part(NAMES[array.dtype])]) for array in inputs]
    sizes = [(dtypes.real_part(target), COUNT * (2 if target in COMPLEX else 1)) for target in targets]
    results = run_body(device, body, parts, sizes, COUNT)
    return [result.view(NUMPY[target]) for result, target in zip(results, targets, strict=True)]
