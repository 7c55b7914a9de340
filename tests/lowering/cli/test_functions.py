from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from lowering.cli.functions import find_function, gradient_of, parse_shapes
from lowering.errors import InputError


def test_parse_shapes_reads_dtypes_and_extents() -> None:
    first, second, third = parse_shapes("f32[128,256], i8[], bf16[7]")
    assert (first.shape, first.dtype) == ((128, 256), np.float32)
    assert (second.shape, second.dtype) == ((), np.int8)
    assert (third.shape, third.dtype) == ((7,), ml_dtypes.bfloat16)


@pytest.mark.parametrize("text", ["f32", "f31[2]", "f32[2", "f32[-1]", "f32[2,]", "[2]"])
def test_parse_shapes_refuses_other_forms(text: str) -> None:
    with pytest.raises(InputError, match="Every shape must be a dtype with extents in brackets"):
        parse_shapes(text)


def test_find_function_loads_a_file(program: Path) -> None:
    assert find_function(f"{program}:double")(np.float32(0)) == 0


def test_find_function_imports_a_module() -> None:
    assert find_function("jax.nn:softmax").__name__ == "softmax"


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("double", "no colon"),
        ("nowhere.py:double", "no file nowhere.py"),
        ("no_such_module_anywhere:f", "No module named 'no_such_module_anywhere'"),
        ("math:nothing", "math has no function nothing"),
        ("math:pi", "math has no function pi"),
    ],
)
def test_find_function_says_what_it_did_not_find(text: str, got: str) -> None:
    with pytest.raises(InputError) as caught:
        find_function(text)
    assert got in str(caught.value)


def test_find_function_lists_what_the_file_has(program: Path) -> None:
    with pytest.raises(InputError, match="one of: double"):
        find_function(f"{program}:triple")


def test_gradient_of_sums_the_results() -> None:
    assert gradient_of(lambda x: (x, 2 * x))(np.float32(1)) == 3
