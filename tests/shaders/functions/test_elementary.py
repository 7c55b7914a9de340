"""Every function is within its bound over its whole range, special values included."""

from __future__ import annotations

import numpy as np
import pytest

from lowering.runtime import Device
from shaders import functions
from shaders.errors import ShaderError
from shaders.kernel import Parameter
from shaders.spirv import Builder

from .accuracy import CASES, EXP_BY_EXP2, HAS_EXTENDED, INFINITE_ERROR, Case, errors, measure
from .elementwise import run_elementwise


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_function_is_within_its_bound(device: Device, case: Case, dtype: str) -> None:
    if dtype == "f64" and not device.capabilities.has_f64:
        pytest.skip("the device has no f64")
    if dtype == "f64" and not HAS_EXTENDED:
        pytest.skip("no float of this machine is finer than f64")
    found = measure(device, case, dtype, 5000)
    assert found.largest <= case.bound, f"{case.name}{found.worst} is {found.got}, not {found.want}"


def test_exp_by_the_device_s_power_of_two_is_within_its_bound(device: Device) -> None:
    bound = EXP_BY_EXP2.bound if device.capabilities.keeps_exp2 else 64.0
    found = measure(device, EXP_BY_EXP2, "f32", 5000)
    assert found.largest <= bound, f"exp{found.worst} is {found.got}, not {found.want}"


@pytest.mark.parametrize(
    ("name", "x", "y", "want"),
    [
        ("power", 0.0, 0.0, 1.0),
        ("power", 1.0, np.nan, 1.0),
        ("power", np.nan, 0.0, 1.0),
        ("power", -8.0, 3.0, -512.0),
        ("power", -8.0, 1 / 3, np.nan),
        ("power", -0.0, -3.0, -np.inf),
        ("power", -np.inf, 0.5, np.inf),
        ("power", -1.0, np.inf, 1.0),
        ("power", 0.5, -np.inf, np.inf),
        ("atan2", 0.0, -0.0, np.pi),
        ("atan2", -0.0, 1.0, -0.0),
        ("atan2", np.inf, -np.inf, 3 * np.pi / 4),
        ("atan2", -1.0, 0.0, -np.pi / 2),
        ("hypot", np.inf, np.nan, np.inf),
        ("hypot", 3.0, 4.0, 5.0),
    ],
)
def test_function_has_special_value(device: Device, name: str, x: float, y: float, want: float) -> None:
    inputs = [np.array([number], np.float32) for number in (x, y)]
    (got,) = run_elementwise(device, getattr(functions, name), inputs, ["f32"])
    np.testing.assert_array_equal(got, np.array([want], np.float32))
    assert np.signbit(got[0]) == np.signbit(want)


def test_errors_see_a_wrong_unit_and_a_wrong_zero() -> None:
    want = np.array([1.0, 0.0, np.inf, np.nan], np.longdouble)
    assert errors(np.array([1, 0, np.inf, np.nan], np.float32), want).tolist() == [0, 0, 0, 0]
    wrong = errors(np.array([np.nextafter(np.float32(1), np.float32(2)), -0.0, np.nan, 1], np.float32), want)
    assert wrong.tolist() == [1, INFINITE_ERROR, INFINITE_ERROR, INFINITE_ERROR]


def test_function_refuses_what_is_no_f32_or_f64() -> None:
    builder = Builder("refuse", parameters=[Parameter("x", "i32", "r")])
    with pytest.raises(ShaderError, match="must be given a scalar float register") as raised:
        functions.exp(builder, builder.buffer("x")[0])
    assert "want: f32 or f64" in str(raised.value)
