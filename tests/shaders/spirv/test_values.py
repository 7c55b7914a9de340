from __future__ import annotations

import operator

import pytest

from shaders.errors import ShaderError
from shaders.spirv.grammar import Op

FLOATS = ("f16", "f32", "f64")
INTEGERS = ("i32", "u32", "i64", "u64")
ARITHMETIC = (operator.add, operator.sub, operator.mul, operator.truediv, operator.mod)
BITWISE = (operator.floordiv, operator.and_, operator.or_, operator.xor, operator.lshift, operator.rshift)
COMPARISONS = (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne)


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS)
def test_arithmetic_is_valid_for_every_register(build, dtype):
    def write(b):
        x = b.buffer(dtype)
        for index, apply in enumerate(ARITHMETIC):
            x[index] = apply(x[0], x[1])
            x[index] = apply(x[0], 3)
            x[index] = apply(3, x[0])
        x[9] = -x[0]

    build(write)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_bitwise_is_valid_for_every_integer(build, dtype):
    def write(b):
        x = b.buffer(dtype)
        for index, apply in enumerate(BITWISE):
            x[index] = apply(x[0], x[1])
        x[9] = ~x[0]

    build(write)


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS)
def test_comparisons_are_valid_for_every_register(build, dtype):
    def write(b):
        x = b.buffer(dtype)
        for index, apply in enumerate(COMPARISONS):
            b.buffer("bool")[index] = apply(x[0], x[1])

    build(write)


def test_bools_combine(build):
    def write(b):
        m = b.buffer("bool")
        m[0] = (m[1] & m[2]) | ~m[3] ^ (m[4] == m[5]) & (m[6] != m[7])
        m[1] = b.logical_or(b.logical_and(m[0], True), b.logical_not(m[1]))

    build(write)


@pytest.mark.parametrize(
    ("dtype", "apply", "opcode"),
    [
        ("f32", operator.ne, Op.FUnordNotEqual),
        ("f32", operator.eq, Op.FOrdEqual),
        ("f32", operator.lt, Op.FOrdLessThan),
        ("i32", operator.lt, Op.SLessThan),
        ("u32", operator.lt, Op.ULessThan),
        ("i32", operator.rshift, Op.ShiftRightArithmetic),
        ("u32", operator.rshift, Op.ShiftRightLogical),
        ("i32", operator.floordiv, Op.SDiv),
        ("i32", operator.mod, Op.SRem),
        ("u32", operator.mod, Op.UMod),
        ("f32", operator.mod, Op.FRem),
    ],
)
def test_operator_takes_the_opcode_of_its_dtype(builder, dtype, apply, opcode):
    x = builder.buffer(dtype)
    left, right = x[0], x[1]
    mark = len(builder.code)
    apply(left, right)
    assert builder.code[mark] & 0xFFFF == opcode


def test_equal_expressions_are_emitted_once(builder):
    i = builder.global_id(0)
    first = i * 5 + 3
    mark = len(builder.code)
    assert (i * 5 + 3).id == first.id
    assert len(builder.code) == mark


def test_loads_are_never_merged(builder):
    x = builder.buffer("f32")
    assert x[0].id != x[0].id


def test_branch_does_not_reuse_what_only_another_branch_computed(build):
    def write(b):
        i, x = b.global_id(0), b.buffer("u32")
        b.when(i < 4, lambda: x.store(i, i * 7))
        b.when(i < 8, lambda: x.store(i, i * 7))
        x[i] = i * 7

    build(write)


def test_vector_and_scalar_combine_by_splat(build):
    def write(b):
        x = b.buffer("f32")
        v = x.load(0, vector=4)
        x.store(4, v * x[0] + x[1] * v + v * 2.0)
        x[0] = v[1] + v[b.global_id(0) & 3]
        x[1] = sum(v, b.const("f32", 0.0))

    build(write)


def test_mixed_dtypes_are_refused_with_four_lines(builder):
    with pytest.raises(ShaderError) as error:
        builder.buffer("f32")[0] + builder.buffer("i32")[0]
    lines = str(error.value).splitlines()
    assert lines[0] == "Operation + must have operands of one dtype."
    assert [line[:7] for line in lines[1:]] == ["  got: ", "  want:", "  fix: "]
    assert "f32" in lines[1]
    assert "i32" in lines[1]


def test_operation_without_meaning_names_what_it_takes(builder):
    with pytest.raises(ShaderError, match=r"Operation & must have operands.*\n  got:  f32\n  want: signed integer"):
        builder.buffer("f32")[0] & builder.buffer("f32")[1]


def test_value_has_no_truth(builder):
    with pytest.raises(ShaderError, match="no truth while the kernel is written"):
        bool(builder.buffer("bool")[0])


def test_component_outside_the_vector_is_refused(builder):
    with pytest.raises(ShaderError, match="0 to 3"):
        builder.buffer("f32").load(0, vector=4)[4]


def test_half_arithmetic_declares_its_capability(build):
    assert "OpCapability Float16" in build(lambda b: b.buffer("f16").store(0, b.buffer("f16")[0] + 1)).text()


def test_half_comparison_declares_its_capability(build):
    kernel = build(lambda b: b.buffer("bool").store(0, b.buffer("f16")[0] < b.buffer("f16")[1]))
    assert "OpCapability Float16" in kernel.text()


def test_half_storage_alone_needs_no_half_arithmetic(build):
    kernel = build(lambda b: b.buffer("f16").store(0, b.convert(b.buffer("f16")[0], "f32") * 2.0))
    assert "OpCapability Float16" not in kernel.text()
    assert "OpCapability StorageBuffer16BitAccess" in kernel.text()
