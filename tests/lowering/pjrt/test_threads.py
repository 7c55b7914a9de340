"""Several threads, exceptions in flight, garbage and re-entry: nothing is lost, nothing hangs, nothing leaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

PROGRAM = """
device = start(limit_bytes=1 << 24)
f = jax.jit(lambda x: jnp.tanh(x) @ x.T + x.sum())
host = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
expected = np.tanh(host) @ host.T + host.sum()
def together(work, count):
    failed = []
    def guarded(number):
        try:
            work(number)
        except BaseException as error:
            failed.append(repr(error))
    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return failed
def put_run_get(number):
    for step in range(150):
        y = f(jax.device_put(host, device))
        assert np.allclose(np.asarray(y), expected, atol=1e-4)
        if step % 50 == 0:
            gc.collect()
facts["put, run and get"] = together(put_run_get, 8)
def raise_with_temporaries(number):
    for step in range(30):
        try:
            jnp.sort(jax.device_put(host, device) + step)
        except jax.errors.JaxRuntimeError as error:
            assert "every operation must be supported" in str(error)
        else:
            raise AssertionError("nothing was raised")
facts["raise with temporaries"] = together(raise_with_temporaries, 4)
def python_error():
    for step in range(100):
        try:
            (jax.device_put(host, device) + step)[{}]
        except Exception as error:
            kind = type(error).__name__
    return kind
facts["error of JAX with temporaries"] = python_error()
def callback(value):
    return np.asarray(f(jax.device_put(np.asarray(value), device)))
nested = jax.jit(lambda a: jax.pure_callback(callback, jax.ShapeDtypeStruct((8, 8), np.float32), a) + 1)
facts["inside a CPU callback"] = bool(np.allclose(np.asarray(nested(host)), expected + 1, atol=1e-4))
class Cycle:
    pass
def cyclic(number):
    for _ in range(100):
        cycle = Cycle()
        cycle.array, cycle.self = jax.device_put(host, device), cycle
facts["cyclic garbage"] = together(cyclic, 4)
x = jax.device_put(np.ones(1 << 16, np.float32), device)
increment = jax.jit(lambda a: a + 1)
for _ in range(300):
    x = increment(x)
facts["chain"] = float(np.asarray(x)[0])
del x
gc.collect()
deadline = time.time() + 5
while engines[0].device.live and time.time() < deadline:
    time.sleep(0.01)
facts["live"] = engines[0].device.live
facts["too large"] = outcome(lambda: jax.device_put(np.ones(1 << 23, np.float32), device))
import signal
# A process started in the background of a shell ignores interrupts from the start.
signal.signal(signal.SIGINT, signal.default_int_handler)
def run_interrupted(executable, buffers, donate):
    signal.raise_signal(signal.SIGINT)
    time.sleep(1)
def interrupted():
    run = numpy_engine.NumpyExecutable.run
    numpy_engine.NumpyExecutable.run = run_interrupted
    try:
        jax.jit(lambda a: a * 5)(host_on_device)
        return "no exception"
    except KeyboardInterrupt:
        return "KeyboardInterrupt"
    except jax.errors.JaxRuntimeError as error:
        try:
            time.sleep(1)
        except KeyboardInterrupt:
            return "KeyboardInterrupt after " + str(error)
        return "no interrupt after " + str(error)
    finally:
        numpy_engine.NumpyExecutable.run = run
host_on_device = jax.device_put(host, device)
facts["interrupt"] = outcome(interrupted)
"""


@pytest.fixture(scope="module")
def facts(run_facts: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    return run_facts(PROGRAM)


@pytest.mark.parametrize("what", ["put, run and get", "raise with temporaries", "cyclic garbage"])
def test_threads_work_together(facts: dict[str, Any], what: str) -> None:
    assert facts[what] == []


def test_exception_with_temporaries_stays_itself(facts: dict[str, Any]) -> None:
    assert facts["error of JAX with temporaries"] == "IndexError"


def test_device_is_usable_inside_a_callback_of_the_cpu(facts: dict[str, Any]) -> None:
    assert facts["inside a CPU callback"] is True


def test_chain_of_calls_leaves_nothing_alive(facts: dict[str, Any]) -> None:
    assert facts["chain"] == 301
    assert facts["live"] == 0


def test_out_of_memory_keeps_its_text_and_code(facts: dict[str, Any]) -> None:
    assert "RESOURCE_EXHAUSTED: double: out of memory." in facts["too large"]


def test_interrupt_reaches_the_user(facts: dict[str, Any]) -> None:
    assert facts["interrupt"].startswith("KeyboardInterrupt")
