"""What the invocations of a subgroup or workgroup do together: reductions, shuffles, votes, barriers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ShaderError
from .dtypes import Dtype, OpcodeTable
from .grammar import Capability, GroupOperation, Op, Scope
from .values import Value
from .vulkan_memory import BARRIER_SEMANTICS, SHARED_SEMANTICS

if TYPE_CHECKING:
    from .builder import Builder

SCOPES = {"device": Scope.Device, "workgroup": Scope.Workgroup, "subgroup": Scope.Subgroup}

_I_AND, _I_OR, _I_XOR = Op.GroupNonUniformBitwiseAnd, Op.GroupNonUniformBitwiseOr, Op.GroupNonUniformBitwiseXor
REDUCTIONS = {
    "add": OpcodeTable("subgroup add", f=Op.GroupNonUniformFAdd, i=Op.GroupNonUniformIAdd, u=Op.GroupNonUniformIAdd),
    "mul": OpcodeTable("subgroup mul", f=Op.GroupNonUniformFMul, i=Op.GroupNonUniformIMul, u=Op.GroupNonUniformIMul),
    "min": OpcodeTable("subgroup min", f=Op.GroupNonUniformFMin, i=Op.GroupNonUniformSMin, u=Op.GroupNonUniformUMin),
    "max": OpcodeTable("subgroup max", f=Op.GroupNonUniformFMax, i=Op.GroupNonUniformSMax, u=Op.GroupNonUniformUMax),
    "and": OpcodeTable("subgroup and", i=_I_AND, u=_I_AND, b=Op.GroupNonUniformLogicalAnd),
    "or": OpcodeTable("subgroup or", i=_I_OR, u=_I_OR, b=Op.GroupNonUniformLogicalOr),
    "xor": OpcodeTable("subgroup xor", i=_I_XOR, u=_I_XOR, b=Op.GroupNonUniformLogicalXor),
}


def subgroup_reduce(builder: Builder, operation: str, value: Value) -> Value:
    """Combine `value` over the active invocations of the subgroup; all receive the result."""
    return _combine(builder, operation, value, GroupOperation.Reduce)


def subgroup_scan(builder: Builder, operation: str, value: Value, exclusive: bool = False) -> Value:
    """Combine `value` over the active invocations up to this one, or before it."""
    return _combine(
        builder, operation, value, GroupOperation.ExclusiveScan if exclusive else GroupOperation.InclusiveScan
    )


def _combine(builder: Builder, operation: str, value: Value, group: int) -> Value:
    if operation not in REDUCTIONS:
        raise ShaderError(
            "A subgroup reduction must have a known name.",
            got=operation,
            want=", ".join(REDUCTIONS),
            fix="use one of them.",
        )
    return _collective(
        builder, Capability.GroupNonUniformArithmetic, REDUCTIONS[operation][value.dtype], value.dtype, group, value.id
    )


def _collective(builder: Builder, capability: int, opcode: int, dtype: Dtype, *words: int) -> Value:
    builder.require(Capability.GroupNonUniform)
    builder.require(capability)
    return builder.emit(opcode, dtype, builder.const("u32", Scope.Subgroup).id, *words)


def shuffle(builder: Builder, value: Value, lane: Value | int) -> Value:
    """Return `value` of another invocation; undefined if that one is inactive."""
    return _exchange(builder, Op.GroupNonUniformShuffle, Capability.GroupNonUniformShuffle, value, lane)


def shuffle_xor(builder: Builder, value: Value, mask: Value | int) -> Value:
    """Return `value` of the invocation whose lane is this one's xor `mask`."""
    return _exchange(builder, Op.GroupNonUniformShuffleXor, Capability.GroupNonUniformShuffle, value, mask)


def shuffle_up(builder: Builder, value: Value, delta: Value | int) -> Value:
    """Return `value` of the invocation `delta` lanes below; undefined in the first lanes."""
    return _exchange(builder, Op.GroupNonUniformShuffleUp, Capability.GroupNonUniformShuffleRelative, value, delta)


def shuffle_down(builder: Builder, value: Value, delta: Value | int) -> Value:
    """Return `value` of the invocation `delta` lanes above; undefined in the last lanes."""
    return _exchange(builder, Op.GroupNonUniformShuffleDown, Capability.GroupNonUniformShuffleRelative, value, delta)


def broadcast(builder: Builder, value: Value, lane: Value | int) -> Value:
    """Return `value` of one lane, which must be the same number in the whole subgroup."""
    return _exchange(builder, Op.GroupNonUniformBroadcast, Capability.GroupNonUniformBallot, value, lane)


def _exchange(builder: Builder, opcode: int, capability: int, value: Value, lane: Value | int) -> Value:
    lane = lane if isinstance(lane, Value) else builder.const("u32", lane)
    if lane.dtype != "u32":
        raise ShaderError("A lane must be u32.", got=lane, want="u32", fix="convert it with b.convert.")
    return _collective(builder, capability, opcode, value.dtype, value.id, lane.id)


def broadcast_first(builder: Builder, value: Value) -> Value:
    """Return `value` of the first active invocation."""
    return _collective(
        builder, Capability.GroupNonUniformBallot, Op.GroupNonUniformBroadcastFirst, value.dtype, value.id
    )


def ballot(builder: Builder, condition: Value) -> Value:
    """Return u32x4 whose bit i says whether `condition` holds in lane i."""
    return _collective(builder, Capability.GroupNonUniformBallot, Op.GroupNonUniformBallot, ("u32", 4), condition.id)


def any_(builder: Builder, condition: Value) -> Value:
    """Return whether `condition` holds in some active invocation."""
    return _collective(builder, Capability.GroupNonUniformVote, Op.GroupNonUniformAny, "bool", condition.id)


def all_(builder: Builder, condition: Value) -> Value:
    """Return whether `condition` holds in every active invocation."""
    return _collective(builder, Capability.GroupNonUniformVote, Op.GroupNonUniformAll, "bool", condition.id)


def elect(builder: Builder) -> Value:
    """Return True in exactly one active invocation."""
    return _collective(builder, Capability.GroupNonUniform, Op.GroupNonUniformElect, "bool")


def barrier(builder: Builder, scope: str = "workgroup", *, shared_only: bool = False) -> None:
    """Wait for the whole workgroup or subgroup; what was written to memory before is seen by it after.

    `shared_only` orders shared memory alone, which leaves a driver free to move accesses to buffers across.
    """
    if scope not in ("subgroup", "workgroup"):
        raise ShaderError("A barrier must have a known scope.", got=scope, want="subgroup, workgroup", fix="use one.")
    waiting = builder.const("u32", SCOPES[scope]).id
    semantics = builder.const("u32", SHARED_SEMANTICS if shared_only else BARRIER_SEMANTICS).id
    builder.perform(Op.ControlBarrier, waiting, waiting, semantics)


def memory_barrier(builder: Builder, scope: str = "workgroup") -> None:
    """Order memory accesses of this invocation as `scope` ("subgroup", "workgroup" or "device") sees them."""
    if scope not in SCOPES:
        raise ShaderError(
            "A barrier must have a known scope.", got=scope, want=", ".join(SCOPES), fix="use one of them."
        )
    builder.perform(
        Op.MemoryBarrier, builder.const("u32", SCOPES[scope]).id, builder.const("u32", BARRIER_SEMANTICS).id
    )
