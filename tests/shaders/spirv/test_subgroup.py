from __future__ import annotations

import pytest

from shaders.errors import ShaderError
from shaders.spirv.grammar import Op

NUMBERS = ("f16", "f32", "f64", "i32", "u32", "i64")


@pytest.mark.parametrize("operation", ["add", "mul", "min", "max"])
@pytest.mark.parametrize("dtype", NUMBERS)
def test_numbers_reduce_and_scan(build, dtype, operation):
    def write(b):
        x = b.buffer(dtype)
        x[0] = b.subgroup_reduce(operation, x[0])
        x[1] = b.subgroup_scan(operation, x[0])
        x[2] = b.subgroup_scan(operation, x[0], exclusive=True)

    build(write)


@pytest.mark.parametrize("operation", ["and", "or", "xor"])
def test_bits_and_bools_reduce(build, operation):
    def write(b):
        b.buffer("u32")[0] = b.subgroup_reduce(operation, b.buffer("u32")[0])
        b.buffer("bool")[0] = b.subgroup_reduce(operation, b.buffer("bool")[0])

    build(write)


def test_values_move_between_lanes(build):
    def write(b):
        x, lane = b.buffer("f32"), b.lane
        moved = [b.shuffle(x[0], lane ^ 3), b.shuffle_xor(x[0], 1), b.shuffle_up(x[0], 1), b.shuffle_down(x[0], 1)]
        for index, value in enumerate([*moved, b.broadcast(x[0], 2), b.broadcast_first(x[0])]):
            x[index] = value

    build(write)


def test_votes(build):
    def write(b):
        m = b.buffer("bool")
        m[0] = b.any(m[0]) | b.all(m[1]) | b.elect()
        b.buffer("u32")[0] = b.ballot(m[0])[0]

    build(write)


def test_lane_is_unsigned(builder):
    with pytest.raises(ShaderError, match="A lane must be u32"):
        builder.shuffle(builder.buffer("f32")[0], builder.buffer("i32")[0])


def test_unknown_reduction_lists_the_known_ones(builder):
    with pytest.raises(ShaderError, match=r"(?s)got:  mean.*want: add, mul"):
        builder.subgroup_reduce("mean", builder.buffer("f32")[0])


def test_required_subgroup_size_is_a_constant(build):
    seen = []
    build(lambda b: seen.append(b.subgroup_size.constant), subgroup_size=16)
    assert seen == [16, 16, 16]


@pytest.mark.parametrize("scope", ["subgroup", "workgroup", "device"])
def test_barriers(build, opcodes, scope):
    def write(b):
        b.barrier()
        b.memory_barrier(scope)

    assert {Op.ControlBarrier, Op.MemoryBarrier} <= set(opcodes(build(write)))


def test_unknown_scope_is_refused(builder):
    with pytest.raises(ShaderError, match="known scope"):
        builder.memory_barrier("galaxy")
