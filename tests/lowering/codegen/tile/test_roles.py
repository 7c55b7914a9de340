"""How values are held: computed anywhere, in registers, or in shared memory; and cells with their regions opened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from lowering import lower
from lowering.codegen.tile.blocks import Block
from lowering.codegen.tile.layout import infer
from lowering.codegen.tile.memory import prepare
from lowering.codegen.tile.roles import Roles, find_roles
from lowering.compiler import clean
from lowering.graph import Value

F32 = jnp.float32


def roles_of(kernel: Callable[..., None], shape: tuple[int, ...] = (32, 32), **options: Any) -> tuple[Block, Roles]:
    """Return the cell of a kernel over one array, and the roles of its values."""
    x = jax.ShapeDtypeStruct(shape, F32)
    graph = clean(lower(lambda a: pl.pallas_call(kernel, out_shape=x, **options)(a))(x).graph)
    (node,) = (node for node in graph.nodes if node.op == "tile")
    cell, memory = prepare(node)
    return cell, find_roles(cell, memory, infer(cell, memory, 64, 32).joined)


def made_by(cell: Block, op: str) -> Value:
    (value,) = (step.outputs[0] for step, _ in cell.walk() if step.op == op)
    return value


# -- roles -------------------------------------------------------------------------------------------------------------


def test_cheap_arithmetic_over_an_operand_is_computed_anywhere() -> None:
    def kernel(a: Any, o: Any) -> None:
        o[...] = jnp.flip(a[...] * 2, 0)

    cell, roles = roles_of(kernel)
    assert made_by(cell, "multiply") in roles.anywhere
    assert not roles.staged


def test_dear_arithmetic_that_is_read_elsewhere_is_staged() -> None:
    def kernel(a: Any, o: Any) -> None:
        o[...] = jnp.flip(jnp.sin(a[...]), 0)

    cell, roles = roles_of(kernel)
    assert roles.staged == {made_by(cell, "sine")}
    assert roles.staged <= roles.settled


def test_transpose_alone_needs_no_shared_memory() -> None:
    def kernel(a: Any, o: Any) -> None:
        o[...] = jnp.sin(a[...]).T

    _, roles = roles_of(kernel)
    assert not roles.staged


def test_sum_with_its_transpose_is_staged() -> None:
    def kernel(a: Any, o: Any) -> None:
        y = jnp.sin(a[...])
        o[...] = y + y.T

    cell, roles = roles_of(kernel)
    assert roles.staged == {made_by(cell, "sine")}


def test_vector_along_both_axes_of_a_tile_is_staged() -> None:
    def kernel(a: Any, o: Any) -> None:
        y = jnp.sin(a[...].sum(1))
        o[...] = y[:, None] * y[None, :]

    cell, roles = roles_of(kernel)
    assert made_by(cell, "sine") in roles.staged


def test_what_is_read_of_a_written_array_is_settled_at_once() -> None:
    def kernel(a: Any, o: Any) -> None:
        def body(i: Any, _: Any) -> Any:
            o[i, :] = o[31 - i, :] + a[i, :]
            return 0

        lax.fori_loop(0, 32, body, 0)

    cell, roles = roles_of(kernel, input_output_aliases={0: 0})
    read = [step.outputs[0] for step, _ in cell.walk() if step.op == "dynamic_slice"]
    assert any(value in roles.settled for value in read)
    assert not any(value in roles.anywhere for value in read if value in roles.settled)


def test_what_a_loop_reads_from_outside_is_settled_before_it() -> None:
    def kernel(a: Any, o: Any) -> None:
        y = jnp.sin(a[...])
        o[...] = lax.fori_loop(0, 400, lambda _, z: jnp.cos(z) + y, y)

    cell, roles = roles_of(kernel)
    assert made_by(cell, "sine") in roles.settled


# -- blocks ------------------------------------------------------------------------------------------------------------


def nested(a: Any, o: Any) -> None:
    y = jnp.sin(a[...])
    add_y = lambda z: z + y  # noqa: E731

    def body(i: Any, z: Any) -> Any:
        return lax.cond(i > 3, lambda: lax.fori_loop(0, 300, lambda _, w: jnp.cos(w) * y, z), lambda: add_y(z))

    o[...] = lax.fori_loop(0, 400, body, y)


def test_every_value_of_an_opened_cell_has_a_number_of_its_own() -> None:
    cell, _ = roles_of(nested)
    made = [*cell.inputs, *(value for step, _ in cell.walk() for value in step.outputs)]
    carries = {value for step, _ in cell.walk() if step.op == "while" for value in step.blocks[0].inputs}
    assert len({value.id for value in (*made, *carries)}) == len(made) + len(carries)


def test_regions_read_outer_values_directly() -> None:
    cell, _ = roles_of(nested)
    outer = made_by(cell, "sine")
    blocks = [block for step, block in cell.walk() if outer in step.inputs]
    assert len({id(block) for block in blocks}) == 3


def test_condition_and_body_share_their_carry() -> None:
    cell, _ = roles_of(nested)
    loops = [step for step, _ in cell.walk() if step.op == "while"]
    assert len(loops) == 2
    assert all(step.blocks[0].inputs == step.blocks[1].inputs for step in loops)
