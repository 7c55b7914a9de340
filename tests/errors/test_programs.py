"""What a user reads where a program asks for what is not there: operations, dtypes, shapes, features, memory."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lowering import lower
from lowering.errors import InputError, UnsupportedError
from lowering.program import ArrayType, Dispatch, Program, Region
from lowering.runtime import Device
from lowering.runtime.pipelines import check_limits
from shaders.capabilities import Capabilities
from shaders.kernel import Parameter
from shaders.spirv import Builder

from .reading import parts

HERE = Path(__file__).name


def put(vulkan: Any, *shape: int) -> jax.Array:
    return jax.device_put(np.ones(shape, np.float32), vulkan)


def refused(action: Callable[[], Any]) -> tuple[str, dict[str, str]]:
    """Return the status and the message of what the platform refuses."""
    with pytest.raises((jax.errors.JaxRuntimeError, ValueError)) as caught:
        _ = action()
    status, _, text = str(caught.value).partition(": ")
    return status, parts(text)


def line_of(function: Callable[..., Any], text: str) -> int:
    """Return the number of the line of this file that has some text in a function."""
    lines, first = inspect.getsourcelines(function)
    return first + next(number for number, line in enumerate(lines) if text in line)


def three_missing(x: jax.Array) -> jax.Array:
    ordered = jnp.sort(x, axis=0)
    spectrum = jnp.fft.fft(ordered).real
    smooth = jax.lax.conv_general_dilated(spectrum[None, None], x[None, None], (1, 1), "SAME")
    return smooth.sum() + jnp.sort(x, axis=1).sum()


def test_all_missing_operations_are_in_one_message_with_their_lines(vulkan: Any) -> None:
    status, read = refused(lambda: jax.jit(three_missing)(put(vulkan, 4, 4)))
    assert status == "UNIMPLEMENTED"
    assert read["rule"] == "import_module: everything in the program must have a Vulkan lowering."
    for operation, text in {"sort": "ordered =", "fft": "spectrum =", "convolution": "smooth ="}.items():
        assert f"operation {operation} (" in read["got"]
        assert f"{HERE}:{line_of(three_missing, text)} in three_missing" in read["got"]
    assert "operation sort (2 uses at " in read["got"]
    assert f"{HERE}:{line_of(three_missing, 'return smooth')}" in read["got"]
    assert "jax.default_device(jax.devices(" in read["fix"]
    assert read["at"] == "jit_three_missing"


def test_the_remedy_for_missing_operations_works(vulkan: Any) -> None:
    x = np.asarray([3.0, 1.0, 2.0], np.float32)
    with jax.default_device(jax.devices("cpu")[0]):
        ordered = jnp.sort(x)
    assert np.asarray(jax.device_put(ordered, vulkan) + jnp.float32(1)).tolist() == [2, 3, 4]


def test_missing_operations_are_named_without_a_device() -> None:
    with pytest.raises(UnsupportedError) as caught:
        _ = lower(three_missing)(jax.ShapeDtypeStruct((4, 4), jnp.float32)).graph
    assert {"sort", "fft", "convolution"} <= set(parts(str(caught.value))["got"].replace("(", " ").split())


def test_float8_inside_a_program_is_named_with_its_line(vulkan: Any) -> None:
    narrow = lambda a: a.astype(jnp.float8_e4m3fn).astype(jnp.float32)  # noqa: E731
    status, read = refused(lambda: jax.jit(narrow)(put(vulkan, 3)))
    assert status == "UNIMPLEMENTED"
    assert "dtype f8E4M3FN (1 use at " in read["got"]
    assert f"{HERE}:" in read["got"]
    assert "bf16" in read["want"]


def test_float8_array_is_refused_where_it_is_put(vulkan: Any) -> None:
    status, read = refused(lambda: jax.device_put(np.ones(3, jnp.float8_e4m3fn), vulkan))
    assert (status, read["got"]) == ("UNIMPLEMENTED", "f8E4M3FN[3]")
    assert "astype" in read["fix"]


def _without(feature: str, dtype: str, capabilities: Capabilities) -> dict[str, str]:
    def doubled(x: jax.Array) -> jax.Array:
        return (x + x)[1:]

    with jax.enable_x64(), pytest.raises(UnsupportedError) as caught:
        _ = lower(doubled)(jax.ShapeDtypeStruct((5,), dtype)).program(replace(capabilities, **{feature: False}))
    return parts(str(caught.value))


@pytest.mark.parametrize(
    ("feature", "dtype", "name"),
    [
        ("has_f64", "float64", "f64 without the feature shaderFloat64"),
        ("has_f64", "complex128", "c128 without the feature shaderFloat64"),
        ("has_i64", "int64", "i64 without the feature shaderInt64"),
        ("storage_16", "float16", "f16 without the feature storageBuffer16BitAccess"),
        ("storage_16", "bfloat16", "bf16 without the feature storageBuffer16BitAccess"),
        ("storage_8", "int8", "i8 without the feature storageBuffer8BitAccess"),
    ],
)
def test_a_dtype_the_device_lacks_is_named_with_its_line(
    capabilities: Capabilities, feature: str, dtype: str, name: str
) -> None:
    read = _without(feature, dtype, capabilities)
    assert read["rule"] == "jit_doubled: the device must have the features that the program's dtypes need."
    assert read["got"].startswith(name)
    assert f"{HERE}:{line_of(_without, '(x + x)')} in " in read["got"]
    assert capabilities.device_name in read["want"]
    assert name.partition(" ")[0] not in read["want"].rpartition("such as ")[2].split(", ")
    assert "qga devices" in read["fix"]


def test_wide_dtypes_run_where_the_device_has_them(vulkan: Any) -> None:
    with jax.enable_x64():
        sine = jax.jit(lambda a: jnp.sin(a).sum())(jax.device_put(np.arange(5.0), vulkan))
        product = jax.jit(lambda a: (a * 3).sum())(jax.device_put(np.arange(5) << 33, vulkan))
    assert (sine.dtype, product.dtype) == (np.float64, np.int64)
    np.testing.assert_allclose(float(sine), np.sin(np.arange(5.0)).sum(), rtol=1e-14)
    assert int(product) == 30 << 33


def test_a_kernel_beyond_the_device_is_refused_before_the_driver_sees_it(device: Device) -> None:
    builder = Builder("doubled", workgroup=(64, 1, 1), parameters=(Parameter("y", "f64", "rw"),))
    buffer, index = builder.buffer("y"), builder.global_id(0)
    buffer[index] = buffer[index] + buffer[index]
    kernel = builder.finish()
    context = device.parts.context
    core = "VkPhysicalDeviceFeatures"
    features = {**context.facts.features, core: context.facts.features[core] - {"shaderFloat64"}}
    check_limits(kernel, context)
    lacking = replace(context, facts=replace(context.facts, features=features))
    with pytest.raises(UnsupportedError) as caught:
        check_limits(kernel, lacking)
    read = parts(str(caught.value))
    assert read["got"] == "a kernel that needs shaderFloat64"
    assert "QGA_VULKAN_DEVICE" in read["fix"]


def test_wrong_arguments_show_shapes_and_dtypes(device: Device) -> None:
    executable = lower(lambda a, b: a + b)(*[jax.ShapeDtypeStruct((2, 3), jnp.float32)] * 2).compile(device)
    with pytest.raises(InputError) as caught:
        _ = executable(np.ones((2, 3), np.float32), np.ones((3, 2), np.int32))
    read = parts(str(caught.value))
    assert (read["got"], read["want"]) == ("f32[2,3], i32[3,2]", "f32[2,3], f32[2,3]")


def test_an_array_beyond_the_memory_is_refused_and_the_device_stays_usable(vulkan: Any) -> None:
    status, read = refused(lambda: jax.jit(lambda a: jnp.broadcast_to(a, (1 << 36,)))(put(vulkan)))
    assert status == "RESOURCE_EXHAUSTED"
    assert read["rule"].endswith("has no room for an allocation.")
    assert read["got"].startswith("262,144.0 MiB asked for; live ")
    assert "MiB in all" in read["want"]
    assert "smaller batches" in read["fix"]
    assert float(jax.jit(lambda a: (a + 1.0).sum())(put(vulkan, 8))) == 16.0


def test_an_array_used_after_its_donation_is_refused(vulkan: Any) -> None:
    add = jax.jit(lambda a: a + 1.0)
    _ = add(put(vulkan, 4))
    x = put(vulkan, 4)
    _ = jax.jit(lambda a: a + 1.0, donate_argnums=0)(x)
    with pytest.raises((RuntimeError, ValueError)) as caught:
        _ = add(x)
    status, _, text = str(caught.value).partition(": ")
    # JAX may look before it calls.
    if not status.startswith("Array has been deleted"):
        assert (status, parts(text)["got"]) == ("INVALID_ARGUMENT", "f32[4] that was deleted or donated")
        assert "donate_argnums" in parts(text)["fix"]
    with pytest.raises(RuntimeError, match=r"Array has been deleted with shape=float32\[4\]"):
        _ = np.asarray(x)


def test_what_took_a_donation_is_whole(vulkan: Any) -> None:
    step = jax.jit(lambda a: a * 2.0, donate_argnums=0)
    x = put(vulkan, 4)
    y = step(step(x))
    assert np.asarray(y).tolist() == [4.0] * 4


def test_thousands_of_operations_compile(vulkan: Any) -> None:
    """Neither graph nor expression is walked by recursion that a long program exhausts."""

    def long(a: jax.Array) -> jax.Array:
        for _ in range(1500):
            a = a * 0.5 + 1.0
        return a

    assert np.asarray(jax.jit(long)(put(vulkan, 4))).tolist() == [2.0] * 4


def test_nested_branches_compile(vulkan: Any) -> None:
    def nested(a: jax.Array, depth: int) -> jax.Array:
        if depth == 0:
            return jnp.sin(a)
        return jax.lax.cond(a.sum() > 0, lambda b: nested(b, depth - 1), lambda b: b * 2.0, a)

    np.testing.assert_allclose(
        np.asarray(jax.jit(lambda a: nested(a, 30))(put(vulkan, 3))), np.sin(np.ones(3)), rtol=1e-6
    )


def test_a_program_that_names_too_many_workgroups_is_refused(device: Device) -> None:
    builder = Builder("put", workgroup=(1, 1, 1), parameters=(Parameter("y", "u32", "w"),))
    builder.buffer("y")[0] = builder.const("u32", 1)
    step = Dispatch(0, (Region("output", 0, 0, 4),), (1, 1 << 20, 1))
    program = Program("wide", (builder.finish(),), (step,), (), (ArrayType("u32", ()),), (), 0)
    with pytest.raises(UnsupportedError) as caught:
        _ = device.load(program)
    assert parts(str(caught.value))["got"] == f"(1, {1 << 20}, 1)"
