"""`Builder`: write a kernel as a Python function over typed values."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import ShaderError
from ..kernel import Kernel, Parameter

from . import control, conversion, mathematics, matrix, subgroup, tensor
from .dtypes import Dtype, Number, encode
from .grammar import (
    BuiltIn,
    Capability,
    Decoration,
    ExecutionMode,
    FunctionControl,
    MemoryAccess,
    Op,
    SelectionControl,
    StorageClass,
)
from .memory import Buffer, Shared, Variable
from .module import Function, Module
from .values import Value

FLOAT_CONTROLS = {
    "denorm_preserve": (Capability.DenormPreserve, ExecutionMode.DenormPreserve),
    "denorm_flush_to_zero": (Capability.DenormFlushToZero, ExecutionMode.DenormFlushToZero),
    "signed_zero_inf_nan_preserve": (Capability.SignedZeroInfNanPreserve, ExecutionMode.SignedZeroInfNanPreserve),
    "rounding_rte": (Capability.RoundingModeRTE, ExecutionMode.RoundingModeRTE),
    "rounding_rtz": (Capability.RoundingModeRTZ, ExecutionMode.RoundingModeRTZ),
}
"""Execution modes of SPV_KHR_float_controls; a name is followed by _16, _32 or _64."""

_SCALAR_BUILTINS = {
    BuiltIn.LocalInvocationIndex: None,
    BuiltIn.SubgroupId: Capability.GroupNonUniform,
    BuiltIn.SubgroupSize: Capability.GroupNonUniform,
    BuiltIn.SubgroupLocalInvocationId: Capability.GroupNonUniform,
    BuiltIn.NumSubgroups: Capability.GroupNonUniform,
}


class Builder(Module):
    """A kernel under construction.

    Args:
        name: of the kernel and of its entry point.
        workgroup: invocations along x, y and z.
        parameters: the buffers, in the order of the address table.
        subgroup_size: the size the kernel relies on, or None for any.
        guarded: read a flag first and do nothing unless it has the value in the push constants.
        descriptors: reach buffers by binding k of set 0 instead of by address, for validation layers that see only those.
        float_controls: modes such as "signed_zero_inf_nan_preserve_32".
        no_contraction: forbid the driver to fuse f32 products and sums.
    """

    def __init__(
        self,
        name: str,
        *,
        workgroup: tuple[int, int, int] = (64, 1, 1),
        parameters: Iterable[Parameter] = (),
        subgroup_size: int | None = None,
        guarded: bool = False,
        descriptors: bool = False,
        float_controls: frozenset[str] = frozenset(),
        no_contraction: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_name = name
        self.workgroup = workgroup
        self.parameters = tuple(parameters)
        self.required_subgroup_size = subgroup_size
        self.guarded = guarded
        self.descriptors = descriptors
        self.no_contraction = no_contraction
        self.shared_bytes = 0
        self.specialization: list[tuple[int, int]] = []
        self.require(Capability.PhysicalStorageBufferAddresses)
        self._push = 0
        self._blocks: dict[tuple[int, str], int] = {}
        self._builtin_variables: dict[int, int] = {}
        self._set_float_controls(float_controls)
        main = Function(self.new_id(), None)
        entry_label = self.new_id()
        void = self.types["void"]
        main.header += (
            Op.Function | 5 << 16,
            void,
            main.id,
            FunctionControl._None,
            self.declare_global(Op.TypeFunction, void),
        )
        main.header += (Op.Label | 2 << 16, entry_label)
        self.functions.append(main)
        self.name(main.id, name)
        self.enter(main)
        self.block = entry_label
        first = 1 if guarded else 0
        self._flag = Buffer(self, Parameter("guard flag", "i32", "r"), 0) if guarded else None
        self._buffers = {
            parameter.name: Buffer(self, parameter, slot) for slot, parameter in enumerate(self.parameters, first)
        }
        if self._flag is not None:
            self._guard(self._flag)

    # Interface of the kernel

    def _set_float_controls(self, names: frozenset[str]) -> None:
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
            self.require(capability)
            self.modes.append((mode, int(width)))

    def _guard(self, flag: Buffer) -> None:
        """Leave at once unless the flag has the expected value."""
        run, leave = self.new_id(), self.new_id()
        go = flag[0] == conversion.bitcast(self, self._push_constant("guard"), "i32")
        self.perform(Op.SelectionMerge, run, SelectionControl._None)
        self.terminate(Op.BranchConditional, go.id, run, leave)
        self.begin_block(leave)
        self.terminate(Op.Return)
        self.begin_block(run)

    def buffer(self, name: str) -> Buffer:
        """Return a parameter by name.

        Raises:
            ShaderError: the kernel has no such parameter.
        """
        try:
            return self._buffers[name]
        except KeyError:
            raise ShaderError(
                f"Kernel {self.kernel_name} must name its own buffers.",
                got=repr(name),
                want=", ".join(self._buffers) or "none: the kernel has no parameters",
                fix="declare the parameter, or use a declared name.",
            ) from None

    def block_type(self, element_type: int, size: int, access: str) -> int:
        """Return the id of `struct { element x[]; }`."""
        key = (element_type, access)
        block = self._blocks.get(key)
        if block is None:
            array_type = self.new_id()
            self.globals += (Op.TypeRuntimeArray | 3 << 16, array_type, element_type)
            self.decorate(array_type, Decoration.ArrayStride, size)
            block = self._blocks[key] = self.struct_type([array_type], [0])
            if access != "rw":
                decoration = Decoration.NonWritable if access == "r" else Decoration.NonReadable
                self.decorations += (Op.MemberDecorate | 4 << 16, block, 0, decoration)
        return block

    def address(self, slot: int) -> int:
        """Load the address of buffer `slot` as two u32; call at the function's entry."""
        memo = self.current.entry_memo
        pair = self.types["u32", 2]
        table = memo.get(("table",))
        if table is None:
            block_pointer = self.pointer_type(StorageClass.PhysicalStorageBuffer, self.block_type(pair, 8, "r"))
            member = self.pointer_type(StorageClass.PushConstant, pair)
            where = self.typed(Op.AccessChain, member, self._push_block(), self.const("u32", 0).id)
            table = memo["table",] = self.typed(Op.Bitcast, block_pointer, self.typed(Op.Load, pair, where))
            self.readonly_bases.add(table)
        address = memo.get(("address", slot))
        if address is None:
            entry = self.pointer_type(StorageClass.PhysicalStorageBuffer, pair)
            where = self.typed(Op.AccessChain, entry, table, self.const("u32", 0).id, self.const("u32", slot).id)
            address = memo["address", slot] = self.typed(Op.Load, pair, where, MemoryAccess.Aligned, 8)
        return address

    @property
    def _has_table(self) -> bool:
        return not self.descriptors and bool(self.parameters or self.guarded)

    def _push_block(self) -> int:
        if not self._push:
            u32 = self.types["u32"]
            members, offsets = [u32, u32], [8, 12]
            if self._has_table:
                # The table's address as two u32: no need for 64-bit integers on the device.
                members.insert(0, self.types["u32", 2])
                offsets.insert(0, 0)
            self._push = self.global_variable(StorageClass.PushConstant, self.struct_type(members, offsets))
        return self._push

    def _push_constant(self, name: str) -> Value:
        """Load the guard or the first workgroup, which are the last two members of the push constants."""
        memo = self.current.entry_memo
        value = memo.get(("push", name))
        if value is None:
            with self.at_entry():
                block = self._push_block()
                member = ("guard", "first").index(name) + int(self._has_table)
                pointer = self.pointer_type(StorageClass.PushConstant, self.types["u32"])
                where = self.typed(Op.AccessChain, pointer, block, self.const("u32", member).id)
                value = self.emit(Op.Load, "u32", where)
            memo["push", name] = value
        return value

    def spec_constant(self, identifier: int, dtype: str, default: Number) -> Value:
        """Return a number that can be set when the pipeline is created."""
        if dtype not in ("u32", "i32", "f32"):
            raise ShaderError(
                "A specialisation constant must take 32 bits.",
                got=dtype,
                want="u32, i32 or f32",
                fix="convert it afterwards.",
            )
        word = encode(dtype, default)[0]
        constant = self.new_id()
        self.globals += (Op.SpecConstant | 4 << 16, self.types[dtype], constant, word)
        self.decorate(constant, Decoration.SpecId, identifier)
        self.specialization.append((identifier, word))
        return Value(self, constant, dtype)

    # Places

    def shared(self, dtype: Dtype, count: int) -> Shared:
        """Return memory that the invocations of a workgroup share."""
        return Shared(self, dtype, count)

    def variable(self, dtype: Dtype, init: Value | Number | None = None, count: int | None = None) -> Variable:
        """Return a variable of one invocation, or an array of `count` of them."""
        return Variable(self, dtype, init, count)

    # Where an invocation is

    def _builtin(self, which: int, axis: int | None = None) -> Value:
        memo = self.current.entry_memo
        key = ("builtin", which, axis)
        value = memo.get(key)
        if value is None:
            with self.at_entry():
                value = memo[key] = self._load_builtin(which, axis)
        return value

    def _load_builtin(self, which: int, axis: int | None) -> Value:
        dtype: Dtype = "u32" if axis is None else ("u32", 3)
        variable = self._builtin_variables.get(which)
        if variable is None:
            capability = _SCALAR_BUILTINS.get(which)
            if capability is not None:
                self.require(capability)
            variable = self._builtin_variables[which] = self.global_variable(StorageClass.Input, self.types[dtype])
            self.decorate(variable, Decoration.BuiltIn, which)
        if axis is None:
            return self.emit(Op.Load, dtype, variable)
        memo = self.current.entry_memo
        whole = memo.get(("builtin", which))
        if whole is None:
            whole = memo["builtin", which] = self.emit(Op.Load, dtype, variable)
        return whole[axis]

    def local_id(self, axis: int) -> Value:
        """Return the invocation's place in its workgroup along an axis."""
        return self._builtin(BuiltIn.LocalInvocationId, axis) if self.workgroup[axis] > 1 else self.const("u32", 0)

    def group_id(self, axis: int) -> Value:
        """Return the workgroup's place; axis 0 counts on over the parts of a split dispatch."""
        if axis:
            return self._builtin(BuiltIn.WorkgroupId, axis)
        memo = self.current.entry_memo
        value = memo.get(("group",))
        if value is None:
            group, first = self._builtin(BuiltIn.WorkgroupId, 0), self._push_constant("first")
            with self.at_entry():
                value = group + first
            memo["group",] = value
        return value

    def global_id(self, axis: int) -> Value:
        """Return the invocation's place in the dispatch; axis 0 counts on over the parts of a split dispatch."""
        if axis:
            return self._builtin(BuiltIn.GlobalInvocationId, axis)
        memo = self.current.entry_memo
        value = memo.get(("global",))
        if value is None:
            group, local = self.group_id(0), self.local_id(0)
            with self.at_entry():
                value = group * self.workgroup[0] + local
            memo["global",] = value
        return value

    def num_groups(self, axis: int) -> Value:
        """Return the workgroups of this dispatch; of its part, if the dispatch is split along axis 0."""
        return self._builtin(BuiltIn.NumWorkgroups, axis)

    @property
    def local_index(self) -> Value:
        """The invocation's number in its workgroup, x fastest."""
        return self._builtin(BuiltIn.LocalInvocationIndex)

    @property
    def subgroup_id(self) -> Value:
        """The subgroup's number in its workgroup."""
        return self._builtin(BuiltIn.SubgroupId)

    @property
    def lane(self) -> Value:
        """The invocation's number in its subgroup."""
        return self._builtin(BuiltIn.SubgroupLocalInvocationId)

    @property
    def subgroup_size(self) -> Value:
        """The invocations of a subgroup."""
        if self.required_subgroup_size is not None:
            return self.const("u32", self.required_subgroup_size)
        return self._builtin(BuiltIn.SubgroupSize)

    def finish(self) -> Kernel:
        """Return the kernel; the builder is used up."""
        if not self.terminated:
            self.terminate(Op.Return)
        words = self.assemble(self.kernel_name, self.workgroup)
        return Kernel(
            name=self.kernel_name,
            words=words,
            workgroup=self.workgroup,
            parameters=self.parameters,
            subgroup_size=self.required_subgroup_size,
            guarded=self.guarded,
            shared_bytes=self.shared_bytes,
            specialization=tuple(self.specialization),
        )

    # For people who read the kernel

    def source(self, file: str, line: int) -> None:
        """Say which line of the user's program the following instructions come from."""
        identifier = self.strings.get(file)
        if identifier is None:
            identifier = self.strings[file] = self.new_id()
        words = (Op.Line | 4 << 16, identifier, line, 0)
        if words != self.line:
            self.line = words
            self.code += words

    def label(self, value: Value, text: str) -> Value:
        """Name a value in the text form; return it."""
        self.name(value.id, text)
        return value

    # Constructs, each in the file of its topic

    loop = control.loop
    while_loop = control.while_loop
    when = control.when
    branch = control.branch
    switch = control.switch
    return_ = control.return_
    function = control.function
    convert = conversion.convert
    bitcast = conversion.bitcast
    pack_bf16 = conversion.pack_bf16
    unpack_bf16 = conversion.unpack_bf16
    math = mathematics.math
    min = mathematics.minimum
    max = mathematics.maximum
    select = mathematics.select
    logical_and = mathematics.logical_and
    logical_or = mathematics.logical_or
    logical_not = mathematics.logical_not
    is_nan = mathematics.is_nan
    is_inf = mathematics.is_inf
    bit_count = mathematics.bit_count
    bit_reverse = mathematics.bit_reverse
    umul_extended = mathematics.umul_extended
    vector = mathematics.vector
    dot = mathematics.dot
    dot_packed = mathematics.dot_packed
    subgroup_reduce = subgroup.subgroup_reduce
    subgroup_scan = subgroup.subgroup_scan
    shuffle = subgroup.shuffle
    shuffle_xor = subgroup.shuffle_xor
    shuffle_up = subgroup.shuffle_up
    shuffle_down = subgroup.shuffle_down
    broadcast = subgroup.broadcast
    broadcast_first = subgroup.broadcast_first
    ballot = subgroup.ballot
    any = subgroup.any_
    all = subgroup.all_
    elect = subgroup.elect
    barrier = subgroup.barrier
    memory_barrier = subgroup.memory_barrier
    matrix_type = matrix.matrix_type
    matrix_load = matrix.matrix_load
    matrix_store = matrix.matrix_store
    matrix_multiply_add = matrix.matrix_multiply_add
    matrix_length = matrix.matrix_length
    matrix_map = matrix.matrix_map
    matrix_convert = matrix.matrix_convert
    matrix_transpose = matrix.matrix_transpose
    matrix_reduce = matrix.matrix_reduce
    matrix_per_element = matrix.matrix_per_element
    matrix_load_tensor = matrix.matrix_load_tensor
    matrix_store_tensor = matrix.matrix_store_tensor
    tensor_layout = tensor.tensor_layout
    tensor_slice = tensor.tensor_slice
    tensor_view = tensor.tensor_view
    tensor_clip = tensor.tensor_clip
