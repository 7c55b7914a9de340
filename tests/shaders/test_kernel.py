from __future__ import annotations

import dataclasses

import pytest

from shaders.errors import ShaderError
from shaders.kernel import DTYPES, Parameter
from shaders.spirv import Builder


@pytest.mark.parametrize("dtype", DTYPES)
def test_parameter_takes_every_dtype(dtype):
    assert Parameter("x", dtype, "r").dtype == dtype


def test_parameter_refuses_an_unknown_dtype():
    with pytest.raises(ShaderError, match=r"(?s)x must have a known element type.*got:  'float'"):
        Parameter("x", "float", "r")


def test_parameter_refuses_an_unknown_access():
    with pytest.raises(ShaderError, match="want: r, w or rw"):
        Parameter("x", "f32", "readwrite")


def test_kernel_is_frozen():
    kernel = Builder("kernel").finish()
    with pytest.raises(dataclasses.FrozenInstanceError):
        kernel.name = "other"


def test_kernel_text_names_the_entry_point():
    assert 'OpEntryPoint GLCompute %kernel "kernel"' in Builder("kernel").finish().text()
