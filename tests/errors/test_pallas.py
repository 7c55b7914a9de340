"""What a user reads where a Pallas kernel asks for what a tile kernel cannot do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from lowering import lower
from lowering.errors import UnsupportedError
from shaders.capabilities import Capabilities

from .reading import parts
from .test_programs import refused

HERE = Path(__file__).name
Kernel = Callable[..., None]


def call(kernel: Kernel, x: Any, **options: Any) -> Any:
    return pl.pallas_call(kernel, out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype), **options)(x)


def on_the_platform(kernel: Kernel, vulkan: Any, shape: tuple[int, ...] = (24, 16), **options: Any) -> dict[str, str]:
    """Return the message with which the platform refuses a kernel."""
    x = jax.device_put(np.ones(shape, np.float32), vulkan)
    status, read = refused(lambda: jax.jit(lambda a: call(kernel, a, **options))(x))
    assert status == "UNIMPLEMENTED"
    return read


def without_a_device(kernel: Kernel, capabilities: Capabilities, dtype: str = "float32") -> dict[str, str]:
    x = jax.ShapeDtypeStruct((24, 16), dtype)
    with pytest.raises(UnsupportedError) as caught:
        _ = lower(lambda a: call(kernel, a))(x).program(capabilities)
    return parts(str(caught.value))


# -- what is inside the kernel -----------------------------------------------------------------------------------------


def sorting(a: Any, o: Any) -> None:
    ordered = jnp.sort(a[...], axis=1)
    o[...] = jnp.fft.fft(ordered).real


def test_missing_operations_of_a_kernel_are_named_with_their_lines(vulkan: Any) -> None:
    read = on_the_platform(sorting, vulkan)
    assert read["rule"] == "import_module: everything in the program must have a Vulkan lowering."
    first = sorting.__code__.co_firstlineno
    assert f"operation sort (1 use at {HERE}:{first + 1} in sorting)" in read["got"]
    assert f"operation fft (1 use at {HERE}:{first + 2} in sorting)" in read["got"]


@pytest.mark.parametrize("show", [pl.debug_print, jax.debug.print])
def test_printing_inside_a_kernel_is_named_with_its_line(show: Callable[..., None], vulkan: Any) -> None:
    def kernel(a: Any, o: Any) -> None:
        show("{}", a[0, 0])
        o[...] = a[...]

    read = on_the_platform(kernel, vulkan)
    assert "operation custom_call @debug_print (1 use at " in read["got"] or "@debug_callback" in read["got"]
    assert f"{HERE}:{kernel.__code__.co_firstlineno + 1}" in read["got"]


def test_tile_too_large_for_registers_is_named_with_its_size(vulkan: Any) -> None:
    def kernel(a: Any, o: Any) -> None:
        o[...] = jnp.exp(a[...])

    read = on_the_platform(kernel, vulkan, (2048, 1024))
    assert read["rule"] == "A tile must be small enough for the registers of a workgroup."
    assert read["got"].startswith("f32[2048,1024] (rows, columns): ")
    assert "smaller blocks" in read["fix"]
    assert read["at"].startswith(f"{HERE}:{kernel.__code__.co_firstlineno + 1}")
    assert read["in"] == "codegen"


def test_tile_too_large_for_shared_memory_is_named_with_its_bytes(capabilities: Capabilities) -> None:
    def kernel(a: Any, o: Any) -> None:
        y = jnp.exp(a[...])
        o[...] = y + jnp.flip(y, 0)

    read = without_a_device(kernel, replace(capabilities, max_shared_bytes=1024))
    assert read["rule"] == "The blocks that a kernel works on must fit into shared memory."
    assert read["got"].endswith(" bytes for kernel")
    assert read["want"].startswith("at most 1,024 bytes on ")
    assert "pl.ds" in read["fix"]


@pytest.mark.parametrize(
    ("feature", "dtype", "name"),
    [
        ("has_f64", "float64", "f64 without the feature shaderFloat64"),
        ("storage_16", "float16", "f16 without the feature storageBuffer16BitAccess"),
        ("storage_8", "int8", "i8 without the feature storageBuffer8BitAccess"),
    ],
)
def test_dtype_that_the_device_lacks_is_named(capabilities: Capabilities, feature: str, dtype: str, name: str) -> None:
    def kernel(a: Any, o: Any) -> None:
        o[...] = a[...] + a[...]

    with jax.enable_x64():
        read = without_a_device(kernel, replace(capabilities, **{feature: False}), dtype)
    assert read["got"].startswith(name)


def test_dtype_that_only_the_kernel_uses_is_named_with_its_line(capabilities: Capabilities) -> None:
    def kernel(a: Any, o: Any) -> None:
        o[...] = a[...].astype(jnp.float16).astype(jnp.float32)

    read = without_a_device(kernel, replace(capabilities, storage_16=False))
    assert "f16 without the feature" in read["got"]
    assert f"{HERE}:{kernel.__code__.co_firstlineno + 1}" in read["got"]


# -- how the call is cut -----------------------------------------------------------------------------------------------


def nothing(a: Any, o: Any) -> None:
    o[...] = a[...]


def refused_call(function: Callable[[], Any]) -> dict[str, str]:
    """Return the message with which a call is refused while it is lowered."""
    with pytest.raises(UnsupportedError) as caught:
        _ = function()
    return parts(str(caught.value))


def test_padding_block_is_refused(vulkan: Any) -> None:
    x = jax.device_put(np.ones((24, 16), np.float32), vulkan)
    spec = pl.BlockSpec((pl.Element(24, (2, 0)), pl.Element(16)), lambda: (0, 0))
    read = refused_call(lambda: jax.jit(lambda a: call(nothing, a, in_specs=[spec]))(x))
    assert read["rule"] == "pallas_call: a block must not pad its array."
    assert "((2, 0), (0, 0))" in read["got"]
    assert "jnp.pad" in read["fix"]
    assert read["in"] == "pallas"


def test_block_of_varying_extent_is_refused(vulkan: Any) -> None:
    x = jax.device_put(np.ones((24, 16), np.float32), vulkan)
    spec = pl.BlockSpec((pl.BoundedSlice(24), 16), lambda: (pl.ds(0, 24), 0))
    read = refused_call(lambda: jax.jit(lambda a: call(nothing, a, in_specs=[spec]))(x))
    assert read["rule"] == "pallas_call: a block must be a rectangle of fixed extents."
    assert "pl.Element" in read["fix"]


def test_access_that_jax_cannot_write_as_values_is_refused(vulkan: Any) -> None:
    def kernel(a: Any, o: Any) -> None:
        o[...] = plt.load(a.at[jnp.arange(24), :])

    x = jax.device_put(np.ones((24, 16), np.float32), vulkan)
    read = refused_call(lambda: jax.jit(lambda a: call(kernel, a))(x))
    assert read["rule"] == "pallas_call: JAX must be able to write a kernel's references as values."
    assert "interpret=True" in read["fix"]


def test_workgroups_that_all_make_the_whole_output_are_refused(vulkan: Any) -> None:
    def kernel(a: Any, o: Any) -> None:
        o[...] = a[...] * 2

    read = on_the_platform(kernel, vulkan, grid=(3,), compiler_params=plt.CompilerParams())
    assert read["rule"] == "Each workgroup of a kernel must write its own part of an output."
    assert read["got"].endswith("makes the whole of output 0, f32[24,16]")
    assert "out_specs" in read["want"]


def test_block_beyond_the_array_is_the_last_one(vulkan: Any) -> None:
    """JAX says nothing of such a place; here as in its interpreter the last block is taken, one after the other."""

    def kernel(a: Any, o: Any) -> None:
        o[...] = a[...] + pl.program_id(0).astype(jnp.float32)

    specs = {
        "in_specs": [pl.BlockSpec((8, 16), lambda i: (i + 7, 0))],
        "out_specs": pl.BlockSpec((8, 16), lambda i: (i, 0)),
    }
    x = np.arange(24 * 16, dtype=np.float32).reshape(24, 16)
    got = np.asarray(jax.jit(lambda a: call(kernel, a, grid=(5,), **specs))(jax.device_put(x, vulkan)))
    np.testing.assert_array_equal(got, np.concatenate([x[16:], x[16:] + 1, x[16:] + 4]))
