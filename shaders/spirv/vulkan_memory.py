"""Rewrite a module for the Vulkan memory model, which cooperative matrices need.

Kernels are written for the simpler GLSL450 model, because some drivers are slower under the other. When a kernel turns
out to need the Vulkan model, three things change in place: shared and written memory is marked non-private, barriers
also make writes available and visible, and atomics name the queue family instead of the device (no extra feature
needed).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .grammar import Capability, MemoryAccess, Op, Scope

if TYPE_CHECKING:
    from .module import Module

ACQUIRE_RELEASE = 0x8
STORAGE_MEMORY = 0x40
WORKGROUP_MEMORY = 0x100
MAKE_AVAILABLE = 0x2000
MAKE_VISIBLE = 0x4000

BARRIER_SEMANTICS = ACQUIRE_RELEASE | STORAGE_MEMORY | WORKGROUP_MEMORY
"""What a barrier of the builder orders: buffers and shared memory."""

SHARED_SEMANTICS = ACQUIRE_RELEASE | WORKGROUP_MEMORY
"""What a barrier orders that is about shared memory alone."""

# Position of the pointer and of the memory operand mask.
_ACCESSES = {
    Op.Load: (3, 4),
    Op.Store: (1, 3),
    Op.CooperativeMatrixLoadKHR: (3, 6),
    Op.CooperativeMatrixStoreKHR: (1, 5),
    Op.CooperativeMatrixLoadTensorNV: (3, 6),
    Op.CooperativeMatrixStoreTensorNV: (1, 4),
}
_SCOPE_OF_ATOMIC = {Op.AtomicLoad: 4, Op.AtomicStore: 2, Op.AtomicExchange: 4, Op.AtomicCompareExchange: 4} | {
    getattr(Op, f"Atomic{name}"): 4 for name in ("IAdd", "SMin", "UMin", "SMax", "UMax", "And", "Or", "Xor", "FAddEXT")
}


def upgrade(module: Module) -> None:
    """Rewrite every function of `module` in place."""
    module.require(Capability.VulkanMemoryModel)
    device = module.const("u32", Scope.Device).id
    replacements = {device: module.const("u32", Scope.QueueFamily).id}
    for semantics in (BARRIER_SEMANTICS, SHARED_SEMANTICS):
        used = module.constants.get(("u32", semantics))
        if used is not None:
            replacements[used.id] = module.const("u32", semantics | MAKE_AVAILABLE | MAKE_VISIBLE).id
    for function in module.functions:
        for code in (function.entry, function.code):
            _upgrade_code(code, module.readonly_bases, replacements)


def _upgrade_code(code: list[int], readonly: set[int], replacements: dict[int, int]) -> None:
    """Walk the instructions; `replacements` maps ids of scopes and semantics to their new ids."""
    readonly = set(readonly)
    at = 0
    while at < len(code):
        opcode, length = code[at] & 0xFFFF, code[at] >> 16
        if opcode == Op.AccessChain:
            if code[at + 3] in readonly:
                readonly.add(code[at + 2])
        elif opcode in _ACCESSES:
            pointer, mask = _ACCESSES[opcode]
            if length > mask and code[at + pointer] not in readonly:
                code[at + mask] |= MemoryAccess.NonPrivatePointer
        elif opcode in _SCOPE_OF_ATOMIC:
            scope = at + _SCOPE_OF_ATOMIC[opcode]
            code[scope] = replacements.get(code[scope], code[scope])
        elif opcode in (Op.ControlBarrier, Op.MemoryBarrier):
            scope, semantics = at + length - 2, at + length - 1
            code[scope] = replacements.get(code[scope], code[scope])
            code[semantics] = replacements.get(code[semantics], code[semantics])
        at += length
