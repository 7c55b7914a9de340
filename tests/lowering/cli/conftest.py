"""A file with a function, for the commands that take one."""

from __future__ import annotations

from pathlib import Path

import pytest

PROGRAM = """
import jax.numpy as jnp

def double(x):
    return jnp.tanh(x) * 2

SIZE = 3
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    file = tmp_path / "inspected_program.py"
    file.write_text(PROGRAM)
    return file
