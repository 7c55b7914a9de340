from __future__ import annotations

import pytest

from shaders.errors import ShaderError
from shaders.kernel import Parameter
from shaders.spirv import Builder
from shaders.spirv.grammar import Op
from shaders.spirv.text import instructions


def test_kernel_records_what_it_was_built_with(build):
    kernel = build(lambda b: b.shared("f32", 4), workgroup=(8, 4, 1), subgroup_size=32)
    assert kernel.name == "kernel"
    assert kernel.workgroup == (8, 4, 1)
    assert kernel.subgroup_size == 32
    assert [parameter.name for parameter in kernel.parameters][:2] == ["bool", "i8"]
    assert not kernel.guarded


def test_entry_point_has_the_kernels_name(build):
    assert '"kernel"' in next(line for line in build(lambda b: None).text().splitlines() if "OpEntryPoint" in line)


def test_kernel_without_parameters(build):
    build(lambda b: b.global_id(0), parameters=())


def test_positions(build):
    def write(b):
        u = b.buffer("u32")
        for axis in range(3):
            u[axis] = b.global_id(axis) + b.local_id(axis) + b.group_id(axis) + b.num_groups(axis)
        u[3] = b.local_index + b.subgroup_id + b.num_subgroups + b.lane + b.subgroup_size

    build(write, workgroup=(4, 2, 2))


def test_positions_first_used_inside_a_branch_dominate_the_rest(build):
    def write(b):
        b.when(b.buffer("bool")[0], lambda: b.buffer("u32").store(0, b.global_id(0) + b.lane))
        b.buffer("u32")[1] = b.global_id(0) + b.lane

    build(write)


def test_local_id_along_an_axis_of_one_is_zero(builder):
    assert builder.local_id(1).constant == 0


def test_guarded_kernel_reads_parameters_from_the_second_entry():
    def entries(guarded):
        b = Builder("kernel", parameters=[Parameter("x", "f32", "w")], guarded=guarded)
        b.buffer("x")[0] = 1.0
        text = b.finish().text()
        return [line.split()[-1] for line in text.splitlines() if "OpAccessChain" in line]

    assert "%u32_1" in entries(guarded=True)
    assert entries(guarded=False)[1] == "%u32_0"


def test_guard_ends_the_kernel_first():
    b = Builder("kernel", parameters=[Parameter("x", "f32", "w")], guarded=True)
    b.buffer("x")[0] = 1.0
    order = [opcode for opcode, _ in instructions(b.finish().words)]
    assert order.index(Op.Return) < order.index(Op.Store)


def test_specialisation_constants(build):
    kernel = build(lambda b: b.buffer("u32").store(0, b.spec_constant(3, "u32", 7)))
    assert kernel.specialization == ((3, 7),)
    assert "SpecId 3" in kernel.text()


def test_wide_specialisation_constant_is_refused(builder):
    with pytest.raises(ShaderError, match="32 bits"):
        builder.spec_constant(0, "u64", 1)


@pytest.mark.parametrize("mode", ["signed_zero_inf_nan_preserve_32", "rounding_rte_16", "denorm_flush_to_zero_32"])
def test_float_controls(build, mode):
    text = build(lambda b: None, float_controls=frozenset({mode})).text()
    assert f"OpExecutionMode %kernel {''.join(part.title() for part in mode[:-3].split('_'))[:6]}" in text


def test_unknown_float_control_is_refused():
    with pytest.raises(ShaderError, match="float control must be known"):
        Builder("kernel", float_controls=frozenset({"fast_32"}))


def test_labels_name_values(build):
    assert "%total" in build(lambda b: b.label(b.global_id(0) + 1, "total")).text()
