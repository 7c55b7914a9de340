"""Kernels of the second table on the device give what JAX's interpreter gives."""

from __future__ import annotations

from typing import Any

import pytest

from .kernels_of_tiles import CASES
from .running import assert_as_interpreted


@pytest.mark.parametrize("name", CASES)
def test_kernel_gives_what_the_interpreter_gives(name: str, vulkan: Any) -> None:
    assert_as_interpreted(CASES[name], vulkan)
