from __future__ import annotations

import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shaders.errors import ShaderError
from shaders.kernel import Parameter
from shaders.spirv import Builder

NUMPY = {"i32": np.int32, "u32": np.uint32, "i64": np.int64, "u64": np.uint64}
WRAPPING = (operator.add, operator.sub, operator.mul, operator.and_, operator.or_, operator.xor)


def values(*dtypes):
    b = Builder("kernel", parameters=[Parameter(dtype, dtype, "rw") for dtype in dtypes])
    return b, *(b.buffer(dtype)[0] for dtype in dtypes)


@given(
    dtype=st.sampled_from(sorted(NUMPY)), left=st.integers(-(2**63), 2**63), right=st.integers(-(2**63), 2**63),
    apply=st.sampled_from(WRAPPING),
)  # fmt: skip
def test_known_integers_fold_as_the_device_computes(dtype, left, right, apply):
    b, _ = values(dtype)
    bits = NUMPY[dtype](0).nbytes * 8
    left, right = (int(np.uint64(n & (2**bits - 1)).astype(NUMPY[dtype])) for n in (left, right))
    with np.errstate(over="ignore"):
        expected = int(apply(NUMPY[dtype](left), NUMPY[dtype](right)))
    assert apply(b.const(dtype, left), b.const(dtype, right)).constant == expected


@given(left=st.integers(-(2**31), 2**31 - 1), right=st.integers(-(2**31), 2**31 - 1).filter(bool))
def test_known_division_truncates_and_remainder_follows_the_dividend(left, right):
    b, _ = values("i32")
    quotient, remainder = b.const("i32", left) // right, b.const("i32", left) % right
    exact = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
    assert quotient.constant == (exact if exact < 2**31 else exact - 2**32)
    assert remainder.constant == left - exact * right


@pytest.mark.parametrize("dtype", ["i32", "u32", "u64"])
def test_neutral_elements_emit_nothing(dtype):
    b, x = values(dtype)
    mark = len(b.code)
    for same in (x + 0, 0 + x, x - 0, x * 1, 1 * x, x // 1, x / 1, x | 0, x ^ 0, x << 0, x >> 0):
        assert same is x
    assert (x * 0).constant == 0
    assert (x & 0).constant == 0
    assert len(b.code) == mark


def test_float_one_is_neutral_and_zero_is_not():
    _, x = values("f32")
    assert x * 1.0 is x
    assert x / 1 is x
    assert x + 0.0 is not x
    assert x * 0.0 is not x


def test_unsigned_powers_of_two_become_shifts_and_masks():
    _, x = values("u32")
    assert (x // 8).id == (x >> 3).id
    assert (x % 8).id == (x & 7).id


def test_signed_powers_of_two_stay_divisions():
    _, x = values("i32")
    assert (x // 8).id != (x >> 3).id


def test_division_by_a_known_zero_is_left_to_the_device():
    _, x = values("u32")
    assert (x // 0).constant is None
    assert (x % 0).constant is None


def test_shift_past_the_width_is_left_to_the_device():
    b, _ = values("u32")
    assert (b.const("u32", 1) << 32).constant is None
    assert (b.const("u32", 1) << 31).constant == 2**31


def test_known_condition_selects_without_an_instruction():
    b, x = values("f32")
    assert b.select(b.const("u32", 1) < 2, x, 0.0) is x


def test_known_bool_absorbs_or_vanishes():
    _, m = values("bool")
    assert m & True is m
    assert m | False is m
    assert (m & False).constant is False
    assert (m | True).constant is True


def test_constant_sign_of_zero_is_kept():
    b, _ = values("f32")
    assert b.const("f32", 0.0).id != b.const("f32", -0.0).id


def test_constants_are_interned_even_nan():
    b, _ = values("f32")
    assert b.const("f32", float("nan")).id == b.const("f32", float("nan")).id
    assert b.const("i32", 7) is b.const("i32", 7)


def test_negative_number_wraps_into_an_unsigned_dtype():
    b, _ = values("u32")
    assert b.const("u32", -1).constant == 2**32 - 1


@pytest.mark.parametrize(("dtype", "number"), [("i32", 0.5), ("i32", 2**32), ("u32", -(2**31) - 1), ("bool", 2)])
def test_constant_without_exact_value_is_refused(dtype, number):
    b, _ = values("i32")
    with pytest.raises(ShaderError, match="must have an exact"):
        b.const(dtype, number)


def test_product_is_undone_where_a_vector_is_reached():
    b, _ = values("f32")
    i = b.global_id(0)
    pointer = b.buffer("f32").pointer(i * 4, vector=4)
    assert pointer.id == b.buffer("f32").pointer(i * 4, vector=4).id
    assert b.divide_exactly(i * 12, 4).id == (i * 3).id
