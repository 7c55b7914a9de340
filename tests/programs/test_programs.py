from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from tests.conformance.tolerance import Bound, difference

from . import PROGRAMS, Program

# Terms that cancel err with their own size, which is about one in these programs.
FLOOR = 1.0


@pytest.fixture(autouse=True)
def default_promotion(jax_settings: None) -> Any:
    """Run with JAX's own settings: libraries rely on them."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def results(program: Program, device: Any) -> dict[str, np.ndarray]:
    with jax.default_device(device):
        tree = jax.jit(program.function)(*jax.device_put(program.arguments, device))
    paths, _ = jax.tree.flatten_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in paths}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", PROGRAMS)
def test_program_gives_on_vulkan_what_it_gives_on_the_cpu(vulkan: Any, name: str) -> None:
    program = PROGRAMS[name]
    pytest.importorskip(program.needs)
    got, want = results(program, vulkan), results(program, jax.devices("cpu")[0])
    bound = Bound(program.roundings, program.depth, FLOOR)
    differing = {path: text for path in want if (text := difference(got[path], want[path], bound)) is not None}
    assert differing == {}
    assert got.keys() == want.keys()
