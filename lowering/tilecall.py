"""The custom call that a tile kernel travels in, from JAX's lowering rule to the importer."""

TARGET = "qga.tile"
"""Name of the call. Its configuration holds, as MLIR attributes:

* `cell`: a StableHLO module in bytes. Its `main` takes the position of a workgroup along each axis of the grid (i32),
  the operands, and what each output holds at first, all padded to whole blocks; it returns the outputs.
* `grid`: how many workgroups there are along each axis.
* `aliases`: operand and output of each pair that shares memory, one after the other.
* `name`: of the kernel.
* `options`: what its author asks of the compiler, as JSON.
"""
