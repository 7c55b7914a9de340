"""The interface of a kernel: push constants, the table of addresses, the guard, modes and specialisation constants.

Push constants: u64 address of the table slice (byte 0), u32 expected guard (8), u32 first workgroup (12). The table
holds one u64 address a buffer. With descriptors the first member is absent and buffer k is binding k of set 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..errors import ShaderError
from .conversion import bitcast
from .dtypes import Number, encode
from .grammar import Capability, Decoration, ExecutionMode, MemoryAccess, Op, SelectionControl, StorageClass
from .values import Value

if TYPE_CHECKING:
    from .buffers import Buffer
    from .builder import Builder

FLOAT_CONTROLS = {
    "denorm_preserve": (Capability.DenormPreserve, ExecutionMode.DenormPreserve),
    "denorm_flush_to_zero": (Capability.DenormFlushToZero, ExecutionMode.DenormFlushToZero),
    "signed_zero_inf_nan_preserve": (Capability.SignedZeroInfNanPreserve, ExecutionMode.SignedZeroInfNanPreserve),
    "rounding_rte": (Capability.RoundingModeRTE, ExecutionMode.RoundingModeRTE),
    "rounding_rtz": (Capability.RoundingModeRTZ, ExecutionMode.RoundingModeRTZ),
}
"""Execution modes of SPV_KHR_float_controls; a name is followed by _16, _32 or _64."""


def set_float_controls(builder: Builder, names: Iterable[str]) -> None:
    """Ask for modes of SPV_KHR_float_controls by name."""
    for text in sorted(names):
        name, _, width = text.rpartition("_")
        if name not in FLOAT_CONTROLS or width not in ("16", "32", "64"):
            raise ShaderError(
                "A float control must be known.",
                got=text,
                want=", ".join(f"{known}_16|32|64" for known in FLOAT_CONTROLS),
                fix="use one of them.",
            )
        capability, mode = FLOAT_CONTROLS[name]
        builder.require(capability)
        builder.modes.append((mode, int(width)))


def guard(builder: Builder, flag: Buffer) -> None:
    """Leave at once unless the flag has the expected value."""
    run, leave = builder.new_id(), builder.new_id()
    go = flag[0] == bitcast(builder, push_constant(builder, "guard"), "i32")
    builder.perform(Op.SelectionMerge, run, SelectionControl.None_)
    builder.terminate(Op.BranchConditional, go.id, run, leave)
    builder.begin_block(leave)
    builder.terminate(Op.Return)
    builder.begin_block(run)


def block_type(builder: Builder, element_type: int, size: int, access: str) -> int:
    """Return the id of `struct { element x[]; }`."""
    key = (element_type, access)
    block = builder.blocks.get(key)
    if block is None:
        array_type = builder.new_id()
        builder.globals += (Op.TypeRuntimeArray | 3 << 16, array_type, element_type)
        builder.decorate(array_type, Decoration.ArrayStride, size)
        block = builder.blocks[key] = builder.struct_type([array_type], [0])
        if access != "rw":
            decoration = Decoration.NonWritable if access == "r" else Decoration.NonReadable
            builder.decorations += (Op.MemberDecorate | 4 << 16, block, 0, decoration)
    return block


def address(builder: Builder, slot: int) -> int:
    """Load the address of buffer `slot` as two u32; call at the function's entry."""
    memo = builder.current.entry_memo
    pair = builder.types["u32", 2]
    table = memo.get(("table",))
    if table is None:
        block_pointer = builder.pointer_type(StorageClass.PhysicalStorageBuffer, block_type(builder, pair, 8, "r"))
        member = builder.pointer_type(StorageClass.PushConstant, pair)
        where = builder.typed(Op.AccessChain, member, _push_block(builder), builder.const("u32", 0).id)
        table = memo["table",] = builder.typed(Op.Bitcast, block_pointer, builder.typed(Op.Load, pair, where))
        builder.readonly_bases.add(table)
    address = memo.get(("address", slot))
    if address is None:
        entry = builder.pointer_type(StorageClass.PhysicalStorageBuffer, pair)
        where = builder.typed(Op.AccessChain, entry, table, builder.const("u32", 0).id, builder.const("u32", slot).id)
        address = memo["address", slot] = builder.typed(Op.Load, pair, where, MemoryAccess.Aligned, 8)
    return address


def _has_table(builder: Builder) -> bool:
    return not builder.descriptors and bool(builder.parameters or builder.guarded)


def _push_block(builder: Builder) -> int:
    if not builder.push:
        u32 = builder.types["u32"]
        members, offsets = [u32, u32], [8, 12]
        if _has_table(builder):
            # The table's address as two u32: no need for 64-bit integers on the device.
            members.insert(0, builder.types["u32", 2])
            offsets.insert(0, 0)
        builder.push = builder.global_variable(StorageClass.PushConstant, builder.struct_type(members, offsets))
    return builder.push


def push_constant(builder: Builder, name: str) -> Value:
    """Load the guard or the first workgroup, which are the last two members of the push constants."""
    memo = builder.current.entry_memo
    value = memo.get(("push", name))
    if value is None:
        with builder.at_entry():
            block = _push_block(builder)
            member = ("guard", "first").index(name) + int(_has_table(builder))
            pointer = builder.pointer_type(StorageClass.PushConstant, builder.types["u32"])
            where = builder.typed(Op.AccessChain, pointer, block, builder.const("u32", member).id)
            value = builder.emit(Op.Load, "u32", where)
        memo["push", name] = value
    return value


def spec_constant(builder: Builder, identifier: int, dtype: str, default: Number) -> Value:
    """Return a number that can be set when the pipeline is created."""
    if dtype not in ("u32", "i32", "f32"):
        raise ShaderError(
            "A specialisation constant must take 32 bits.",
            got=dtype,
            want="u32, i32 or f32",
            fix="convert it afterwards.",
        )
    word = encode(dtype, default)[0]
    constant = builder.new_id()
    builder.globals += (Op.SpecConstant | 4 << 16, builder.types[dtype], constant, word)
    builder.decorate(constant, Decoration.SpecId, identifier)
    builder.specialization.append((identifier, word))
    return Value(builder, constant, dtype)
