"""The platform on a real device: what the double cannot show."""

from __future__ import annotations

import gc
import threading
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lowering.dtypes import NUMPY
from lowering.pjrt.engine import attributes_of
from lowering.runtime import list_devices, settings_from_environment
from lowering.runtime.select import choose_device
from shaders.capabilities import Capabilities

SHAPES = [(), (0,), (1,), (3, 0, 2), (7, 13), (257, 31)]


def put(vulkan: Any, *shape: int) -> jax.Array:
    return jax.device_put(np.ones(shape, np.float32), vulkan)


def live_bytes(vulkan: Any) -> int:
    """Return the bytes that live arrays take, after what was dropped has been given back."""
    gc.collect()
    _ = put(vulkan, 1).is_ready()
    time.sleep(0.2)
    return vulkan.memory_stats()["bytes_in_use"]


@pytest.mark.parametrize("dtype", NUMPY)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_put_and_get_keep_every_dtype(vulkan: Any, dtype: str, shape: tuple[int, ...]) -> None:
    host = np.random.default_rng(0).integers(-100, 100, shape).astype(NUMPY[dtype])
    with jax.enable_x64():
        back = np.asarray(jax.device_put(host, vulkan))
    assert back.dtype == host.dtype
    np.testing.assert_array_equal(back, host)


@pytest.mark.parametrize("view", ["reversed", "transposed", "skipped", "broadcast"])
def test_put_reads_strided_arrays(vulkan: Any, view: str) -> None:
    base = np.arange(5 * 6 * 7, dtype=np.int32).reshape(5, 6, 7)
    views = {
        "reversed": base[::-1, :, ::-1],
        "transposed": base.transpose(2, 0, 1),
        "skipped": base[1::2, ::3],
        "broadcast": np.broadcast_to(base[:1], (4, 6, 7)),
    }
    np.testing.assert_array_equal(np.asarray(jax.device_put(views[view], vulkan)), views[view])


def test_large_array_survives_the_way(vulkan: Any) -> None:
    host = np.arange(5 << 20, dtype=np.int32)
    back = jax.device_put(host, vulkan)
    back.copy_to_host_async()
    np.testing.assert_array_equal(np.asarray(back), host)


def test_copy_has_memory_of_its_own(vulkan: Any) -> None:
    x = put(vulkan, 5)
    copied = jax.device_put(x, vulkan, may_alias=False)
    assert copied.unsafe_buffer_pointer() != x.unsafe_buffer_pointer()
    np.testing.assert_array_equal(np.asarray(copied), np.asarray(x))


def test_jit_computes_on_the_device_of_its_arguments(vulkan: Any) -> None:
    result = jax.jit(lambda a: jnp.tanh(a).sum())(put(vulkan, 8))
    assert result.devices() == {vulkan}
    np.testing.assert_allclose(np.asarray(result), 8 * np.tanh(1), rtol=1e-5)


def test_eager_operations_run_one_by_one(vulkan: Any) -> None:
    x = put(vulkan, 3)
    np.testing.assert_array_equal(np.asarray((x + 1.0) * x - 3.0), [-1, -1, -1])


def test_gradient_of_a_batched_function(vulkan: Any) -> None:
    weights = jax.device_put(np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4), vulkan)
    inputs = jax.device_put(np.linspace(0, 1, 8, dtype=np.float32).reshape(2, 4), vulkan)

    def loss(w: jax.Array, x: jax.Array) -> jax.Array:
        return (jax.vmap(lambda row: jnp.tanh(w @ row))(x) ** 2).sum()

    got = np.asarray(jax.jit(jax.grad(loss))(weights, inputs))
    on_cpu = jax.grad(loss)(*(jax.device_put(np.asarray(a), jax.devices("cpu")[0]) for a in (weights, inputs)))
    np.testing.assert_allclose(got, np.asarray(on_cpu), rtol=1e-5, atol=1e-6)


def test_scan_and_while_run(vulkan: Any) -> None:
    def both(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        total, _ = jax.lax.scan(lambda c, v: (c + v, None), jnp.zeros((), jnp.float32), x)
        doubled = jax.lax.while_loop(lambda c: c < 100.0, lambda c: c * 2.0, x[0])
        return total, doubled

    total, doubled = jax.jit(both)(put(vulkan, 7))
    assert (float(total), float(doubled)) == (7.0, 128.0)


def test_donation_reuses_the_memory(vulkan: Any) -> None:
    step = jax.jit(lambda a: a * 2.0, donate_argnums=0)
    x = jax.block_until_ready(put(vulkan, 1 << 16))
    address = x.unsafe_buffer_pointer()
    y = step(x)
    assert x.is_deleted()
    assert y.unsafe_buffer_pointer() == address
    assert float(np.asarray(y)[0]) == 2.0


def test_donated_array_that_is_still_copied_stays_whole(vulkan: Any) -> None:
    x = jax.jit(lambda a: a + 1.0)(put(vulkan, 1 << 20))
    x.copy_to_host_async()
    y = jax.jit(lambda a: a * 3.0, donate_argnums=0)(x)
    assert x.is_deleted()
    assert float(np.asarray(y)[-1]) == 6.0


def test_memory_returns_when_arrays_are_dropped(vulkan: Any) -> None:
    before = live_bytes(vulkan)
    x = put(vulkan, 1 << 18)
    step = jax.jit(lambda a: a + 1.0)
    for _ in range(50):
        x = step(x)
    assert live_bytes(vulkan) - before == 1 << 20
    del x
    assert live_bytes(vulkan) == before


def test_threads_share_the_device(vulkan: Any) -> None:
    f = jax.jit(lambda a: jnp.tanh(a) @ a.T + a.sum())
    host = np.random.default_rng(1).standard_normal((8, 8)).astype(np.float32)
    expected = np.tanh(host) @ host.T + host.sum()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(20):
                np.testing.assert_allclose(np.asarray(f(jax.device_put(host, vulkan))), expected, rtol=1e-4, atol=1e-4)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_missing_operation_is_listed_with_its_line(vulkan: Any) -> None:
    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        _ = jnp.fft.fft(put(vulkan, 8).astype(jnp.complex64))
    text = str(caught.value)
    assert text.startswith("UNIMPLEMENTED: ")
    assert "fft" in text
    assert "test_vulkan.py" in text


def test_export_runs_where_it_was_not_made(vulkan: Any) -> None:
    pytest.importorskip("flatbuffers", reason="jax.export writes files only where flatbuffers is installed")
    from jax import export

    exported = export.export(jax.jit(lambda a: jnp.sin(a) * 2.0), platforms=["vulkan"])(
        jax.ShapeDtypeStruct((3,), jnp.float32)
    )
    again = export.deserialize(exported.serialize())
    np.testing.assert_allclose(np.asarray(jax.jit(again.call)(put(vulkan, 3))), 2 * np.sin(np.ones(3)), rtol=1e-6)


def test_random_numbers_equal_those_of_the_cpu(vulkan: Any) -> None:
    key = jax.device_put(jax.random.key(7), vulkan)
    got = jax.random.bits(key, (17,))
    assert got.devices() == {vulkan}
    np.testing.assert_array_equal(np.asarray(got), np.asarray(jax.random.bits(jax.random.key(7), (17,))))


def test_statistics_know_the_limit(vulkan: Any) -> None:
    statistics = vulkan.memory_stats()
    assert 0 <= statistics["bytes_in_use"] <= statistics["peak_bytes_in_use"] <= statistics["bytes_limit"]


def test_limits_are_attributes_of_the_device(vulkan: Any) -> None:
    chosen = choose_device(list_devices(), settings_from_environment().selector)
    assert chosen.capabilities is not None
    assert {name: getattr(vulkan, name) for name in attributes_of(chosen.capabilities)} == attributes_of(
        chosen.capabilities
    )
    assert vulkan.max_shared_bytes >= 16384, "the least that Vulkan allows"


def test_matrices_are_those_of_subgroups(capabilities: Capabilities) -> None:
    found = str(attributes_of(capabilities)["matrices"]).split()
    assert len(found) == len(set(found))
    assert set(found) == {str(shape) for shape in capabilities.matrices if shape.scope == "subgroup"}
    assert "16x16x16:f16->f32" in found or "H100" not in capabilities.device_name


def test_too_large_array_is_refused_with_the_numbers(vulkan: Any) -> None:
    rows = vulkan.memory_stats()["bytes_limit"] // 4 + 1
    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
        _ = jax.jit(lambda a: jnp.broadcast_to(a, (rows,)))(jax.device_put(np.float32(1), vulkan))
