"""Views say where each element of a chain of moves lies: every address is checked against NumPy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from lowering.codegen.views import View, view_of

from ..programs import graph_of

SHAPE = (4, 6, 10)
MOVES: dict[str, Callable[[Any], Any]] = {
    "itself": lambda x: x,
    "reshaped": lambda x: x.reshape(2, 2, 60),
    "transposed": lambda x: x.transpose(2, 0, 1),
    "sliced": lambda x: x[1:3, :, 4:8],
    "every second": lambda x: x[:, ::2, 1::3],
    "one index": lambda x: x.reshape(4, 3, 2, 10)[:, 1],
    "cut and turned": lambda x: x.reshape(4, 3, 2, 10).transpose(1, 0, 3, 2),
    "put together": lambda x: x.transpose(1, 2, 0).reshape(60, 4),
    "repeated": lambda x: jnp.broadcast_to(x[:, :1], (3, 4, 6, 10)),
    "repeated and put together": lambda x: jnp.broadcast_to(x[None, :, None, :2, :], (3, 4, 5, 2, 10)).reshape(
        3, 4, 5, 20
    ),
    "ones": lambda x: x[:, None, 2:3].transpose(3, 1, 2, 0),
}
COMPUTED: dict[str, Callable[[Any], Any]] = {
    "uneven": lambda x: x.transpose(0, 2, 1).reshape(4, 60),
    "uneven slices": lambda x: x[:, :4].reshape(16, 10).T.reshape(160),
    "reversed": lambda x: x[::-1],
    "arithmetic": lambda x: x + 1,
    "padded": lambda x: lax.pad(x, jnp.float32(0), ((1, 0, 0), (0, 0, 0), (0, 0, 0))),
}


def view(function: Callable[[Any], Any]) -> View | None:
    """Return the view of what a function makes of an array."""
    graph = graph_of(function, np.zeros(SHAPE, np.float32))
    return view_of(graph.outputs[0], graph.producers(), graph.inputs)


def addresses(found: View) -> np.ndarray:
    """Return the place in memory of each element."""
    index = np.indices(found.shape, dtype=np.int64)
    return found.offset + np.tensordot(np.array(found.strides), index, 1)


@pytest.mark.parametrize("name", MOVES)
def test_elements_lie_where_the_view_says(name: str) -> None:
    found = view(MOVES[name])
    assert found is not None
    numbers = jnp.arange(240, dtype=jnp.float32).reshape(SHAPE)
    np.testing.assert_array_equal(addresses(found), np.asarray(MOVES[name](numbers)))


@pytest.mark.parametrize("name", COMPUTED)
def test_what_is_computed_or_uneven_is_no_view(name: str) -> None:
    assert view(COMPUTED[name]) is None


@pytest.mark.parametrize("name", MOVES)
def test_axes_walked_as_one_step_evenly(name: str) -> None:
    found = view(MOVES[name])
    assert found is not None
    axes = tuple(range(len(found.shape)))
    for first in axes:
        for last in axes[first:]:
            group = axes[first : last + 1]
            step = found.step(group)
            walked = addresses(found)[tuple(slice(None) if axis in group else 0 for axis in axes)].reshape(-1)
            assert (step is not None) == bool((np.diff(walked) == (step or 0)).all()) or len(walked) == 1


@pytest.mark.parametrize("name", MOVES)
def test_pieces_lie_together(name: str) -> None:
    found = view(MOVES[name])
    assert found is not None
    along, run = found.contiguous(), found.run()
    if along is None:
        assert run == 0
        return
    lines = np.moveaxis(addresses(found), along, -1).reshape(-1, found.shape[along])
    for size in (size for size in (2, 4) if run % size == 0):
        pieces = lines.reshape(-1, size)
        assert (np.diff(pieces, axis=1) == 1).all()
        assert (pieces[:, 0] % size == 0).all()


def test_a_slice_that_starts_between_vectors_has_shorter_pieces() -> None:
    found = view(lambda x: x[:, :, 2:8])
    assert found is not None
    assert (found.offset, found.run()) == (2, 2)
