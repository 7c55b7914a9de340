"""What every pure function promises: under jit, vmap and derivatives, in both precisions, on every platform (T-19)."""

from __future__ import annotations

import importlib
import zlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.qga.case import Case
from tests.qga.tolerances import CPU_ROUNDINGS, VULKAN_ROUNDINGS, bound, worst

ROOMS = sorted(file.parent.name for file in Path(__file__).parent.glob("*/cases.py"))
CASES = {
    f"{room}.{case.name}": case for room in ROOMS for case in importlib.import_module(f"tests.qga.{room}.cases").CASES
}
SMOOTH = [name for name, case in CASES.items() if case.is_smooth]
LOWERED = [name for name, case in CASES.items() if case.lowers]
BATCHED = [name for name, case in CASES.items() if case.batches]


def thirds(names: list[str]) -> list[Any]:
    """Leave two of three out of the daily run, by name; ``-m exhaustive`` runs them."""
    return [
        name if zlib.crc32(name.encode()) % 3 == 0 else pytest.param(name, marks=pytest.mark.exhaustive)
        for name in names
    ]


# Roundings of a chain of operations that a single precision run may be off by against double precision.
CHAIN_ROUNDINGS = 25 * CPU_ROUNDINGS
STEP = 1e-5


def drawn(case: Case, seed: int = 20240229) -> tuple[np.ndarray, ...]:
    return case.draw(np.random.default_rng(seed))


def single(array: np.ndarray) -> np.ndarray:
    narrow = {"f": np.float32, "c": np.complex64, "i": np.int32, "u": np.uint32}
    return array.astype(narrow[array.dtype.kind]) if array.dtype.kind in narrow else array


def leaves(tree: Any) -> list[np.ndarray]:
    """Return the arrays of a result, complex ones as pairs of real ones."""
    flat = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    return [np.stack([leaf.real, leaf.imag]) if np.iscomplexobj(leaf) else leaf for leaf in flat]


def require_close(case: Case, got: Any, want: Any, roundings: float, dtype: np.typing.DTypeLike) -> None:
    """Compare two results leaf by leaf; integers and truths must be equal."""
    pairs = list(zip(leaves(got), leaves(want), strict=True))
    assert pairs
    for ours, theirs in pairs:
        if theirs.dtype.kind not in "f":
            assert np.array_equal(ours, theirs)
            continue
        finite = theirs[np.isfinite(theirs)]
        scale = max(case.scale, float(np.max(np.abs(finite), initial=0.0)))
        allowed, error = bound(dtype, case.depth, scale, roundings), worst(ours, theirs)
        assert error <= allowed, f"off by {error:.3g}, allowed {allowed:.3g}"


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", thirds(list(CASES)))
def test_jit_changes_rounding_alone(name: str) -> None:
    case = CASES[name]
    arrays = tuple(map(jnp.asarray, drawn(case)))
    require_close(case, jax.jit(case.function)(*arrays), case.function(*arrays), CHAIN_ROUNDINGS, np.float64)


@pytest.mark.parametrize("name", CASES)
def test_single_precision_is_double_precision_rounded(name: str) -> None:
    case = CASES[name]
    narrow = tuple(map(single, drawn(case)))
    got = jax.jit(case.function)(*map(jnp.asarray, narrow))
    with jax.enable_x64(True):
        # The same numbers: what is measured is the function, not the rounding of its inputs.
        wide = tuple(array.astype(full.dtype) for array, full in zip(narrow, drawn(case), strict=True))
        want = jax.jit(case.function)(*map(jnp.asarray, wide))
        require_close(case, got, want, CHAIN_ROUNDINGS, np.float32)
    assert not any(leaf.dtype in (np.float64, np.complex128) for leaf in jax.tree.leaves(got))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", thirds(BATCHED))
def test_vmap_is_a_loop(name: str) -> None:
    case = CASES[name]
    entries = [tuple(map(jnp.asarray, drawn(case, seed))) for seed in (1, 2, 3)]
    got = jax.jit(jax.vmap(case.function))(*(jnp.stack(each) for each in zip(*entries, strict=True)))
    separate = [jax.jit(case.function)(*entry) for entry in entries]
    want = jax.tree.map(lambda *parts: jnp.stack(parts), *separate)
    require_close(case, got, want, CHAIN_ROUNDINGS, np.float64)


def real_outputs(case: Case, arrays: tuple[Any, ...]) -> Any:
    """Return the floating results of a case as one real vector."""
    parts = []
    for leaf in jax.tree.leaves(case.function(*arrays)):
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            parts += [jnp.ravel(leaf.real), jnp.ravel(leaf.imag)]
        elif jnp.issubdtype(leaf.dtype, jnp.floating):
            parts.append(jnp.ravel(leaf))
    return jnp.concatenate(parts)


def along(case: Case, arrays: tuple[np.ndarray, ...], direction: tuple[np.ndarray | None, ...]) -> Any:
    """Return the case's results as a function of one number: how far the inputs moved along a direction."""

    def moved(step: Any) -> Any:
        return real_outputs(
            case,
            tuple(
                jnp.asarray(array) if way is None else jnp.asarray(array) + step * jnp.asarray(way)
                for array, way in zip(arrays, direction, strict=True)
            ),
        )

    return jax.jit(moved)


def draw_direction(arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray | None, ...]:
    random = np.random.default_rng(7)
    ways: list[np.ndarray | None] = []
    for array in arrays:
        way = random.normal(size=array.shape) + (1j * random.normal(size=array.shape) if array.dtype.kind == "c" else 0)
        ways.append(way if array.dtype.kind in "fc" else None)
    return tuple(ways)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", SMOOTH)
def test_derivatives_are_the_difference_quotient_and_its_transpose(name: str) -> None:
    case = CASES[name]
    arrays = drawn(case)
    function = along(case, arrays, draw_direction(arrays))
    _, slope = jax.jvp(function, (0.0,), (1.0,))
    # Five points: the error is of order STEP^4 and the rounding eps / STEP.
    quotient = (8 * (function(STEP) - function(-STEP)) - (function(2 * STEP) - function(-2 * STEP))) / (12 * STEP)
    size = max(case.scale, float(jnp.max(jnp.abs(slope))), float(jnp.max(jnp.abs(function(0.0)))))
    assert float(jnp.max(jnp.abs(slope))) > 1e-9, "a derivative of zero shows nothing"
    assert worst(slope, quotient) <= 1e-7 * size
    weights = jnp.asarray(np.random.default_rng(8).normal(size=slope.shape))
    gradient = jax.grad(lambda step: jnp.vdot(weights, function(step)))(0.0)
    want = float(jnp.vdot(weights, slope))
    scale = float(jnp.sum(jnp.abs(weights * slope))) + case.scale
    assert abs(float(gradient) - want) <= bound(np.float64, case.depth, scale, 100 * CHAIN_ROUNDINGS)


@pytest.mark.parametrize("name", LOWERED)
def test_vulkan_computes_what_the_cpu_computes(name: str, vulkan: jax.Device) -> None:
    case = CASES[name]
    narrow = tuple(map(single, drawn(case)))
    cpu, other = (
        jax.jit(case.function)(*(jax.device_put(array, device) for array in narrow))
        for device in (jax.devices("cpu")[0], vulkan)
    )
    assert all(leaf.devices() == {vulkan} for leaf in jax.tree.leaves(other))
    require_close(case, other, cpu, VULKAN_ROUNDINGS + CHAIN_ROUNDINGS, np.float32)
