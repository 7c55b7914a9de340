"""The portable kernels inside the jax wheel, run as JAX operations, give what their formulas give."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.experimental.pallas.ops as ops
import jax.numpy as jnp
import pytest
from jax.experimental.pallas.ops.tpu.paged_attention import paged_attention

from tests.gallery.compare import compiled, leaves, problem
from tests.pallas.features import kernels_of
from tests.pallas.public import BY_NAME, COVERED, VENDOR, interpreted, spoil, truth

# What no device but its maker's has.
VENDOR_PRIMITIVES = frozenset("dma_start dma_wait semaphore_signal semaphore_wait wgmma tcgen05_mma".split())


@pytest.fixture(autouse=True)
def default_promotion(jax_settings: None) -> Iterator[None]:
    """Run with JAX's own settings: these kernels rely on them."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.parametrize("name", BY_NAME)
def test_kernel_is_its_formula_to_a_thousandth_and_better(name: str) -> None:
    row = BY_NAME[name]
    with interpreted():
        got = leaves(compiled(row.function)(*row.arrays))
    want = truth(row)
    assert problem(got, want, row.bound()) is None
    assert problem(spoil(got), want, row.bound()) is not None


@pytest.mark.parametrize("name", BY_NAME)
def test_kernel_is_traced_without_a_device_and_is_portable(name: str) -> None:
    kernels = kernels_of(BY_NAME[name].function, *BY_NAME[name].arrays)
    assert kernels
    assert not VENDOR_PRIMITIVES.intersection(itertools.chain(*(kernel.primitives for kernel in kernels)))


def test_a_vendors_primitive_is_seen() -> None:
    queries, pages = jnp.zeros((2, 8, 128)), jnp.zeros((2, 16, 16, 128))
    lengths, table = jnp.ones(2, jnp.int32), jnp.zeros((2, 8), jnp.int32)
    function = functools.partial(paged_attention, pages_per_compute_block=2)
    (kernel,) = kernels_of(function, queries, pages, pages, lengths, table)
    assert VENDOR_PRIMITIVES.intersection(kernel.primitives) == {"dma_start", "dma_wait"}
    assert "scratch in semaphore_mem" in kernel.features


def modules(package: str = ops.__name__) -> Iterator[tuple[str, str]]:
    """Yield the modules below jax's kernels that call Pallas: their name there, and their source."""
    for entry in pkgutil.walk_packages(ops.__path__, f"{package}."):
        spec = importlib.util.find_spec(entry.name)
        assert spec is not None
        assert spec.origin is not None
        source = Path(spec.origin).read_text()
        if "pallas_call(" in source or ".kernel(" in source:
            yield entry.name.removeprefix(f"{package}."), source


def test_every_public_kernel_is_in_the_table_or_is_a_vendors() -> None:
    assert {name for name, _ in modules()} == {*COVERED, *VENDOR}


def test_a_vendors_kernel_uses_what_the_table_says() -> None:
    sources = dict(modules())
    assert [name for name, (word, _) in VENDOR.items() if word not in sources[name]] == []
