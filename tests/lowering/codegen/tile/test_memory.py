"""Which values of a cell are arrays: what is updated in place, and what is a tile because the old state is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from lowering import lower
from lowering.codegen.tile.blocks import Block, Memory, open_cell
from lowering.codegen.tile.memory import find_memory, prepare
from lowering.compiler import clean
from lowering.errors import UnsupportedError
from lowering.graph import Graph, Node

F32 = jnp.float32
Kernel = Callable[..., None]
ROWS = jax.ShapeDtypeStruct((24, 16), F32)


def node_of(kernel: Kernel, **options: Any) -> Node:
    """Return the `tile` node of a kernel over an array of 24 rows, whose memory the output takes."""
    options = {"input_output_aliases": {0: 0}, **options}
    function = lambda x: pl.pallas_call(kernel, out_shape=ROWS, **options)(x)  # noqa: E731
    graph: Graph = clean(lower(function)(ROWS).graph)
    (node,) = (node for node in graph.nodes if node.op == "tile")
    return node


def memory_of(kernel: Kernel) -> tuple[Block, Memory]:
    node = node_of(kernel)
    cell = open_cell(node.attributes["cell"])
    return cell, find_memory(cell, 0, node.attributes["updates"])


def in_place(kernel: Kernel) -> list[bool]:
    """Return for each update of a kernel whether it is written in place."""
    cell, memory = memory_of(kernel)
    updates = [step for step, _ in cell.walk() if step.op in ("dynamic_update_slice", "scatter")]
    assert updates, "the kernel's updates were simplified away"
    return [step.outputs[0] in memory.arrays for step in updates]


def ends_in_memory(kernel: Kernel) -> bool:
    """Tell whether the output is written bit by bit, not as a whole at the end."""
    cell, memory = memory_of(kernel)
    return memory.arrays.get(cell.outputs[0]) == len(cell.inputs) - 1


# -- straight on -------------------------------------------------------------------------------------------------------


def two_rows(a: Any, o: Any) -> None:
    o[0, :] = a[0, :]
    o[5, :] = a[1, :]


def older_state_read(a: Any, o: Any) -> None:
    o[0, :] = a[0, :]
    old = o[...]
    o[5, :] = a[1, :]
    o[6, :] = old[5, :]


def test_updates_of_an_output_are_in_place() -> None:
    assert in_place(two_rows) == [True, True]
    assert ends_in_memory(two_rows)


def test_update_is_a_tile_where_the_older_state_is_read() -> None:
    assert in_place(older_state_read) == [True, False, False]
    assert not ends_in_memory(older_state_read)


def test_operand_is_never_written() -> None:
    def kernel(a: Any, o: Any) -> None:
        o[...] = a[...].at[3, :].set(0.0)

    assert not any(in_place(kernel))


# -- loops and branches ------------------------------------------------------------------------------------------------


def rows_in_a_loop(a: Any, o: Any) -> None:
    lax.fori_loop(0, 24, lambda i, _: o.__setitem__((i, slice(None)), a[i, :]), None)


def rows_beside_the_old(a: Any, o: Any) -> None:
    o[0, :] = a[0, :]
    old = o[...]
    lax.fori_loop(0, 24, lambda i, _: o.__setitem__((i, slice(None)), old[23 - i, :]), None)


def test_carry_of_a_loop_stays_in_memory() -> None:
    assert in_place(rows_in_a_loop) == [True]
    assert ends_in_memory(rows_in_a_loop)


def test_carry_of_a_loop_that_reads_the_old_state_is_a_tile() -> None:
    assert in_place(rows_beside_the_old)[-1] is False


def branch(a: Any, o: Any, *, read_old: bool) -> None:
    o[0, :] = a[0, :]
    old = o[...]

    @pl.when(a[0, 0] > 0)
    def _() -> None:
        o[1, :] = a[1, :]

    if read_old:
        o[2, :] = old[1, :]


@pytest.mark.parametrize(("read_old", "wanted"), [(False, True), (True, False)])
def test_branch_writes_in_place_unless_the_old_state_is_read_behind_it(read_old: bool, wanted: bool) -> None:
    assert ends_in_memory(lambda a, o: branch(a, o, read_old=read_old)) is wanted


# -- reads -------------------------------------------------------------------------------------------------------------


def test_array_that_becomes_an_output_is_read_by_a_step_of_its_own() -> None:
    def kernel(a: Any, o: Any) -> None:
        o[...] = a[...]

    cell, memory = prepare(node_of(kernel))
    (step,) = cell.steps
    assert step.op == "reshape"
    assert step.inputs[0] in memory.arrays
    assert cell.outputs == step.outputs


def test_array_that_starts_a_tile_of_a_loop_is_read_by_a_step_of_its_own() -> None:
    def kernel(a: Any, o: Any) -> None:
        o[...] = lax.fori_loop(0, 900, lambda i, y: jnp.sin(y) + i.astype(F32), a[...])

    cell, memory = prepare(node_of(kernel))
    (loop,) = (step for step in cell.steps if step.op == "while")
    assert not any(value in memory.arrays for value in loop.inputs)


# -- several workgroups ------------------------------------------------------------------------------------------------


def test_whole_output_of_several_workgroups_is_refused() -> None:
    def kernel(a: Any, o: Any) -> None:
        o[...] = o[...].T.reshape(24, 16) + a[...]

    def function(x: Any) -> Any:
        return pl.pallas_call(kernel, out_shape=ROWS, grid=(4,), compiler_params=plt.CompilerParams())(x)

    (node,) = (node for node in clean(lower(function)(ROWS).graph).nodes if node.op == "tile")
    with pytest.raises(UnsupportedError, match="Each workgroup of a kernel must write its own part of an output"):
        prepare(node)


def test_parts_of_several_workgroups_are_accepted() -> None:
    def kernel(a: Any, o: Any) -> None:
        o[pl.ds(pl.program_id(0) * 6, 6), :] = a[pl.ds(pl.program_id(0) * 6, 6), :]

    def function(x: Any) -> Any:
        return pl.pallas_call(kernel, out_shape=ROWS, grid=(4,), compiler_params=plt.CompilerParams())(x)

    (node,) = (node for node in clean(lower(function)(ROWS).graph).nodes if node.op == "tile")
    _, memory = prepare(node)
    assert memory.written == {1}
