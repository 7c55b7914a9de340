from __future__ import annotations

import pytest

from shaders.errors import ShaderError
from shaders.kernel import DTYPES, Parameter
from shaders.spirv import Builder
from shaders.spirv.grammar import Op

REGISTERS = {"bool": "bool", "bf16": "f32", "i8": "i32", "i16": "i32", "u8": "u32", "u16": "u32"}


@pytest.mark.parametrize("dtype", DTYPES)
def test_element_is_read_to_its_register_dtype(builder, dtype):
    assert builder.buffer(dtype)[0].dtype == REGISTERS.get(dtype, dtype)


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("dtype", DTYPES)
def test_elements_are_read_and_written_in_groups(build, dtype, width):
    def write(b):
        x, i = b.buffer(dtype), b.global_id(0)
        x.store(i * width, x.load(i * width + 4, vector=width))

    build(write)


@pytest.mark.parametrize("index", ["i32", "u32", "i64", "u64"])
def test_index_may_be_any_integer(build, index):
    build(lambda b: b.buffer("f32").store(b.buffer(index)[0], b.buffer("f32")[b.buffer(index)[1]]))


@pytest.mark.parametrize("dtype", ["f16", "bf16", "i8", "f32"])
def test_words_are_read_as_they_lie(build, dtype, opcodes):
    kernel = build(lambda b: b.buffer("u32").store(0, b.buffer(dtype).load_words(3, 4)))
    assert not {Op.FConvert, Op.UConvert, Op.SConvert} & set(opcodes(kernel))


@pytest.mark.parametrize("dtype", ["f16", "bf16", "i8", "f32"])
def test_words_are_written_as_they_are(build, dtype, opcodes):
    def write(b):
        b.buffer(dtype).store_words(3, b.buffer("u32").load(0, vector=4))

    kernel = build(write)
    assert not {Op.FConvert, Op.UConvert, Op.SConvert} & set(opcodes(kernel))
    assert "Aligned 16" in kernel.text()


def test_words_are_not_written_to_what_is_read_only():
    b = Builder("kernel", parameters=[Parameter("x", "f16", "r")])
    with pytest.raises(ShaderError, match="may write only buffers declared so"):
        b.buffer("x").store_words(0, b.const("u32", 1))


def test_wide_index_is_added_to_the_address(build, opcodes):
    # A block's offsets are 32 bits wide in some drivers, however wide the index.
    assert Op.ConvertUToPtr not in opcodes(build(lambda b: b.buffer("f32").store(b.const("u32", 8), 1.0)))
    assert Op.ConvertUToPtr in opcodes(build(lambda b: b.buffer("f32").store(b.const("u64", 8), 1.0)))


def test_float_narrows_to_half_where_it_is_written(build):
    assert "OpFConvert" in build(lambda b: b.buffer("f16").store(0, b.buffer("f32")[0])).text()


def test_loads_say_their_alignment(build):
    text = build(lambda b: b.buffer("f32").store(0, b.buffer("f32").load(0, vector=4))).text()
    assert "Aligned 16" in text


def test_read_only_buffers_are_declared_so():
    b = Builder("kernel", parameters=[Parameter("x", "f32", "r"), Parameter("y", "f32", "w")])
    b.buffer("y")[0] = b.buffer("x")[0]
    text = b.finish().text()
    assert "NonWritable" in text
    assert "NonReadable" in text


@pytest.mark.parametrize(
    ("access", "use", "message"),
    [
        ("r", lambda x: x.store(0, 1.0), "may write only"),
        ("w", lambda x: x[0], "may read only"),
        ("w", lambda x: x.atomic("add", 0, 1.0), "may update only"),
    ],
)
def test_access_that_was_not_declared_is_refused(access, use, message):
    b = Builder("kernel", parameters=[Parameter("x", "f32", access)])
    with pytest.raises(ShaderError, match=message):
        use(b.buffer("x"))


def test_wrong_register_dtype_is_refused(builder):
    with pytest.raises(ShaderError, match=r"written to f32 must have its register dtype.\n  got:  .*i32"):
        builder.buffer("f32")[0] = builder.buffer("i32")[0]


def test_unknown_buffer_lists_the_known_ones(builder):
    with pytest.raises(ShaderError, match=r"(?s)got:  'weights'.*want: bool, i8"):
        builder.buffer("weights")


def test_odd_vector_is_refused(builder):
    with pytest.raises(ShaderError, match="2 or 4 wide"):
        builder.buffer("f32").load(0, vector=3)


@pytest.mark.parametrize("dtype", ["i32", "u32", "i64", "u64"])
@pytest.mark.parametrize("operation", ["add", "min", "max", "and", "or", "xor", "exchange"])
def test_atomics_on_buffers_and_shared_memory(build, dtype, operation):
    def write(b):
        x, s = b.buffer(dtype), b.shared(dtype, 8)
        x[1] = x.atomic(operation, 0, x[2]) + s.atomic(operation, 0, 3)
        x[2] = x.compare_exchange(0, 1, x[2]) + s.compare_exchange(1, 2, 3)

    if dtype[1:] == "64":  # shared 64-bit atomics are a feature of their own; validity is the same

        def write_buffer(b):
            x = b.buffer(dtype)
            x[1] = x.atomic(operation, 0, x[2]) + x.compare_exchange(0, 1, x[2])

        build(write_buffer)
    else:
        build(write)


def test_float_atomic_add_declares_its_extension(build):
    text = build(lambda b: b.buffer("f32").atomic("add", 0, 1.0)).text()
    assert 'OpExtension "SPV_EXT_shader_atomic_float_add"' in text


def test_narrow_atomic_is_refused(builder):
    with pytest.raises(ShaderError, match="32 or 64 bits"):
        builder.buffer("i8").atomic("add", 0, 1)


def test_float_atomic_minimum_is_refused(builder):
    with pytest.raises(ShaderError, match="Operation atomic min"):
        builder.buffer("f32").atomic("min", 0, 1.0)


@pytest.mark.parametrize("dtype", [*DTYPES, ("u32", 4), ("f32", 2)])
def test_shared_memory_holds_every_dtype(build, dtype):
    def write(b):
        s = b.shared(dtype, 64)
        value = s[b.local_index]
        b.barrier()
        s[b.local_index ^ 1] = value

    build(write)


def test_shared_bytes_are_counted(build):
    def write(b):
        b.shared("f32", 5)
        b.shared("bool", 4)
        b.shared("bf16", 1)

    assert build(write).shared_bytes == 32 + 16 + 16


def test_variables_hold_values_and_arrays(build):
    def write(b):
        v, a = b.variable("f32", 0.0), b.variable("u32", 1, count=4)
        v.store(v.load() + 1.0)
        a[b.global_id(0) & 3] = a[2] + 1
        b.buffer("f32")[0] = v.load() + b.convert(a[0], "f32")

    build(write)


def test_variable_keeps_its_dtype(builder):
    with pytest.raises(ShaderError, match="A variable holds one dtype"):
        builder.variable("f32").store(builder.buffer("i32")[0])


def test_scalar_variable_has_no_elements(builder):
    with pytest.raises(ShaderError, match="Only an array has elements"):
        builder.variable("f32")[0]


def test_sixteen_bit_buffers_alone_need_wide_addresses(build, opcodes):
    assert Op.ConvertUToPtr in opcodes(build(lambda b: b.buffer("f16").store(0, b.buffer("f16")[1])))
    assert Op.ConvertUToPtr not in opcodes(build(lambda b: b.buffer("f32").store(0, b.buffer("f32")[1])))


def test_float_index_is_refused(builder):
    with pytest.raises(ShaderError, match="An index must be an integer"):
        builder.buffer("f32")[builder.buffer("f32")[0]]
