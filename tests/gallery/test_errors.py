"""Arrays that do not fit together are refused in four lines, before a kernel is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import pytest

from docs.gallery.attention import attention
from docs.gallery.cross_entropy import cross_entropy
from docs.gallery.grouped_matmul import grouped_matmul
from docs.gallery.histogram import histogram
from docs.gallery.layer_norm import layer_norm
from docs.gallery.matmul import matmul, matmul_inside
from docs.gallery.prefix_sum import prefix_sum
from docs.gallery.rope import rope
from docs.gallery.softmax import softmax
from docs.gallery.stencil import stencil
from docs.gallery.top_k import top_k
from docs.gallery.vector_add import vector_add
from qga.errors import ShapeError

VECTOR, MATRIX, STACK = jnp.zeros(3), jnp.zeros((3, 2)), jnp.zeros((2, 3, 5))
INTEGERS = jnp.zeros(3, jnp.int32)
WRONG: dict[Callable[..., Any], tuple[Any, ...]] = {
    vector_add: (VECTOR, VECTOR.astype(jnp.float16)),
    softmax: (VECTOR,),
    layer_norm: (MATRIX, VECTOR, VECTOR),
    matmul: (MATRIX, MATRIX),
    matmul_inside: (MATRIX, MATRIX),
    attention: (STACK, STACK[:, :, :4], STACK),
    cross_entropy: (MATRIX, MATRIX, INTEGERS),
    top_k: (MATRIX, 3),
    rope: (STACK, INTEGERS),
    grouped_matmul: (MATRIX, jnp.zeros((2, 2, 3)), INTEGERS),
    stencil: (VECTOR,),
    histogram: (VECTOR, 2),
    prefix_sum: (MATRIX,),
}


@pytest.mark.parametrize("function", WRONG, ids=lambda function: function.__name__)
def test_wrong_shapes_are_refused_in_four_lines(function: Callable[..., Any]) -> None:
    with pytest.raises(ShapeError) as caught:
        function(*WRONG[function], interpret=True)
    rule, got, want, fix = str(caught.value).splitlines()
    assert rule.startswith(f"{function.__name__}: ")
    assert got.startswith("  got:  ")
    assert want.startswith("  want: ")
    assert fix.startswith("  fix:  ")
