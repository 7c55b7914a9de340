"""Arguments over each function's range, references in extended precision, and errors in units in the last place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lowering.runtime import Device
from shaders import functions

from .elementwise import NUMPY, run_elementwise

# x86 has 64 bits of mantissa here; elsewhere f64 has no finer reference.
EXTENDED = np.longdouble
HAS_EXTENDED = np.finfo(EXTENDED).nmant >= 63

INFINITE_ERROR = 1e30

_SPECIAL = {
    "f32": (3.4028235e38, 1.1754944e-38, 88.72283, 88.7229, 87.33654, 87.33655, 1e-30, 1e10, 1e20, 1e30, 6400.0),
    "f64": (1.7976931348623157e308, 2.2250738585072014e-308, 709.78, 709.79, 708.39, 708.4, 1e-300, 1e10, 1e100, 1e300),
}
_EVERYWHERE = (0.0, 1.0, 2.0, 3.0, 0.5, 0.25, 1 / 3, np.inf, np.nan, np.pi, np.pi / 2, np.pi / 4, np.sqrt(0.5))


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@dataclass(frozen=True)
class Case:
    """A function, its reference, and the largest error it may have, in units in the last place."""

    name: str
    reference: Callable[..., np.ndarray]
    bound: float
    arity: int = 1

    @property
    def function(self) -> Callable[..., Any]:
        """The function under test."""
        return getattr(functions, self.name)


CASES = (
    Case("exp", np.exp, 1.5),
    Case("expm1", np.expm1, 2.0),
    Case("log", np.log, 1.0),
    Case("log1p", np.log1p, 1.5),
    Case("logistic", _logistic, 3.0),
    Case("sin", np.sin, 2.5),
    Case("cos", np.cos, 2.5),
    Case("tan", np.tan, 4.0),
    # The quotient of an f32 division on a GPU may be off by 2.5 units: here (3.09 on an H100) and in atan2 (2.57).
    Case("tanh", np.tanh, 3.5),
    Case("cbrt", np.cbrt, 1.5),
    Case("rsqrt", lambda x: 1 / np.sqrt(x), 2.0),
    Case("atan2", np.arctan2, 3.0, 2),
    Case("power", np.power, 2.0, 2),
    Case("hypot", np.hypot, 2.5, 2),
)

# What Vulkan asks of exp2 of 0 to 1, and a rounding; f32 alone, where a driver keeps that.
EXP_BY_EXP2 = Case("exp_by_exp2", np.exp, 6.0)


def arguments(dtype: str, count: int, seed: int) -> np.ndarray:
    """Return special values, random bit patterns and dense ranges, in a random order; subnormals are flushed."""
    random = np.random.default_rng(seed)
    special = np.array([*_EVERYWHERE, *_SPECIAL[dtype]])
    bits = random.integers(0, 2 ** (32 if dtype == "f32" else 64), count, np.uint64)
    patterns = bits.astype(np.uint32).view(np.float32) if dtype == "f32" else bits.view(np.float64)
    spread = np.exp(random.uniform(-20, 20, count)) * random.choice([-1, 1], count)
    parts = [special, -special, spread, 1 + random.uniform(-0.5, 0.5, count), random.standard_normal(count) * 1e-3]
    parts += [random.uniform(-scale, scale, count) for scale in (1, 10, 100, 1e4)]
    # Just above the smallest normal number a device that flushes must not lose intermediate results.
    parts.append(random.uniform(-8, 8, count // 8) * float(np.finfo(NUMPY[dtype]).tiny))
    with np.errstate(all="ignore"):
        joined = np.concatenate([patterns, *(part.astype(NUMPY[dtype]) for part in parts)])
    return random.permutation(flush(joined))


def pairs(name: str, dtype: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of arguments: all pairs of special values, random ones, and for `power` results of every size."""
    special = np.array([*_EVERYWHERE, *_SPECIAL[dtype]]).astype(NUMPY[dtype])
    both = np.concatenate([special, -special])
    grid = np.meshgrid(both, both)
    x, y = arguments(dtype, count, 1), arguments(dtype, count, 2)
    columns = [(grid[0].ravel(), grid[1].ravel()), (x, y)]
    if name == "power":
        random = np.random.default_rng(3)
        limit = 88 if dtype == "f32" else 709
        for bases in (np.exp(random.uniform(-40, 40, count)), np.abs(1 + random.standard_normal(count) * 1e-3)):
            exponents = random.uniform(-limit, limit, count) / (np.log(bases) + 1e-9)
            columns.append((bases.astype(NUMPY[dtype]), exponents.astype(NUMPY[dtype])))
        whole = [random.integers(-20, 20, count).astype(NUMPY[dtype]) for _ in range(2)]
        columns.append((whole[0], whole[1]))
    return flush(np.concatenate([c[0] for c in columns])), flush(np.concatenate([c[1] for c in columns]))


def flush(x: np.ndarray) -> np.ndarray:
    """Return x with subnormal numbers made zero: a device may do so at any operand."""
    return np.where(np.abs(x) < np.finfo(x.dtype).tiny, np.copysign(x.dtype.type(0), x), x)


def errors(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Return |got - want| in units in the last place of the wanted value; infinite where a special value is wrong.

    Below the smallest normal number both zero and the exact result count as right.
    """
    limits = np.finfo(got.dtype)
    with np.errstate(all="ignore"):
        rounded = want.astype(got.dtype)
        exponent = np.frexp(np.where(np.isfinite(want) & (want != 0), want, 1))[1]
        exponent = np.maximum(exponent, limits.minexp + 1)
        unit = np.ldexp(EXTENDED(1), exponent - limits.nmant - 1)
        error = np.abs(got.astype(EXTENDED) - want) / unit
        is_special = ~np.isfinite(rounded) | ~np.isfinite(got)
        is_same = (rounded == got) | (np.isnan(rounded) & np.isnan(got))
        # The last numbers before overflow may round either way.
        is_edge = np.abs(want) >= EXTENDED(limits.max) * (1 - 4 * EXTENDED(limits.eps))
        is_edge &= np.abs(got) >= limits.max * (1 - 4 * limits.eps)
        error = np.where(is_special, np.where(is_same | is_edge, 0, INFINITE_ERROR), error)
        wrong_zero = (want == 0) & (got == 0) & (np.signbit(want) != np.signbit(got))
        error = np.where(wrong_zero, INFINITE_ERROR, error)
        is_flushed = (np.abs(want) < limits.tiny) & (np.abs(got) <= limits.tiny) & (want != 0)
    return np.where(is_flushed, 0, error).astype(np.float64)


@dataclass(frozen=True)
class Measurement:
    """The largest and the mean error of a function, where the largest is, and over how many arguments."""

    largest: float
    mean: float
    worst: tuple[float, ...]
    got: float
    want: float
    count: int


def measure(device: Device, case: Case, dtype: str, count: int) -> Measurement:
    """Run a function on the device over its arguments and compare it with the reference."""
    inputs = (arguments(dtype, count, 0),) if case.arity == 1 else pairs(case.name, dtype, count)
    (got,) = run_elementwise(device, case.function, inputs, [dtype])
    with np.errstate(all="ignore"):
        want = case.reference(*(array.astype(EXTENDED) for array in inputs))
    found = errors(got, want)
    at = int(found.argmax())
    worst = tuple(float(array[at]) for array in inputs)
    return Measurement(float(found[at]), float(found.mean()), worst, float(got[at]), float(want[at]), got.size)
