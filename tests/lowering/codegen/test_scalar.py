"""Each operation of each dtype means on the device what XLA means by it on the CPU."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import ml_dtypes
import numpy as np
import pytest

from lowering import dtypes
from lowering.codegen import scalar
from lowering.dtypes import COMPLEX, NAMES, NUMPY
from lowering.errors import GraphError
from lowering.runtime import Device
from shaders.functions.formats import format_of
from shaders.kernel import Parameter
from shaders.library.complex import Complex
from shaders.spirv import Builder, Value
from tests.shaders.functions.elementwise import run_elementwise

from .scalar_cases import COUNT, Call, calls, operands, references, run_calls, values

CASES = [(dtype, call.name) for dtype in NUMPY for call in calls(dtype)]


class Result(NamedTuple):
    """One operation: what the device and what XLA computed from the operands."""

    call: Call
    got: np.ndarray
    want: np.ndarray


Results = Callable[[str], dict[str, Result]]


@pytest.fixture(scope="module")
def results(device: Device) -> Results:
    """Return a function from a dtype to the results of all its operations, from one kernel."""

    @functools.cache
    def compute(dtype: str) -> dict[str, Result]:
        chosen, inputs = calls(dtype), operands(dtype)
        wanted = references(chosen, inputs)
        if not device.capabilities.has_f64:
            kept = [place for place, want in enumerate(wanted) if NAMES[want.dtype] not in ("f64", "c128")]
            chosen, wanted = [chosen[place] for place in kept], [wanted[place] for place in kept]
        got = run_calls(device, chosen, inputs, [NAMES[want.dtype] for want in wanted])
        return {call.name: Result(call, *pair) for call, *pair in zip(chosen, got, wanted, strict=True)}

    return compute


@pytest.mark.parametrize(("dtype", "name"), CASES, ids=lambda part: part)
def test_operation_means_what_xla_means(device: Device, results: Results, dtype: str, name: str) -> None:
    if not device.capabilities.has_f64 and {dtype, name.split()[-1]} & {"f64", "c128"}:
        pytest.skip("the device has no f64, or none that works")
    call, got, want = results(dtype)[name]
    inputs = operands(dtype)
    wrong = ~agrees(got, want, call.tolerance)
    shown = [tuple(inputs[place][at] for place in call.operands) for at in np.flatnonzero(wrong)[:3]]
    assert not wrong.any(), f"{wrong.sum()} of {COUNT}: {shown} gives {got[wrong][:3]}, not {want[wrong][:3]}"


def agrees(got: np.ndarray, want: np.ndarray, tolerance: float) -> np.ndarray:
    """Tell where elements are equal to a multiple of eps of their size; NaN equals NaN, and tiny numbers zero."""
    if got.dtype.kind in "biu":
        return got == want
    part = NUMPY[dtypes.real_part(NAMES[got.dtype])]
    limits = _limits(part)
    with np.errstate(invalid="ignore", over="ignore"):
        left, right = (array.view(part).astype(np.float64).reshape(COUNT, -1) for array in (got, want))
        size = np.max(np.abs(np.where(np.isfinite(right), right, 0)), axis=1, keepdims=True)
        is_close = np.abs(left - right) <= tolerance * limits[0] * np.maximum(size, limits[1])
        is_tiny = (np.abs(left) <= limits[1]) & (np.abs(right) <= limits[1])
        return (is_close | is_tiny | (left == right) | (np.isnan(left) & np.isnan(right))).all(axis=1)


def _limits(dtype: np.dtype) -> tuple[float, float]:
    """Return eps and the smallest normal number."""
    found = ml_dtypes.finfo(dtype)
    return float(found.eps), float(found.tiny)


def test_agreement_sees_one_wrong_bit() -> None:
    want = np.full(COUNT, 1, np.float32)
    got = want.copy()
    got[3] = np.nextafter(np.float32(1), np.float32(2))
    assert np.flatnonzero(~agrees(got, want, 0)).tolist() == [3]


def test_zeros_keep_the_sign_that_xla_gives_them(device: Device) -> None:
    zeros = np.array([0.0, -0.0, 0.0, -0.0], np.float32)
    others = np.array([-0.0, 0.0, 0.0, -0.0], np.float32)

    def body(b: Builder, x: Value, y: Value) -> list[Value]:
        results = [scalar.emit(b, op, [x, y], ["f32", "f32"], "f32", {}) for op in ("maximum", "minimum")]
        return [result for result in results if isinstance(result, Value)]

    larger, smaller = run_elementwise(device, body, [zeros, others], ["f32", "f32"])
    assert np.signbit(larger).tolist() == [False, False, False, True]
    assert np.signbit(smaller).tolist() == [True, True, False, True]


SPECIAL = np.array([0.0, -0.0, 1.5, -1.5, np.inf, -np.inf, np.nan, np.copysign(np.float32(np.nan), -1)], np.float32)


@pytest.mark.parametrize("is_maximum", [True, False])
def test_extremum_of_several_is_that_of_one_after_another(device: Device, is_maximum: bool) -> None:
    """Every triple of zeros, numbers, infinities and NaN of both signs, beside random numbers."""
    triples = np.stack([axis.reshape(-1) for axis in np.meshgrid(SPECIAL, SPECIAL, SPECIAL)])
    arrays = list(np.concatenate([triples, np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)], 1))

    def body(b: Builder, *values: Value) -> list[Value]:
        one_by_one = values[0]
        for value in values[1:]:
            result = scalar.combine(b, "max" if is_maximum else "min", "f32", one_by_one, value)
            assert isinstance(result, Value)
            one_by_one = result
        return [scalar.extremum(b, values, is_maximum=is_maximum), one_by_one]

    got, want = run_elementwise(device, body, arrays, ["f32", "f32"])
    assert ((got.view(np.uint32) == want.view(np.uint32)) | (np.isnan(got) & np.isnan(want))).all()
    assert np.isnan(got).sum() == np.isnan(np.stack(arrays)).any(0).sum()


def test_total_order_ranks_zeros_and_nans(device: Device) -> None:
    ranked = np.array([-np.nan, -np.inf, -1, -0.0, 0.0, 1, np.inf, np.nan], np.float32)
    ranked[0] = np.copysign(np.float32(np.nan), np.float32(-1))
    attributes = {"direction": "LT", "total_order": True}

    def body(b: Builder, x: Value, y: Value) -> Value:
        result = scalar.emit(b, "compare", [x, y], ["f32", "f32"], "bool", attributes)
        assert isinstance(result, Value)
        return result

    (is_less,) = run_elementwise(device, body, [ranked[:-1], ranked[1:]], ["bool"])
    assert is_less.all()
    (is_less,) = run_elementwise(device, body, [ranked[1:], ranked[:-1]], ["bool"])
    assert not is_less.any()


@pytest.mark.parametrize("kind", ["add", "mul", "max", "min"])
def test_combine_is_the_operation_of_that_kind(device: Device, kind: str) -> None:
    x, y = values("i32", 0), values("i32", 1)

    def body(b: Builder, left: Value, right: Value) -> Value:
        result = scalar.combine(b, kind, "i32", left, right)
        assert isinstance(result, Value)
        return result

    (got,) = run_elementwise(device, body, [x, y], ["i32"])
    want = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}[kind](x, y)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("dtype", "register"), [("bool", "bool"), ("i8", "i32"), ("u16", "u32"), ("bf16", "f32"), ("c128", "f64")]
)
def test_register_dtype_is_wide_enough(dtype: str, register: str) -> None:
    assert scalar.register_dtype(dtype) == register


def test_constant_is_rounded_to_its_dtype() -> None:
    b = Builder("constant")
    narrow, wrapped, pair = (scalar.constant(b, *row) for row in (("bf16", 1.001), ("u8", 255), ("c64", 1 + 2j)))
    assert isinstance(narrow, Value)
    assert narrow.constant == 1.0
    assert format_of(narrow).dtype == "f32"
    assert isinstance(wrapped, Value)
    assert wrapped.constant == 255
    assert isinstance(pair, Complex)
    assert (pair.re.constant, pair.im.constant) == (1.0, 2.0)


def test_every_supported_operation_is_tested() -> None:
    tested = {call.op for dtype in NUMPY for call in calls(dtype)}
    assert scalar.SUPPORTED - tested == {"complex"}


def test_operation_without_meaning_is_an_error() -> None:
    b = Builder("error", parameters=[Parameter("x", "i32", "r")])
    x = b.buffer("x")[0]
    with pytest.raises(GraphError) as raised:
        scalar.emit(b, "cosine", [x], ["i32"], "i32", {})
    text = str(raised.value)
    assert text.startswith("emit: cosine must have operands that it is defined for.")
    assert "got:  cosine(i32) -> i32" in text
    assert "want: an elementwise operation of the table" in text
    assert "fix:  report this defect" in text


def test_complex_dtypes_are_two_registers() -> None:
    assert all(dtypes.itemsize(dtype) == 2 * dtypes.itemsize(dtypes.real_part(dtype)) for dtype in COMPLEX)
