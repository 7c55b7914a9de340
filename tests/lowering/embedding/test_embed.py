"""A function for Vulkan inside of a program for the CPU: batches, gradients, errors, and nothing left behind."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lowering
from lowering.embedding import handler
from lowering.errors import DeviceMemoryError, InputError, UnsupportedError, message
from lowering.executable import Executable
from tests.errors.reading import parts
from tests.qga.tolerances import VULKAN_ROUNDINGS, assert_close, assert_far

pytestmark = pytest.mark.usefixtures("device")
X = np.linspace(-1, 2, 6, dtype=np.float32).reshape(2, 3)
COUNT = np.int32(3)


def scaled(x: Any, count: Any) -> dict[str, Any]:
    return {"wave": jnp.sin(x) * jnp.sum(x), "next": count + 1}


embedded = lowering.embed(scaled)


def total(function: Any) -> Any:
    return lambda x: jnp.sum(jnp.cos(function(x, COUNT)["wave"]))


def calls_in(text: str) -> int:
    return text.count("ffi_call[")


def test_results_are_nested_as_the_function_returns_them() -> None:
    found = jax.jit(embedded)(X, COUNT)
    assert_close(found["wave"], np.sin(X) * X.sum(), depth=6, roundings=VULKAN_ROUNDINGS)
    assert (found["next"], found["next"].dtype) == (4, jnp.int32)


def test_batch_is_one_call() -> None:
    batch = jax.vmap(embedded, (0, None))
    assert calls_in(str(jax.make_jaxpr(batch)(X, COUNT))) == 1
    found = jax.jit(batch)(X, COUNT)
    assert_close(found["wave"], np.sin(X) * X.sum(1, keepdims=True), depth=3, roundings=VULKAN_ROUNDINGS)


def test_gradients_and_their_gradients_are_computed_there_as_well() -> None:
    def twice(function: Any) -> Any:
        slope = jax.grad(total(function))
        return lambda x: (slope(x), jax.grad(lambda x: jnp.sum(jnp.sin(slope(x))))(x))

    # Nothing of it is left to the CPU.
    assert "sin " not in str(jax.make_jaxpr(jax.grad(lambda x: jnp.sum(embedded(x, COUNT)["wave"])))(X))
    for got, want in zip(jax.jit(twice(embedded))(X), jax.jit(twice(scaled))(X), strict=True):
        assert_close(got, want, depth=6, scale=8, roundings=VULKAN_ROUNDINGS)
        assert_far(got, np.zeros_like(want))


def test_loops_call_it_again_and_again() -> None:
    step = lowering.embed(lambda x: 0.5 * x + 1)
    found = jax.jit(lambda x: jax.lax.scan(lambda held, _: (step(held), held), x, length=5))(X)
    want = X
    for number in range(5):
        np.testing.assert_array_equal(found[1][number], want)
        want = np.float32(0.5) * want + 1


def test_every_kind_of_number_and_no_number_at_all_come_back() -> None:
    def same(*arrays: Any) -> tuple[Any, ...]:
        return tuple(jnp.concatenate([each, each]) for each in arrays)

    kinds = (jnp.float32, jnp.bfloat16, jnp.int32, jnp.uint8, jnp.bool_)
    arrays = [jnp.asarray([[0, 1, 1]], kind) for kind in kinds] + [jnp.zeros((2, 0))]
    for got, want in zip(jax.jit(lowering.embed(same))(*arrays), same(*arrays), strict=True):
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        np.testing.assert_array_equal(got, want)


def test_traced_array_that_is_not_passed_in_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        jax.jit(lambda y: lowering.embed(lambda x: x * y)(X))(X)
    assert parts(str(caught.value))["got"] == "f32[2, 3], traced"
    constant = jax.jit(lowering.embed(lambda x: x * X))(X)
    np.testing.assert_array_equal(constant, X * X)


def test_what_cannot_be_lowered_is_refused_before_anything_runs() -> None:
    with pytest.raises(UnsupportedError, match="eigh"):
        jax.jit(lowering.embed(jnp.linalg.eigh)).trace(np.eye(3, dtype=np.float32))


def test_failure_is_an_error_of_jax_and_the_next_call_works(monkeypatch: pytest.MonkeyPatch) -> None:
    run = jax.jit(lowering.embed(lambda x: x - 7))

    def fail(*_: Any) -> None:
        raise DeviceMemoryError(message("No room.", got="8 bytes", want="none", fix="buy more."))

    with monkeypatch.context() as patch:
        patch.setattr(Executable, "compute", fail)
        with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED: No room") as caught:
            run(X).block_until_ready()
    assert "  fix:  buy more." in str(caught.value)
    np.testing.assert_array_equal(run(X), X - 7)


def test_program_that_is_no_longer_loaded_is_made_again() -> None:
    run = jax.jit(lowering.embed(lambda x: x * 9))
    np.testing.assert_array_equal(run(X), X * 9)
    handler.load.cache_clear()
    np.testing.assert_array_equal(run(X), X * 9)
    assert handler.load.cache_info().misses == 1


def test_threads_call_it_at_the_same_time() -> None:
    run = jax.jit(lowering.embed(lambda x: x * x + 1))
    numbers = [np.full(1000, number, np.float32) for number in range(32)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda each: np.asarray(run(each)), numbers))
    np.testing.assert_array_equal(found, [each * each + 1 for each in numbers])


def test_calls_leave_nothing_on_the_device() -> None:
    run = jax.jit(embedded)
    jax.block_until_ready(run(X, COUNT))
    before = handler.shared_device().statistics()
    for _ in range(20):
        jax.block_until_ready(run(X, COUNT))
    after = handler.shared_device().statistics()
    # More where copies are submitted as well, because the host does not see the device's memory.
    assert after["submitted"] - before["submitted"] >= 20
    assert [after[name] - before[name] for name in ("live_buffers", "reserved_bytes")] == [0, 0]
