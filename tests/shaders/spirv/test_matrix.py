from __future__ import annotations

import pytest

from shaders.errors import ShaderError
from shaders.spirv.grammar import MemoryAccess, Op
from shaders.spirv.text import instructions


def types(b, scope="subgroup", inputs="f16", sums="f32", m=16, n=16, k=16):
    return (
        b.matrix_type(inputs, m, k, "a", scope),
        b.matrix_type(inputs, k, n, "b", scope),
        b.matrix_type(sums, m, n, "accumulator", scope),
    )


@pytest.mark.parametrize(
    ("inputs", "sums"), [("f16", "f32"), ("f16", "f16"), ("bf16", "f32"), ("i8", "i32"), ("u8", "u32")]
)
def test_products_from_buffers(build, inputs, sums):
    def write(b):
        a, bb, c = types(b, inputs=inputs, sums=sums)
        x, o = b.buffer(inputs), b.buffer(sums)

        def step(k, total):
            left = b.matrix_load(a, x.pointer(k), 64)
            right = b.matrix_load(bb, x.pointer(k * 16), 16, column_major=True)
            return [b.matrix_multiply_add(left, right, total[0])]

        (total,) = b.loop(0, b.buffer("u32")[0], 16, [b.const(c, 0)], step)
        b.matrix_store(o.pointer(0), total, 16)

    build(write)


def test_products_from_shared_memory(build):
    def write(b):
        a, bb, c = types(b)
        s = b.shared("f16", 512)
        s[b.local_index] = b.buffer("f16")[b.local_index]
        b.barrier()
        left, right = b.matrix_load(a, s.pointer(0), 16), b.matrix_load(bb, s.pointer(256), 16)
        b.matrix_store(b.buffer("f32").pointer(0), b.matrix_multiply_add(left, right, b.const(c, 0.0)), 16)

    build(write)


def test_accumulators_combine_by_element(build):
    def write(b):
        *_, c = types(b)
        o = b.buffer("f32")
        x = b.matrix_load(c, o.pointer(0), 16)
        x = (x + x - x * x) / x * 2.0 * o[0]
        x = b.matrix_map(lambda e, f: b.math("exp", e) + f, -x, x)
        b.matrix_store(b.buffer("f16").pointer(0), b.convert(x, "f16"), 16)

    build(write)


def test_integer_products_say_which_operands_are_signed(build):
    def write(b):
        a, bb, c = types(b, inputs="i8", sums="i32", k=32)
        left = b.matrix_load(a, b.buffer("i8").pointer(0), 32)
        right = b.matrix_load(bb, b.buffer("i8").pointer(0), 16)
        b.matrix_store(b.buffer("i32").pointer(0), b.matrix_multiply_add(left, right, b.const(c, 0), saturate=True), 16)

    text = build(write).text()
    for operand in ("MatrixASigned", "MatrixBSigned", "MatrixCSigned", "MatrixResultSigned", "SaturatingAccumulation"):
        assert operand in text


def test_workgroup_matrices_with_tensor_addressing(build):
    def write(b):
        a, bb, c = types(b, "workgroup", m=64, n=64, k=32)
        x = b.buffer("f16")
        layout = b.tensor_layout([128, 96], strides=[96, 1], clamp="constant", clamp_value=0)
        left = b.matrix_load_tensor(a, x.pointer(0), b.tensor_slice(layout, [(b.group_id(0) * 64, 64), (0, 32)]))
        transposed = b.tensor_clip(b.tensor_view((1, 0)), (0, 32), (0, 60))
        right = b.matrix_load_tensor(bb, x.pointer(0), b.tensor_slice(layout, [(0, 64), (0, 32)]), transposed, fill=1.0)
        total = b.matrix_multiply_add(left, right, b.const(c, 0.0))
        b.matrix_store_tensor(b.buffer("f32").pointer(0), total, b.tensor_slice(layout, [(0, 64), (0, 64)]))

    build(write, workgroup=(128, 1, 1))


@pytest.mark.parametrize("along", ["row", "column", "all"])
def test_reductions_per_element_and_changes_of_use(build, along):
    def write(b):
        a, bb, c = types(b)
        x = b.matrix_load(c, b.buffer("f32").pointer(0), 16)
        add = b.function("add", "f32", ["f32", "f32"], lambda p, q: p + q)
        shift = b.function(
            "shift", "f32", ["u32", "u32", "f32", "f32", "u32"], lambda r, k, e, m, n: b.select(k > r + n, e - m, e)
        )
        x = b.matrix_per_element(x, shift, b.matrix_reduce(x, c, along, add), 3)
        left = b.matrix_convert(x, a)
        right = b.matrix_transpose(b.convert(x, "f16"), bb)
        b.matrix_store(b.buffer("f32").pointer(0), b.matrix_multiply_add(left, right, x), 16)

    build(write)


def test_blocks_of_two_by_two_reduce(build):
    def write(b):
        *_, c = types(b)
        add = b.function("add", "f32", ["f32", "f32"], lambda p, q: p + q)
        half = b.matrix_type("f32", 8, 8, "accumulator")
        x = b.matrix_reduce(b.matrix_load(c, b.buffer("f32").pointer(0), 16), half, "2x2", add)
        b.matrix_store(b.buffer("f32").pointer(0), x, 8)

    build(write)


def test_matrices_cross_blocks_in_variables(build):
    def write(b):
        *_, c = types(b)
        x, n = b.buffer("f32"), b.buffer("u32")[0]
        one, number = b.matrix_load(c, x.pointer(0), 16), x[0]
        one, number = b.branch(n < 4, lambda: [one * 2.0, number], lambda: [one, number + 1.0])
        one, number = b.loop(0, n, 1, [one, number], lambda i, v: [v[0] + v[0], v[1] * 2.0])
        b.matrix_store(x.pointer(0), one * number, 16)

    kernel = build(write)
    matrix = next(words[0] for opcode, words in instructions(kernel.words) if opcode == Op.TypeCooperativeMatrixKHR)
    phis = [words[0] for opcode, words in instructions(kernel.words) if opcode == Op.Phi]
    assert len(phis) == 3
    assert matrix not in phis


def test_product_of_wrong_sizes_is_refused(builder):
    a, _, c = types(builder)
    left = builder.matrix_load(a, builder.buffer("f16").pointer(0), 16)
    with pytest.raises(ShaderError, match=r"want: a\[m, k\] @ b\[k, n\]"):
        builder.matrix_multiply_add(left, left, builder.const(c, 0.0))


def test_per_element_function_must_fit(builder):
    *_, c = types(builder)
    wrong = builder.function("wrong", "f32", ["f32"], lambda e: e)
    with pytest.raises(ShaderError, match="per-element function"):
        builder.matrix_per_element(builder.const(c, 0.0), wrong)


def test_matrices_bring_the_vulkan_memory_model(build):
    def write(b):
        *_, c = types(b)
        s = b.shared("f32", 256)
        s[b.local_index] = b.buffer("f32")[0]
        b.barrier()
        b.buffer("u32").atomic("add", 0, 1)
        b.matrix_store(b.buffer("f32").pointer(0), b.matrix_load(c, s.pointer(0), 16), 16)

    text = build(write).text()
    assert "OpMemoryModel PhysicalStorageBuffer64 Vulkan" in text
    assert "OpCapability VulkanMemoryModelDeviceScope" not in text


def test_kernels_without_matrices_keep_the_simple_memory_model(build):
    text = build(lambda b: b.shared("f32", 4).store(0, 1.0)).text()
    assert "OpMemoryModel PhysicalStorageBuffer64 GLSL450" in text
    assert "NonPrivatePointer" not in text


def test_read_only_buffers_stay_private():
    from shaders.kernel import Parameter
    from shaders.spirv import Builder

    b = Builder("kernel", parameters=[Parameter("x", "f32", "r"), Parameter("y", "f32", "rw")])
    c = b.matrix_type("f32", 16, 16, "accumulator")
    for name in ("x", "y"):
        b.matrix_store(b.buffer("y").pointer(0), b.matrix_load(c, b.buffer(name).pointer(0), 16), 16)
    masks = [words[5] for opcode, words in instructions(b.finish().words) if opcode == Op.CooperativeMatrixLoadKHR]
    assert [bool(mask & MemoryAccess.NonPrivatePointer) for mask in masks] == [False, True]
