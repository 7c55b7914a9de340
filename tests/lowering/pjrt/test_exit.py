"""The process ends cleanly, whatever is alive, running or raised when it ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

pytestmark = pytest.mark.slow

PROGRAM = """
import atexit, signal
{before}
device = start(delay_seconds={delay})
f = jax.jit(lambda a: a * 2 + 1)
x = jax.device_put(np.ones(3, np.float32), device)
y = f(x)
def work(count):
    for _ in range(count):
        np.asarray(f(f(x)))
{after}
"""

THREADS = "[threading.Thread(target=work, args=(30,)).start() for _ in range(8)]"
DAEMONS = """
import threading, time
import jax, numpy as np
f = jax.jit(lambda a: a * 2 + 1)
x = jax.device_put(np.ones(3, np.float32), jax.devices("vulkan")[0])
def work():
    while True:
        np.asarray(f(f(x)))
[threading.Thread(target=work, daemon=True).start() for _ in range(3)]
time.sleep(1)
"""
LARGE = """
large = f(jax.device_put(np.ones(1 << 20, np.float32), device))
large.copy_to_host_async()
"""
RAISED = """
try:
    jnp.sort(x + 1)
except Exception as error:
    kept = error
"""
CLEARED = """
import jax.extend.backend
del x, y, f
jax.clear_caches()
jax.extend.backend.clear_backends()
print(jax.devices("vulkan"))
"""

ENDINGS = {
    "with arrays alive": "",
    "with nothing alive": "del x, y, f",
    "with pending arrays": "pending = [f(x) for _ in range(20)]",
    "with a pending transfer": LARGE,
    "after threads": THREADS,
    "with an exception alive": RAISED,
    "by sys.exit": "sys.exit(0)",
    "with a handler that computes": "atexit.register(lambda: print(np.asarray(f(y))))",
    "after clearing backends": CLEARED,
    "with cyclic garbage": "cycle = [y]; cycle.append(cycle); del cycle, y",
}


@pytest.mark.parametrize("delay", [0, 0.01])
@pytest.mark.parametrize("ending", ENDINGS)
def test_exit_is_silent(run_program: Callable[..., CompletedProcess[str]], ending: str, delay: float) -> None:
    done = run_program(PROGRAM.format(before="", after=ENDINGS[ending], delay=delay))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.usefixtures("vulkan")
def test_exit_with_daemons_computing_does_not_crash() -> None:
    # On the real device only: against a double that computes on the host, jaxlib ends the process now and then, as its
    # own CPU does every time.
    done = subprocess.run([sys.executable, "-c", DAEMONS], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("delay", [0, 0.01])
def test_exit_by_an_exception_shows_that_exception(
    run_program: Callable[..., CompletedProcess[str]], delay: float
) -> None:
    done = run_program(PROGRAM.format(before="", after="raise ValueError('boom')", delay=delay))
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("ValueError: boom")


def test_handler_older_than_the_platform_may_read_arrays(run_program: Callable[..., CompletedProcess[str]]) -> None:
    done = run_program(PROGRAM.format(before="atexit.register(lambda: print(np.asarray(y)))", after="", delay=0.01))
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "[3. 3. 3.]\n")
