"""The harnesses inside the jax wheel: their names, their arguments, and one run on a device.

The one file of the suite that reads a private module of JAX, because the harnesses live nowhere else.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax._src.internal_test_util import test_harnesses

# Primitives whose result is a chain of roundings, with how to read the chain's length from an equation.
CUMULATIVE = frozenset({"cumsum", "cumprod", "cumlogsumexp"})
REDUCING = frozenset({"reduce_sum", "reduce_prod", "reduce"})
WINDOWED = frozenset({"reduce_window", "reduce_window_sum", "select_and_scatter_add", "select_and_gather_add"})
SCATTERING = frozenset({"scatter-add", "scatter_add", "scatter_mul", "scatter-mul", "scatter-sub"})


@dataclass(frozen=True, slots=True)
class Case:
    """One harness: its unique name and the primitive it belongs to."""

    name: str
    primitive: str
    dtype: str


def all_cases() -> list[Case]:
    """List every harness under the current setting of `jax_enable_x64`."""
    return [Case(harness.fullname, harness.group_name, np.dtype(harness.dtype).name) for harness in _by_name().values()]


def run_case(name: str, devices: Sequence[Any]) -> tuple[list[list[np.ndarray]], int, list[np.ndarray]]:
    """Run one harness on each device; return the flat results of each, the reduction depth and the inputs."""
    harness = _by_name()[name]
    random = np.random.RandomState(zlib.crc32(name.encode()))
    with jax.default_device(jax.devices("cpu")[0]):
        arguments = harness.dyn_args_maker(random)
        depth = reduction_depth(jax.make_jaxpr(harness.dyn_fun)(*arguments))
    results = []
    for device in devices:
        with jax.default_device(device):
            placed = [jax.device_put(item, device) if isinstance(item, jax.Array) else item for item in arguments]
            results.append(_flat(jax.jit(harness.dyn_fun)(*placed)))
    return results, depth, _flat(arguments)


def skip_reason(name: str) -> str | None:
    """Return why JAX itself must not run this harness (it would crash the process), or None."""
    limits = _by_name()[name].jax_unimplemented
    return next((limit.description for limit in limits if limit.skip_run and limit.enabled), None)


def reduction_depth(jaxpr: Any) -> int:
    """Return the longest chain of roundings in one equation of a jaxpr, nested ones included; at least one."""
    return max((_depth(equation) for equation in _equations(jaxpr)), default=1)


def _depth(equation: Any) -> int:
    name, parameters = equation.primitive.name, equation.params
    shapes = [variable.aval.shape for variable in equation.invars if hasattr(variable.aval, "shape")]
    if name == "dot_general":
        (contract, _), _ = parameters["dimension_numbers"]
        return max(1, math.prod(shapes[0][axis] for axis in contract))
    if name == "conv_general_dilated":
        return max(1, math.prod(shapes[1]) // max(1, shapes[1][parameters["dimension_numbers"].rhs_spec[0]]))
    if name in CUMULATIVE:
        return max(1, shapes[0][parameters["axis"]])
    if name in REDUCING:
        axes = parameters.get("axes", parameters.get("dimensions", ()))
        return max(1, math.prod(shapes[0][axis] for axis in axes))
    if name in WINDOWED:
        return max(1, math.prod(parameters["window_dimensions"]))
    if name in SCATTERING:
        return max(1, math.prod(shapes[2]))
    return 1


def _equations(jaxpr: Any) -> Iterator[Any]:
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        yield equation
        for parameter in equation.params.values():
            for item in parameter if isinstance(parameter, tuple | list) else (parameter,):
                if hasattr(getattr(item, "jaxpr", item), "eqns"):
                    yield from _equations(item)


def _flat(tree: Any) -> list[np.ndarray]:
    return [_to_numpy(leaf) for leaf in jax.tree.leaves(tree)]


def _to_numpy(leaf: Any) -> np.ndarray:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


def _by_name() -> dict[str, Any]:
    return {harness.fullname: harness for harness in test_harnesses.all_harnesses}
