from __future__ import annotations

import pytest

from shaders.errors import ShaderError


def test_functions_take_and_return_values(build):
    def write(b):
        x = b.buffer("f32")
        square = b.function("square", "f32", ["f32"], lambda a: a * a)
        put = b.function("put", None, ["u32", "f32"], lambda i, a: x.store(i, a + b.convert(b.global_id(0), "f32")))
        put(3, square(x[0]) + square(2.0))

    build(write)


def test_function_may_return_early(build):
    def write(b):
        def body(a):
            b.when(a < 0.0, lambda: b.return_(0.0))
            return b.math("sqrt", a)

        b.buffer("f32")[0] = b.function("root", "f32", ["f32"], body)(b.buffer("f32")[1])

    build(write)


def test_function_checks_its_arguments_and_result(builder):
    square = builder.function("square", "f32", ["f32"], lambda a: a * a)
    with pytest.raises(ShaderError, match="called with its argument dtypes"):
        square(builder.buffer("i32")[0])
    with pytest.raises(ShaderError, match="return a value of its result dtype"):
        builder.function("wrong", "f32", ["i32"], lambda a: a)
