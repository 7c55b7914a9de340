"""The cell of a `pallas_call`: which axes are workgroups, what is padded or shared, and its values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.experimental.pallas import triton as plt

from lowering.errors import UnsupportedError
from lowering.pallas import Cell, make_cell

from .kernels import CASES, call, like
from .kernels_of_tiles import CASES as CASES_OF_TILES

F32 = jnp.float32
X = jax.ShapeDtypeStruct((32, 48), F32)


def parameters_of(function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """Return the parameters of the one `pallas_call` that a function makes."""

    def find(jaxpr: Any) -> Any:
        for equation in jaxpr.eqns:
            if equation.primitive.name == "pallas_call":
                return equation.params
            for value in equation.params.values():
                inner = getattr(value, "jaxpr", None)
                found = find(inner) if hasattr(inner, "eqns") else None
                if found is not None:
                    return found
        return None

    found = find(jax.make_jaxpr(function)(*arguments).jaxpr)
    assert found is not None
    return found


def cell_of(function: Callable[..., Any], *arguments: Any) -> Cell:
    return make_cell(parameters_of(function, *arguments))


def blocks(outputs: Any = None, *, grid: Any = (4, 3), shape: tuple[Any, ...] = (8, 16), **options: Any) -> Cell:
    """Return the cell of a kernel over blocks of X, whose output blocks `outputs` places."""
    place = (lambda i, j: (i, j)) if outputs is None else outputs

    def kernel(a: Any, o: Any, *scratch: Any) -> None:
        o[...] = o[...] + 1

    def function(x: Any) -> Any:
        specs = {
            "in_specs": [pl.BlockSpec((8, 16), lambda i, j: (i, j))],
            "out_specs": pl.BlockSpec(shape, place),
        }
        return call(kernel, x, grid=grid, **specs, **options)

    return cell_of(function, X)


# -- which axes are parallel -------------------------------------------------------------------------------------------


def test_axes_with_blocks_of_their_own_are_parallel() -> None:
    assert blocks().grid == (4, 3)


def test_axis_that_revisits_a_block_is_a_loop() -> None:
    assert blocks(lambda i, j: (i, 0)).grid == (4,)


def test_axis_whose_place_is_computed_is_a_loop() -> None:
    assert blocks(lambda i, j: (i // 2, j)).grid == (3,)


def test_scratch_makes_loops_of_all_axes() -> None:
    assert blocks(scratch_shapes=[pltpu.VMEM((8, 16), F32)]).grid == ()


def test_author_decides_what_is_parallel() -> None:
    semantics = pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary"))
    assert blocks(compiler_params=semantics).grid == (4,)
    assert blocks(compiler_params=semantics, scratch_shapes=[pltpu.VMEM((8, 16), F32)]).grid == (4,)


def test_words_of_the_author_skip_axes_of_batching() -> None:
    semantics = pltpu.CompilerParams(dimension_semantics=("arbitrary", "parallel"))

    def function(x: Any) -> Any:
        spec = pl.BlockSpec((8, 16), lambda i, j: (i, j))
        return call(lambda a, o: None, x, grid=(4, 3), in_specs=[spec], out_specs=spec, compiler_params=semantics)

    assert cell_of(jax.vmap(function), jax.ShapeDtypeStruct((5, 32, 48), F32)).grid == (5, 3)


def test_batching_is_parallel_in_spite_of_scratch() -> None:
    def function(x: Any) -> Any:
        spec = pl.BlockSpec((8, 16), lambda i, j: (i, j))
        scratch = [pltpu.VMEM((8, 16), F32)]
        return call(lambda a, o, s: None, x, grid=(4, 3), in_specs=[spec], out_specs=spec, scratch_shapes=scratch)

    assert cell_of(jax.vmap(function), jax.ShapeDtypeStruct((5, 32, 48), F32)).grid == (5,)


def test_kernels_for_triton_are_parallel() -> None:
    assert blocks(lambda i, j: (0, 0), compiler_params=plt.CompilerParams()).grid == (4, 3)


@pytest.mark.parametrize(("place", "parallel"), [("window", ()), ("indices", (4,))])
def test_windows_stored_under_masks_come_one_after_the_other(place: str, parallel: tuple[int, ...]) -> None:
    def kernel(a: Any, o: Any) -> None:
        first = pl.program_id(0) * 8
        places = pl.ds(first, 8) if place == "window" else first + jnp.arange(8)
        plt.store(o.at[places], plt.load(a.at[places]))

    line = jax.ShapeDtypeStruct((32,), F32)
    assert cell_of(lambda x: call(kernel, x, grid=(4,), compiler_params=plt.CompilerParams()), line).grid == parallel


def test_atomic_updates_come_one_after_the_other() -> None:
    case = CASES_OF_TILES["atomic_sums"]
    assert cell_of(lambda x: case.function(x, interpret=False), like(case.arguments[0])).grid == ()


def test_blocks_by_element_may_overlap() -> None:
    assert blocks(lambda i, j: (i, j), shape=(pl.Element(8), pl.Element(16))).grid == ()


def test_blocks_of_one_element_do_not_overlap() -> None:
    assert blocks(lambda i, j: (i, 0), shape=(pl.Element(1), pl.Element(48))).grid == (4,)


def test_hidden_dimension_counts_elements() -> None:
    def function(x: Any) -> Any:
        spec = pl.BlockSpec((None, 48), lambda i: (i, 0))
        return call(lambda a, o: None, x, grid=(32,), in_specs=[spec], out_specs=spec)

    assert cell_of(function, X).grid == (32,)


@pytest.mark.parametrize(("rows", "parallel"), [(4, (4, 3)), (5, (3,))])
def test_axis_that_leaves_the_array_is_a_loop(rows: int, parallel: tuple[int, ...]) -> None:
    assert blocks(grid=(rows, 3)).grid == parallel


def test_ragged_last_block_is_inside() -> None:
    cell = cell_of(
        lambda x: call(
            lambda a, o: None,
            x,
            grid=(5,),
            in_specs=[pl.BlockSpec((7, 48), lambda i: (i, 0))],
            out_specs=pl.BlockSpec((7, 48), lambda i: (i, 0)),
        ),
        X,
    )
    assert cell.grid == (5,)
    assert cell.outputs[0].shape == (35, 48)
    assert cell.operands[0].shape == (35, 48)


def test_axis_whose_size_is_an_array_is_a_loop() -> None:
    case = CASES["grid_in_an_array"]
    cell = cell_of(lambda x, n: case.function(x, n, interpret=False), *case.arguments)
    assert cell.grid == ()
    assert [each.shape for each in cell.operands] == [(), (64, 16), (64, 16)]


# -- memory that is shared ---------------------------------------------------------------------------------------------


def alias(name: str) -> Cell:
    return cell_of(lambda *arguments: CASES[name].function(*arguments, interpret=False), *CASES[name].arguments)


def test_alias_of_the_same_blocks_needs_no_second_operand() -> None:
    cell = alias("alias_of_blocks")
    assert (cell.aliases, cell.again, len(cell.operands)) == (((0, 0),), (), 1)


@pytest.mark.parametrize("name", ["alias_of_blocks_in_reverse", "alias_of_the_transpose", "alias_with_a_second_output"])
def test_alias_that_is_read_elsewhere_comes_twice(name: str) -> None:
    cell = alias(name)
    assert (cell.aliases, cell.again, len(cell.operands)) == (((0, 0),), (0,), 2)


def test_alias_counts_sizes_of_the_grid_as_operands() -> None:
    assert alias("grid_in_an_array").aliases == ((1, 0),)


# -- values ------------------------------------------------------------------------------------------------------------


def test_cell_is_the_kernel_at_one_position() -> None:
    def kernel(a: Any, o: Any) -> None:
        o[...] = a[...] * 2 + pl.program_id(0).astype(F32) + float(pl.num_programs(0))

    spec = pl.BlockSpec((8, 48), lambda i: (i, 0))
    cell = cell_of(lambda x: call(kernel, x, grid=(4,), in_specs=[spec], out_specs=spec), X)
    x = np.arange(32 * 48, dtype=np.float32).reshape(32, 48)
    (out,) = cell.function(jnp.int32(2), x, jnp.zeros_like(x))
    want = np.zeros_like(x)
    want[16:24] = x[16:24] * 2 + 6
    np.testing.assert_array_equal(out, want)


def test_name_is_the_kernels() -> None:
    def scale(a: Any, o: Any) -> None:
        o[...] = a[...]

    assert cell_of(lambda x: call(scale, x, name="doubled"), X).name == "doubled"


# -- refusals ----------------------------------------------------------------------------------------------------------


def refused(shape: tuple[Any, ...], place: Callable[..., Any]) -> str:
    def function(x: Any) -> Any:
        return call(lambda a, o: None, x, grid=(4,), in_specs=[pl.BlockSpec(shape, place)])

    with pytest.raises(UnsupportedError) as caught:
        cell_of(function, X)
    return str(caught.value)


def test_padding_is_refused() -> None:
    text = refused((pl.Element(8, (2, 0)), pl.Element(48)), lambda i: (i * 8, 0))
    assert text.startswith("pallas_call: a block must not pad its array.\n")
    assert "jnp.pad" in text


def test_blocks_of_varying_extent_are_refused() -> None:
    text = refused((pl.BoundedSlice(8), 48), lambda i: (pl.ds(i * 8, 8), 0))
    assert text.startswith("pallas_call: a block must be a rectangle of fixed extents.\n")
    assert "BoundedSlice(8)" in text
