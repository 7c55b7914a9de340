from __future__ import annotations

import pytest

from shaders.errors import ShaderError
from shaders.spirv.grammar import Op


def test_loop_carries_values_of_several_dtypes(build):
    def write(b):
        x, n = b.buffer("f32"), b.buffer("u32")[0]
        s, c = b.loop(0, n, 1, [x[0], n], lambda i, c: [c[0] + x[i], c[1] ^ i])
        x[1] = s + b.convert(c, "f32")

    build(write)


@pytest.mark.parametrize("unroll", [None, True, False])
def test_loop_takes_a_hint(build, unroll):
    text = build(lambda b: b.loop(0, b.buffer("u32")[0], 2, [], lambda i, c: None, unroll=unroll)).text()
    hint = {None: "None", True: "Unroll", False: "DontUnroll"}[unroll]
    assert f" {hint}\n" in text[text.index("OpLoopMerge") :]


def test_loop_counts_down(build, opcodes):
    kernel = build(lambda b: b.loop(10, 0, -3, [], lambda i, c: b.buffer("i32").store(i, i)))
    assert Op.SGreaterThan in opcodes(kernel)


@pytest.mark.parametrize(("stop", "trips"), [(0, 0), (1, 1)])
def test_loop_of_at_most_one_known_trip_is_no_loop(build, opcodes, stop, trips):
    seen = []

    def write(b):
        seen.append(0)
        b.loop(0, stop, 1, [], lambda i, c: seen.append(i.constant))

    assert Op.LoopMerge not in opcodes(build(write))
    assert len(seen) == 3 * (1 + trips)


def test_loops_nest_and_branch_inside(build):
    def write(b):
        x, n = b.buffer("f32"), b.buffer("u32")[0]

        def row(i, total):
            inner = b.loop(0, i, 1, total, lambda j, c: [c[0] + x[j]])
            return b.branch(inner[0] > 1.0, lambda: [inner[0] * 0.5], lambda: inner)

        x[0] = b.loop(0, n, 1, [x[0]], row)[0]

    build(write)


def test_loop_must_renew_every_carry(builder):
    zero = builder.const("f32", 0.0)
    with pytest.raises(ShaderError, match=r"(?s)Every path of a loop.*got:  nothing.*want: f32"):
        builder.loop(0, builder.buffer("u32")[0], 1, [zero], lambda i, c: [])


def test_unsigned_loop_cannot_count_down(builder):
    with pytest.raises(ShaderError, match="must have a signed index"):
        builder.loop(builder.buffer("u32")[0], 0, -1, [], lambda i, c: None)


def test_loop_bounds_have_one_dtype(builder):
    with pytest.raises(ShaderError, match="start, stop and step must have one dtype"):
        builder.loop(builder.buffer("u32")[0], builder.buffer("i32")[0], 1, [], lambda i, c: None)


def test_while_condition_may_branch(build):
    def write(b):
        x = b.buffer("f32")

        def condition(c):
            return b.branch(c[0] > 2.0, lambda: c[0] < x[1], lambda: c[0] < x[2])[0]

        x[0] = b.while_loop(condition, lambda c: c[0] * 2.0, [x[0]])[0]

    build(write)


def test_branch_joins_values(build, opcodes):
    def write(b):
        x, i = b.buffer("f32"), b.global_id(0)
        x[i] = b.branch(i < 4, lambda: [x[0]], lambda: [x[1]])[0]

    assert Op.Phi in opcodes(build(write))


def test_branch_paths_give_the_same_dtypes(builder):
    with pytest.raises(ShaderError, match="Every path of a branch"):
        builder.branch(builder.global_id(0) < 4, lambda: [builder.buffer("f32")[0]], lambda: [builder.buffer("i32")[0]])


def test_branch_that_leaves_needs_no_join(build):
    def write(b):
        x, i = b.buffer("f32"), b.global_id(0)
        x[i] = b.branch(i < 4, b.return_, lambda: [x[1]])[0]

    build(write)


def test_both_paths_may_leave(build):
    build(lambda b: b.branch(b.global_id(0) < 4, b.return_, b.return_))


def test_known_condition_keeps_one_path(build, opcodes):
    def write(b):
        b.when(b.const("u32", 1) < 2, lambda: b.buffer("f32").store(0, 1.0))
        b.when(False, lambda: b.buffer("f32").store(1, 1.0))

    assert opcodes(build(write)).count(Op.Store) == 1


def test_switch_joins_values(build):
    def write(b):
        x, i = b.buffer("f32"), b.global_id(0)
        x[i] = b.switch(i % 3, {0: lambda: [x[0]], 2: lambda: [x[1] * 2.0]}, lambda: [x[2]])[0]
        b.switch(b.buffer("i32")[0], {-1: lambda: x.store(0, 1.0)}, lambda: None)

    build(write)


def test_switch_by_a_wide_selector_is_refused(builder):
    with pytest.raises(ShaderError, match="select by 32 bits"):
        builder.switch(builder.buffer("u64")[0], {}, lambda: None)


def test_source_lines_reach_every_block(build):
    def write(b):
        b.source("model.py", 31)
        b.when(b.global_id(0) < 4, lambda: b.buffer("f32").store(0, b.buffer("f32")[1]))

    text = build(write).text()
    assert '"model.py"' in text
    assert text.count("OpLine") == 3


def test_rounds_of_loops_multiply_where_they_nest(build):
    counted = []

    def write(b):
        b.loop(0, 100, 1, [], lambda i, c: b.loop(i, 31, 2, [], lambda j, d: b.buffer("u32").store(j, i)) and None)
        b.while_loop(lambda c: c[0] < b.buffer("u32")[0], lambda c: [c[0] + 1], [b.const("u32", 0)], most=7)
        counted.append(b.loop_rounds)

    build(write)
    assert set(counted) == {100 * (1 + 16) + 7}
