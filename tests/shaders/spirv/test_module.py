from __future__ import annotations

import time

import pytest

from shaders.kernel import Parameter
from shaders.spirv import Builder
from shaders.spirv.grammar import Op
from shaders.spirv.text import instructions

SECONDS_AN_INSTRUCTION = 15e-6
"""Ten times what an idle core takes: wide enough for a busy machine, narrow enough to notice a quadratic step."""


def write(rows=8):
    b = Builder("kernel", parameters=[Parameter("x", "f32", "rw")], workgroup=(8, 8, 1))
    x, s = b.buffer("x"), b.shared("f32", 1024)

    def step(k, total):
        left = [s[b.local_id(0) * rows + r + k] for r in range(rows)]
        right = [s[b.local_id(1) * rows + c + k] for c in range(rows)]
        return [left[r] * right[c] + total[r * rows + c] for r in range(rows) for c in range(rows)]

    total = b.loop(0, 16, 1, [b.const("f32", 0.0)] * (rows * rows), step)
    for index, value in enumerate(total):
        x[b.global_id(0) * (rows * rows) + index] = value
    return b.finish()


def test_same_code_gives_the_same_words():
    assert write().words == write().words


def test_ids_are_below_the_bound():
    words = memoryview(write().words).cast("I")
    assert words[3] > max(operands[1] for opcode, operands in instructions(write().words) if opcode == Op.FMul)


def test_types_are_declared_once():
    declared = [
        (opcode, *operands[1:])
        for opcode, operands in instructions(write().words)
        if opcode in (Op.TypeFloat, Op.TypeInt)
    ]
    assert len(declared) == len(set(declared))


def test_emission_stays_within_its_time():
    best = float("inf")
    for _ in range(5):
        start = time.process_time()
        kernel = write()
        best = min(best, time.process_time() - start)
    count = sum(1 for _ in instructions(kernel.words))
    assert best / count < SECONDS_AN_INSTRUCTION


@pytest.mark.parametrize("rows", [1, 2, 8])
def test_size_follows_the_code(rows):
    assert sum(opcode == Op.FMul for opcode, _ in instructions(write(rows).words)) == rows * rows


def test_entry_inside_entry_returns_to_the_entry(build):
    def code(b):
        place = b.local_id(0)

        def arm():
            # The first use of a builtin opens the entry by itself.
            with b.at_entry():
                row = b.local_id(1)
                made.append(row + 5)
            return made[0] + place

        made = []
        b.branch(place < 3, arm, lambda: made[0] * 2)

    build(code, workgroup=(8, 8, 1))
