"""Tensors of PyTorch cross both ways; its own attention is the oracle. Runs with `.ci/run oracles`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qga import backends
from qga.errors import OptionError
from tests.qga.tolerances import VULKAN_ROUNDINGS, assert_close, assert_far, bound, worst

torch = pytest.importorskip("torch", reason="PyTorch is not installed here: `.ci/run oracles` runs these tests")

DTYPES = [
    "float32", "float16", "bfloat16", "float8_e4m3fn", "int8", "uint8", "int16", "uint16", "int32", "bool",
]  # fmt: skip


def numbers(dtype: str = "float32") -> Any:
    return torch.arange(24).reshape(2, 3, 4).to(torch.float32).to(getattr(torch, dtype))


def crossing() -> dict[str, Any]:
    base, complex_one = numbers(), torch.tensor([1 + 2j, 3 - 4j])
    return {
        "transposed": base.permute(2, 0, 1), "skipped": base[:, ::2, 1::2], "broadcast": base[:1].expand(4, 3, 4),
        "empty": torch.zeros(0, 3), "scalar": torch.tensor(3.0), "skipped bfloat16": numbers("bfloat16")[..., ::3],
        "empty bfloat16": torch.zeros(3, 0).bfloat16(), "scalar bfloat16": torch.tensor(2.0).bfloat16(),
        "conjugate": complex_one.conj(), "negated view": complex_one.conj().imag,
    }  # fmt: skip


def refused() -> dict[str, Any]:
    return {
        "requires a gradient": torch.ones(3, requires_grad=True), "a gradient": torch.nn.Parameter(torch.ones(3)),
        "on meta": torch.ones(3, device="meta"), "torch.sparse_coo": torch.ones(3).to_sparse(),
        "int64, of which JAX would make int32": torch.arange(3), "float64, of which": torch.ones(3).double(),
        "dtype torch.bits8": torch.empty(3, dtype=torch.bits8),
    }  # fmt: skip


def same(ours: Any, theirs: Any) -> bool:
    """Compare bit by bit; a tensor without a sign of zero or NaN of its own would hide them."""
    as_bytes = [each.contiguous().reshape(-1).view(torch.uint8) for each in (ours, theirs.resolve_conj().resolve_neg())]
    return ours.dtype == theirs.dtype and ours.shape == theirs.shape and torch.equal(*as_bytes)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtype_crosses_there_and_back(backend: backends.Backend, dtype: str) -> None:
    if dtype.startswith("float8") and backend.platform == "vulkan":
        with pytest.raises(jax.errors.JaxRuntimeError, match="a dtype that the compiler knows"):
            backend.to_backend(numbers(dtype))
        return
    there = backend.to_backend(numbers(dtype))
    assert there.devices() == {backend.device}
    assert there.dtype == jnp.dtype(dtype)
    assert np.asarray(there).astype(np.float32).tolist() == numbers(dtype).to(torch.float32).tolist()
    assert same(backend.to_torch(there), numbers(dtype))


@pytest.mark.parametrize("name", crossing())
def test_view_crosses_there_and_back(backend: backends.Backend, name: str) -> None:
    tensor = crossing()[name]
    assert same(backend.to_torch(backend.to_backend(tensor)), tensor)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", ["int64", "float64", "complex128"])
def test_wide_dtype_crosses_where_jax_keeps_it(cpu: backends.Backend, dtype: str) -> None:
    assert same(cpu.to_torch(cpu.to_backend(numbers(dtype))), numbers(dtype))


@pytest.mark.parametrize("name", refused())
def test_tensor_that_cannot_cross_is_refused(cpu: backends.Backend, name: str) -> None:
    with pytest.raises(OptionError, match=name) as caught:
        cpu.to_backend(refused()[name])
    assert [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:]] == ["got", "want", "fix"]


def test_array_without_a_dtype_of_torch_is_refused(cpu: backends.Backend) -> None:
    for array in (jnp.ones(2, jnp.int4), jax.random.key(0)):
        with pytest.raises(OptionError, match="a dtype that PyTorch has"):
            cpu.to_torch(array)


def test_writing_on_one_side_is_not_seen_on_the_other(backend: backends.Backend) -> None:
    tensor = torch.zeros(1 << 16)
    there = backend.to_backend(tensor)
    tensor[:] = 1
    back = backend.to_torch(there)
    back[:] = 2
    assert not np.asarray(there).any()


def test_memory_is_shared_where_it_was_asked_for(cpu: backends.Backend, vulkan: Any) -> None:
    tensor = torch.zeros(1 << 16)
    there = cpu.to_backend(tensor, copy=False)
    assert there.unsafe_buffer_pointer() == tensor.data_ptr() == cpu.to_torch(there, copy=False).data_ptr()
    with pytest.raises(OptionError, match="copy=False"):
        cpu.to_torch(jax.device_put(there, vulkan), copy=False)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_attention_is_that_of_torch(backend: backends.Backend, dtype: str) -> None:
    generator = torch.Generator().manual_seed(20240229)
    call = [torch.randn(2, 24, 4, 8, generator=generator).to(getattr(torch, dtype)) for _ in range(3)]
    mask = torch.rand(2, 1, 24, 24, generator=generator) < 0.7
    mask |= torch.eye(24, dtype=torch.bool)
    prepared = backend.prepare_attention(*call)
    got = backend.compute_attention(prepared, mask)
    assert isinstance(got, torch.Tensor)
    assert got.dtype == call[0].dtype
    rows = [each.double().transpose(1, 2) for each in call]
    want = torch.nn.functional.scaled_dot_product_attention(*rows, attn_mask=mask).transpose(1, 2)
    # Numbers of 16 bits are summed in float32: weights are rounded before the sum, and the sum is after it.
    limit = bound(np.float32, 24, 4, VULKAN_ROUNDINGS) if dtype == "float32" else float(jnp.finfo(dtype).eps) * 4
    assert worst(got.float().numpy(), want.numpy()) <= limit
    assert worst(backend.compute_attention(prepared).float().numpy(), want.numpy()) > 4 * limit, "without the mask"


def test_core_answers_in_tensors_of_torch(backend: backends.Backend) -> None:
    field, weights = torch.linspace(-1, 1, 24).reshape(8, 3), torch.softmax(torch.eye(4) * 2, -1)
    flowed, tail = backend.compute_pattern_flow(field, torch.tensor(0.5))
    report = backend.analyze_arithmetic_dynamics(weights)
    filtered = backend.apply_motivic_structure(field, torch.tensor([1.0, 0, 0, 0]))
    tiles, exists = backend.split_into_tiles(field, 5)
    assert all(isinstance(each, torch.Tensor) for each in (flowed, tail, *report, filtered, tiles, exists))
    assert_close(filtered.numpy(), field.mean(0).expand(8, 3).numpy(), depth=8)
    assert_far(filtered.numpy(), field.numpy(), depth=8)
    assert report.traces[0] == pytest.approx(float(weights.trace()), rel=1e-6)
    assert exists.sum() == 8
