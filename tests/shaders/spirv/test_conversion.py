from __future__ import annotations

import itertools

import pytest

from shaders.errors import ShaderError
from shaders.spirv.grammar import Op

REGISTERS = ("bool", "i32", "u32", "i64", "u64", "f16", "f32", "f64")
NARROW = ("i8", "u8", "i16", "u16")


@pytest.mark.parametrize(("source", "target"), list(itertools.permutations(REGISTERS, 2)))
def test_every_register_converts_to_every_other(build, source, target):
    build(lambda b: b.buffer(target).store(0, b.convert(b.buffer(source)[0], target)))


@pytest.mark.parametrize(("source", "narrow"), list(itertools.product(REGISTERS, NARROW)))
def test_narrow_registers_exist_where_asked_for(build, source, narrow):
    def write(b):
        value = b.convert(b.buffer(source)[0], narrow)
        b.buffer("i32")[0] = b.convert(value + value, "i32")
        b.buffer(narrow)[0] = value

    build(write)


def test_vectors_convert_by_component(build):
    build(lambda b: b.buffer("i32").store(0, b.convert(b.buffer("f32").load(0, vector=4), "i32")))


def test_conversion_to_itself_is_nothing(builder):
    value = builder.buffer("f32")[0]
    assert builder.convert(value, "f32") is value


@pytest.mark.parametrize(
    ("source", "number", "target", "expected"),
    [
        ("i32", -1, "u32", 2**32 - 1),
        ("u32", 2**31, "i32", -(2**31)),
        ("i64", 2**40 + 5, "i8", 5),
        ("i32", 3, "f32", 3.0),
    ],
)
def test_known_numbers_convert_without_an_instruction(builder, source, number, target, expected):
    assert builder.convert(builder.const(source, number), target).constant == expected


def test_known_float_is_left_to_the_device(builder):
    assert builder.convert(builder.const("f32", 2.5), "i32").constant is None


@pytest.mark.parametrize(("source", "target"), [("f32", "u32"), ("i32", "f32"), ("u64", "f64"), ("u64", ("u32", 2))])
def test_bits_are_kept(build, source, target):
    build(lambda b: b.bitcast(b.buffer(source)[0], target))


def test_bitcast_of_another_width_is_refused(builder):
    with pytest.raises(ShaderError, match="must keep the number of bits"):
        builder.bitcast(builder.buffer("f32")[0], "u64")


def test_bf16_rounds_with_integers_alone(builder):
    mark = len(builder.code)
    builder.pack_bf16(builder.unpack_bf16(builder.const("u32", 0x3F80)) * builder.buffer("f32")[0])
    used, at = set(), mark
    while at < len(builder.code):
        used.add(builder.code[at] & 0xFFFF)
        at += builder.code[at] >> 16
    assert Op.FConvert not in used
