"""Where an invocation is: builtin inputs, loaded once at the entry of a function."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .dtypes import Dtype
from .grammar import BuiltIn, Capability, Decoration, Op, StorageClass
from .interface import push_constant
from .values import Value

if TYPE_CHECKING:
    from .builder import Builder

_SUBGROUP = frozenset(
    {BuiltIn.SubgroupId, BuiltIn.SubgroupSize, BuiltIn.SubgroupLocalInvocationId, BuiltIn.NumSubgroups}
)


def _builtin(builder: Builder, which: int, axis: int | None = None) -> Value:
    memo = builder.current.entry_memo
    key = ("builtin", which, axis)
    value = memo.get(key)
    if value is None:
        with builder.at_entry():
            value = memo[key] = _load(builder, which, axis)
    return value


def _load(builder: Builder, which: int, axis: int | None) -> Value:
    dtype: Dtype = "u32" if axis is None else ("u32", 3)
    variable = builder.builtin_variables.get(which)
    if variable is None:
        if which in _SUBGROUP:
            builder.require(Capability.GroupNonUniform)
        variable = builder.builtin_variables[which] = builder.global_variable(StorageClass.Input, builder.types[dtype])
        builder.decorate(variable, Decoration.BuiltIn, which)
    if axis is None:
        return builder.emit(Op.Load, dtype, variable)
    memo = builder.current.entry_memo
    whole = memo.get(("builtin", which))
    if whole is None:
        whole = memo["builtin", which] = builder.emit(Op.Load, dtype, variable)
    return whole[axis]


def local_id(builder: Builder, axis: int) -> Value:
    """Return the invocation's place in its workgroup along an axis."""
    if builder.workgroup[axis] == 1:
        return builder.const("u32", 0)
    return _builtin(builder, BuiltIn.LocalInvocationId, axis)


def group_id(builder: Builder, axis: int) -> Value:
    """Return the workgroup's place; axis 0 counts on over the parts of a split dispatch."""
    if axis:
        return _builtin(builder, BuiltIn.WorkgroupId, axis)
    memo = builder.current.entry_memo
    value = memo.get(("group",))
    if value is None:
        group, first = _builtin(builder, BuiltIn.WorkgroupId, 0), push_constant(builder, "first")
        with builder.at_entry():
            value = memo["group",] = group + first
    return value


def global_id(builder: Builder, axis: int) -> Value:
    """Return the invocation's place in the dispatch; axis 0 counts on over the parts of a split dispatch."""
    if axis:
        return _builtin(builder, BuiltIn.GlobalInvocationId, axis)
    memo = builder.current.entry_memo
    value = memo.get(("global",))
    if value is None:
        group, local = group_id(builder, 0), local_id(builder, 0)
        with builder.at_entry():
            value = memo["global",] = group * builder.workgroup[0] + local
    return value


def num_groups(builder: Builder, axis: int) -> Value:
    """Return the workgroups of this dispatch; of its part, if the dispatch is split along axis 0."""
    return _builtin(builder, BuiltIn.NumWorkgroups, axis)


def local_index(builder: Builder) -> Value:
    """Return the invocation's number in its workgroup, x fastest."""
    x, y, z = builder.workgroup
    return local_id(builder, 0) if y == z == 1 and x > 1 else _builtin(builder, BuiltIn.LocalInvocationIndex)


def subgroup_id(builder: Builder) -> Value:
    """Return the subgroup's number in its workgroup."""
    return _builtin(builder, BuiltIn.SubgroupId)


def num_subgroups(builder: Builder) -> Value:
    """Return the subgroups of the workgroup."""
    return _builtin(builder, BuiltIn.NumSubgroups)


def lane(builder: Builder) -> Value:
    """Return the invocation's number in its subgroup."""
    return _builtin(builder, BuiltIn.SubgroupLocalInvocationId)


def subgroup_size(builder: Builder) -> Value:
    """Return the invocations of a subgroup: a constant where the kernel requires a size."""
    if builder.required_subgroup_size is not None:
        return builder.const("u32", builder.required_subgroup_size)
    return _builtin(builder, BuiltIn.SubgroupSize)
