"""Run small programs in processes of their own: a process has one platform `vulkan`, here a double or the real one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lowering import pjrt

HERE = Path(__file__).parent
ROOT = HERE.parents[2]

# Every program has these names; `facts` is printed when it ends and is what the tests read.
HEADER = """
import functools, gc, json, os, sys, threading, time
sys.path[:0] = [{root!r}, {here!r}]
import jax, jax.numpy as jnp, numpy as np
import numpy_engine
from lowering import pjrt
engines = []
def open_engine(**options):
    engines.append(numpy_engine.open_engine(**options))
    return engines[-1]
def start(**options):
    pjrt.register(functools.partial(open_engine, **options))
    return jax.devices("vulkan")[0]
def outcome(action):
    try:
        return action()
    except Exception as error:
        return f"{{type(error).__name__}}: {{error}}"
facts = {{}}
"""
FOOTER = """
print("FACTS" + json.dumps(facts))
"""

# What JAX itself says on a machine with an NVIDIA card.
JAX_BESIDE_NVIDIA = (
    "An NVIDIA GPU may be present on this machine, but a CUDA-enabled jaxlib is not installed. Falling back to cpu.\n"
)


@pytest.fixture(scope="session")
def run_program() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs Python source after `HEADER` and returns what became of it."""
    if not (Path(pjrt.__file__).parent / "_native.abi3.so").exists():
        pytest.skip("lowering/pjrt/native.c is not compiled here")

    def run(source: str, *, timeout: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
        header = HEADER.format(root=str(ROOT), here=str(HERE))
        return _run(header + source, timeout=timeout, **environment)

    return run


@pytest.fixture(scope="session")
def run_facts(run_program: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """Return a function that runs a program, requires its success and returns its facts."""

    def run(source: str, **options: Any) -> dict[str, Any]:
        done = run_program(source + FOOTER, **options)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.rpartition("FACTS")[2])

    return run


@pytest.fixture(scope="session")
def run_python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs Python source as it is."""
    return _run


def _run(source: str, *, timeout: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python source in a fresh interpreter, without the settings of this one that choose platforms or devices."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("JAX_", "XLA_", "VK_", "QGA_"))}
    done = subprocess.run(
        [sys.executable, "-c", source],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        cwd=ROOT,
        env=inherited | environment,
    )
    done.stderr = done.stderr.replace(JAX_BESIDE_NVIDIA, "")
    return done
