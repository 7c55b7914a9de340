"""`Builder`: write a kernel as a Python function over typed values."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..errors import ShaderError
from ..kernel import Kernel, Parameter
from . import control, conversion, functions, interface, mathematics, matrix, position, subgroup, tensor
from .buffers import Buffer
from .dtypes import Dtype, Number
from .grammar import Capability, Decoration, FunctionControl, Op, StorageClass
from .memory import Shared, Variable
from .module import Function, Module
from .values import Value


class Builder(Module):
    """A kernel under construction.

    Args:
        name: of the kernel and of its entry point.
        workgroup: invocations along x, y and z.
        parameters: the buffers, in the order of the address table.
        subgroup_size: the size the kernel relies on, or None for any.
        guarded: read a flag first and do nothing unless it has the value in the push constants.
        descriptors: reach buffers by binding k of set 0 instead of by address, for validation layers that see only
        those.
        float_controls: modes such as "signed_zero_inf_nan_preserve_32".
        no_contraction: forbid the driver to fuse f32 products and sums.
    """

    # Another way to round f32 to bf16, or None for the builder's own; it may return None as well.
    narrow: Callable[[Value], Value | None] | None = None
    # Whether functions may take the device's own power of two: of numbers from 0 to 1, or for results of 16 bits.
    takes_exp2 = False
    # Whether `tanh` of f32 that may be rounded to 16 bits is one instruction.
    has_short_tanh = False

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
        self.float_controls = float_controls
        self.shared_bytes = 0
        # How often the loops of one invocation go round at most, all together; without constant bounds, once each.
        self.loop_rounds = 0
        self.specialization: list[tuple[int, int]] = []
        self.require(Capability.PhysicalStorageBufferAddresses)
        self.push = 0
        self.blocks: dict[tuple[int, str], int] = {}
        self.builtin_variables: dict[int, int] = {}
        self.descriptor_variables: dict[tuple[str, int, int], int] = {}
        self.buffer_storage = StorageClass.StorageBuffer if descriptors else StorageClass.PhysicalStorageBuffer
        interface.set_float_controls(self, float_controls)
        self._open_entry_point()
        self._buffers = {
            parameter.name: Buffer(self, parameter, slot)
            for slot, parameter in enumerate(self.parameters, int(guarded))
        }
        if guarded:
            interface.guard(self, Buffer(self, Parameter("guard flag", "i32", "r"), 0))

    def _open_entry_point(self) -> None:
        main = Function(self.new_id(), None)
        void = self.types["void"]
        signature = self.declare_global(Op.TypeFunction, void)
        self.block = self.new_id()
        main.header += (Op.Function | 5 << 16, void, main.id, FunctionControl.None_, signature)
        main.header += (Op.Label | 2 << 16, self.block)
        self.functions.append(main)
        self.name(main.id, self.kernel_name)
        self.enter(main)

    def finish(self) -> Kernel:
        """Return the kernel; the builder is used up."""
        if not self.terminated:
            self.terminate(Op.Return)
        return Kernel(
            name=self.kernel_name,
            words=self.assemble(self.kernel_name, self.workgroup),
            workgroup=self.workgroup,
            parameters=self.parameters,
            subgroup_size=self.required_subgroup_size,
            guarded=self.guarded,
            shared_bytes=self.shared_bytes,
            specialization=tuple(self.specialization),
        )

    # Places

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

    def shared(self, dtype: Dtype, count: int) -> Shared:
        """Return memory that the invocations of a workgroup share."""
        return Shared(self, dtype, count)

    def variable(self, dtype: Dtype, init: Value | Number | None = None, count: int | None = None) -> Variable:
        """Return a variable of one invocation, or an array of `count` of them."""
        return Variable(self, dtype, init, count)

    def relaxed(self, value: Value) -> Value:
        """Let the driver compute a number of 32 bits with 16; return it."""
        self.decorate(value.id, Decoration.RelaxedPrecision)
        return value

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

    spec_constant = interface.spec_constant
    local_id = position.local_id
    group_id = position.group_id
    global_id = position.global_id
    num_groups = position.num_groups
    local_index = property(position.local_index)
    subgroup_id = property(position.subgroup_id)
    num_subgroups = property(position.num_subgroups)
    lane = property(position.lane)
    subgroup_size = property(position.subgroup_size)
    loop = control.loop
    while_loop = control.while_loop
    when = control.when
    branch = control.branch
    switch = control.switch
    return_ = functions.return_
    function = functions.function
    convert = conversion.convert
    bitcast = conversion.bitcast
    pack_bf16 = conversion.pack_bf16
    pack_bf16_pair = conversion.pack_bf16_pair
    unpack_bf16 = conversion.unpack_bf16
    unpack_upper_bf16 = conversion.unpack_upper_bf16
    join_bf16 = conversion.join_bf16
    round_bf16 = conversion.round_bf16
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
