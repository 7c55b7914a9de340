from __future__ import annotations

import pytest

from shaders.errors import ShaderError
from shaders.spirv.mathematics import FUNCTIONS

UNARY = (
    "exp exp2 log log2 sin cos tan tanh asin acos atan sinh cosh asinh acosh atanh sqrt inverse_sqrt floor ceil trunc "
    "round_even fabs fract fsign abs sign"
).split()
ANY_FLOAT = "sqrt inverse_sqrt floor ceil trunc round_even fabs abs".split()


@pytest.mark.parametrize("dtype", ["f16", "f32"])
def test_functions_of_one_float(build, dtype):
    def write(b):
        for index, name in enumerate(UNARY):
            b.buffer(dtype)[index] = b.math(name, b.buffer(dtype)[index])

    build(write)


def test_functions_of_doubles(build):
    def write(b):
        for index, name in enumerate(ANY_FLOAT):
            b.buffer("f64")[index] = b.math(name, b.buffer("f64")[index])

    build(write)


@pytest.mark.parametrize("name", ["exp", "sin", "pow"])
def test_narrow_function_of_a_double_is_refused(builder, name):
    x = builder.buffer("f64")
    with pytest.raises(ShaderError, match=rf"Function {name} must have operands"):
        builder.math(name, *[x[0]] * (2 if name == "pow" else 1))


def test_functions_of_several_operands(build):
    def write(b):
        x, i = b.buffer("f32"), b.buffer("i32")
        for index, name in enumerate(("fmin", "fmax", "atan2", "pow", "nmin", "nmax", "step")):
            x[index] = b.math(name, x[0], x[1])
        x[8] = b.math("fma", x[0], x[1], 2.0)
        x[9] = b.math("ldexp", x[0], i[0])
        x[10] = b.math("clamp", x[0], 0.0, 1.0)
        significand, exponent = b.math("frexp", x[0])
        x[11], i[0] = significand, exponent
        fraction, whole = b.math("modf", x[0])
        x[12], x[13] = fraction, whole

    build(write)


def test_functions_of_integers(build):
    def write(b):
        for dtype in ("i32", "u32"):
            x = b.buffer(dtype)
            results = [b.math("find_msb", x[0]), b.math("find_lsb", x[0]), b.bit_count(x[0]), b.bit_reverse(x[0])]
            for index, result in enumerate([*results, b.min(x[0], 3), b.max(x[0], x[1])]):
                x[index] = result
        low, high = b.umul_extended(b.buffer("u32")[0], 3)
        b.buffer("u32")[0] = low ^ high
        b.buffer("i32")[0] = b.dot_packed(low, high, signed=True)

    build(write)


def test_vectors_are_built_and_multiplied(build):
    def write(b):
        x = b.buffer("f32")
        v = b.vector([x[0], x[1], x[2]])
        x[0] = b.dot(v, v) + b.min(v, 0.0)[1]

    build(write)


def test_vector_of_mixed_dtypes_is_refused(builder):
    with pytest.raises(ShaderError, match="2 to 4 scalars of one dtype"):
        builder.vector([builder.buffer("f32")[0], builder.buffer("i32")[0]])


def test_classification_of_floats(build):
    def write(b):
        for dtype in ("f16", "f32", "f64"):
            b.buffer("bool")[0] = b.is_nan(b.buffer(dtype)[0]) | b.is_inf(b.buffer(dtype)[0])

    build(write)


def test_select_wants_a_value(builder):
    with pytest.raises(ShaderError, match="One side of a select"):
        builder.select(builder.buffer("bool")[0], 1.0, 2.0)


def test_unknown_function_lists_the_known_ones(builder):
    with pytest.raises(ShaderError, match=r"(?s)got:  gamma.*want: abs, acos"):
        builder.math("gamma", builder.buffer("f32")[0])


def test_names_are_those_of_the_extended_set():
    assert FUNCTIONS["inverse_sqrt"] == "InverseSqrt"
    assert FUNCTIONS["fmin"] == "FMin"
    assert FUNCTIONS["round_even"] == "RoundEven"
    assert FUNCTIONS["log2"] == "Log2"


def test_no_contraction_marks_what_could_fuse(build):
    def write(b):
        x = b.buffer("f32")
        x[0] = x[0] * x[1] + x[2]

    assert build(write, no_contraction=True).text().count("NoContraction") == 2
    assert "NoContraction" not in build(write).text()
