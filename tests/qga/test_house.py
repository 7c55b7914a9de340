"""What importing ``qga`` brings along, and that its examples run."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys

import jax.numpy as jnp
import pytest

EXAMPLES = ["qga.exact.by_head", "qga.flow.heat", "qga.motivic.haar", "qga.tiling.summary"]


def test_import_loads_neither_compiler_nor_optimiser() -> None:
    program = "import qga, sys; print([m for m in ('lowering', 'shaders', 'optax', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_in_docstrings_run(name: str) -> None:
    module = importlib.import_module(name)
    result = doctest.testmod(module, extraglobs={"jnp": jnp})
    assert result.attempted > 0
    assert result.failed == 0
