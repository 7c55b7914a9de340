from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from lowering import dtypes, reference
from lowering.graph import Node, Value

from ..programs import graph_of

_UNARY = {
    "real": "exp expm1 log log1p logistic sin cos tan tanh sqrt rsqrt cbrt ceil floor sign abs neg is_finite".split(),
    "complex": "exp log sin cos tanh sqrt rsqrt sign abs neg real imag conj".split(),
    "integer": "neg sign abs population_count clz bitwise_not".split(),
}
_BINARY = {
    "real": "add sub mul div rem max min pow atan2 eq lt".split(),
    "complex": "add sub mul div eq ne".split(),
    "integer": "add sub mul div rem max min bitwise_and bitwise_xor shift_left shift_right_logical "
    "shift_right_arithmetic ge".split(),
}
_DTYPES = {"real": ["f16", "bf16", "f32", "f64"], "complex": ["c64", "c128"], "integer": sorted(dtypes.INTEGERS)}
_CASES = [(family, dtype) for family, names in _DTYPES.items() for dtype in names]
# XLA's own functions are off by some units in the last place; complex ones by more.
_UNITS = {"real": 8, "complex": 64}


def samples(dtype: str, seed: int) -> np.ndarray:
    """Return ordinary numbers, and the ends of the range."""
    random = np.random.default_rng(seed)
    numpy_dtype = dtypes.NUMPY[dtype]
    if dtype in dtypes.INTEGERS:
        limits = np.iinfo(numpy_dtype)
        special = [0, 1, limits.min, limits.max, limits.max, limits.min, 2, 0, 7]
        special = special[seed:] + special[:seed]
        return np.concatenate([np.array(special, numpy_dtype), random.integers(-60, 60, 30).astype(numpy_dtype)])
    numbers = random.normal(size=40) * 2
    if dtype in dtypes.COMPLEX:
        return (numbers + 1j * random.normal(size=40)).astype(numpy_dtype)
    special = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 0.5, -2.5, 3.5]
    special = special[seed:] + special[:seed]
    return np.concatenate([special, numbers]).astype(numpy_dtype)


def check(functions: dict[str, Callable[..., Any]], family: str, *arrays: np.ndarray) -> None:
    """Compare several functions of the same arrays, lowered as one program."""

    def together(*values: Any) -> list[Any]:
        return [function(*values) for function in functions.values()]

    with jax.enable_x64(True):
        graph = graph_of(together, *arrays)
        want = [np.asarray(array) for array in jax.jit(together)(*arrays)]
    for name, mine, theirs in zip(functions, reference.run(graph, *arrays), want, strict=True):
        compare(name, family, mine, theirs)


def compare(name: str, family: str, got: np.ndarray, want: np.ndarray) -> None:
    assert got.dtype == want.dtype
    dtype = dtypes.NAMES[got.dtype]
    if dtype in dtypes.INTEGERS | {"bool"}:
        np.testing.assert_array_equal(got, want, err_msg=name)
        return
    eps = _UNITS[family] * float(jnp.finfo(dtypes.NUMPY[dtypes.real_part(dtype)]).eps)
    wide = np.complex128 if dtype in dtypes.COMPLEX else np.float64
    np.testing.assert_allclose(got.astype(wide), want.astype(wide), rtol=eps, atol=eps, err_msg=name)


@pytest.mark.parametrize(("family", "dtype"), _CASES)
def test_unary_operations_agree_with_xla(family: str, dtype: str) -> None:
    names = [name for name in _UNARY[family] if name != "abs" or dtype not in dtypes.UNSIGNED]
    check({name: getattr(lax, name) for name in names}, family, samples(dtype, 0))


@pytest.mark.parametrize(("family", "dtype"), _CASES)
@pytest.mark.parametrize("shift", [1, 3, 4])
def test_binary_operations_agree_with_xla(family: str, dtype: str, shift: int) -> None:
    functions = {name: getattr(lax, name) for name in _BINARY[family]}
    check(functions, family, samples(dtype, 0), samples(dtype, shift))


# JAX warns that a complex number loses its imaginary part; that it does is what the test is about.
@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")
@pytest.mark.parametrize("source", dtypes.NUMPY)
def test_convert_agrees_with_xla(source: str) -> None:
    array = samples("i8", 0).astype(np.bool_) if source == "bool" else samples(source, 0)
    targets = {name: partial(lax.convert_element_type, new_dtype=dtype) for name, dtype in dtypes.NUMPY.items()}
    check(targets, "real", array)


@pytest.mark.parametrize(
    ("value", "target", "want"),
    [
        (300.7, "u8", 255),
        (-5.5, "u8", 0),
        (-5.5, "i8", -5),
        (np.nan, "i32", 0),
        (np.inf, "i32", 2**31 - 1),
        (-np.inf, "i64", -(2**63)),
        (3e9, "i32", 2**31 - 1),
        (1e20, "u64", 2**64 - 1),
    ],
)
def test_convert_saturates(value: float, target: str, want: int) -> None:
    x, y = Value(0, "f32", ()), Value(1, target, ())
    (got,) = reference.evaluate(Node("convert", (x,), (y,)), [np.array(value, np.float32)])
    assert int(got) == want


@pytest.mark.parametrize(
    ("dividend", "divisor", "quotient", "rest"), [(7, 0, -1, 7), (-(2**31), -1, -(2**31), 0), (-7, 2, -3, -1)]
)
def test_integer_division_has_xlas_corners(dividend: int, divisor: int, quotient: int, rest: int) -> None:
    x, y = np.array(dividend, np.int32), np.array(divisor, np.int32)
    graph = graph_of(lambda a, b: (lax.div(a, b), lax.rem(a, b)), x, y)
    assert [int(array) for array in reference.run(graph, x, y)] == [quotient, rest]


def test_reduce_precision_agrees_with_xla() -> None:
    formats = [(8, 7), (5, 10), (4, 3), (5, 2), (8, 23), (3, 1)]
    random = np.random.default_rng(0)
    spread = (random.normal(size=200) * 10.0 ** random.integers(-8, 8, 200)).astype(np.float32)
    functions = {str(f): partial(lax.reduce_precision, exponent_bits=f[0], mantissa_bits=f[1]) for f in formats}
    check(functions, "real", np.concatenate([samples("f32", 0), spread]))
