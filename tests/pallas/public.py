"""The portable Pallas kernels inside the jax wheel, as a table; and those that are for one vendor's machines, with why.

A row is called as it stands: it takes its arrays and runs where they are. ``interpreted()`` makes every kernel that is
traced inside it run as JAX operations, the ones that have no such option too.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.pallas import tpu as interpreters

from tests.conformance.tolerance import Bound
from tests.gallery.compare import compiled, leaves
from tests.pallas import references

with warnings.catch_warnings():
    # Later releases of JAX say of some that another package has newer ones.
    warnings.simplefilter("ignore", DeprecationWarning)
    from jax.experimental.pallas.ops.gpu import attention as gpu_attention
    from jax.experimental.pallas.ops.gpu import decode_attention, layer_norm, rms_norm, softmax
    from jax.experimental.pallas.ops.gpu import paged_attention as gpu_paged
    from jax.experimental.pallas.ops.tpu import example_kernel, flash_attention, matmul, splash_attention
    from jax.experimental.pallas.ops.tpu.megablox import ops as megablox_ops
    from jax.experimental.pallas.ops.tpu.megablox.gmm import tgmm
    from jax.experimental.pallas.ops.tpu.random import philox, threefry

Arrays = tuple[np.ndarray, ...]
# Sums inside a product of matrices, a softmax and another product: a few roundings each.
ROUNDINGS = 4
SCALE = 1.0


@dataclass(frozen=True)
class Row:
    """One kernel.

    Args:
        function: of arrays alone.
        reference: of the same arrays, floats in float64.
        arrays: what both are called with.
        depth: the longest sum.
        roundings: c of the tolerance; 0 where the result is exact.
    """

    name: str
    function: Callable[..., Any]
    reference: Callable[..., Any]
    arrays: Arrays
    depth: int = 1
    roundings: float = ROUNDINGS

    def bound(self) -> Bound:
        """Return the tolerance."""
        return Bound(self.roundings, self.depth, floor=SCALE if self.depth > 1 else 0.0)


def interpreted() -> AbstractContextManager[None]:
    """Run kernels as JAX operations; the setting is part of JAX's cache keys."""
    return interpreters.force_tpu_interpret_mode(True)  # type: ignore[arg-type]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Return seeded normal numbers, cut off at three."""
    return np.clip(np.random.default_rng([seed, *shape]).normal(size=shape), -3, 3).astype(np.float32)


def truth(row: Row) -> list[np.ndarray]:
    """Return the reference's results, computed in float64 where the arrays are floats."""
    with jax.enable_x64(True):
        wide = [array if array.dtype.kind in "iu" else array.astype(np.float64) for array in row.arrays]
        return leaves(compiled(row.reference)(*wide))


def spoil(got: list[np.ndarray]) -> list[np.ndarray]:
    """Return results that are off by a thousandth, integers by one."""
    return [array + 1 if array.dtype.kind in "iu" else np.float32(1.001) * array for array in got]


def pulled_back(function: Callable[..., Any], count: int) -> Callable[..., Any]:
    """Return the gradients of a weighted sum of a function's result in its first ``count`` arguments."""

    def total(*arrays: jax.Array) -> jax.Array:
        out = function(*arrays)
        weights = (jnp.arange(out.size) * 7 % 11 - 5).astype(out.dtype).reshape(out.shape) / 8
        return jnp.sum(weights * out)

    return jax.grad(total, argnums=tuple(range(count)))


def _pair(
    name: str, function: Callable[..., Any], reference: Callable[..., Any], arrays: Arrays, depth: int, count: int
) -> tuple[Row, Row]:
    """Return the rows of a kernel and of its gradient."""
    return (
        Row(name, function, reference, arrays, depth),
        Row(f"{name}.backward", pulled_back(function, count), pulled_back(reference, count), arrays, depth),
    )


# --- attention of jax.experimental.pallas.ops.gpu --------------------------------------------------------------------

_TOKENS, _HEADS, _WIDTH, _BLOCK = 64, 2, 16, 32
_QKV = tuple(normal(2, _TOKENS, _HEADS, _WIDTH, seed=seed) for seed in range(3))
_SCALE = 0.25
_GPU_BLOCKS = gpu_attention.BlockSizes(
    block_q=_BLOCK, block_k=_BLOCK, block_q_dkv=_BLOCK, block_kv_dkv=_BLOCK, block_q_dq=_BLOCK, block_kv_dq=_BLOCK
)
_SEGMENTS = np.repeat(np.array([[0, 1], [2, 3]], np.int32), [24, 40], axis=1)


def _mha(q: jax.Array, k: jax.Array, v: jax.Array, *segments: jax.Array, causal: bool) -> jax.Array:
    return gpu_attention.mha(
        q, k, v, segments[0] if segments else None, sm_scale=_SCALE, causal=causal, block_sizes=_GPU_BLOCKS,
        backward_pass_impl="triton",
    )  # fmt: skip


def _mha_reference(q: jax.Array, k: jax.Array, v: jax.Array, *segments: jax.Array, causal: bool) -> jax.Array:
    mask = references.causal(_TOKENS, _TOKENS)[None, None] if causal else None
    if segments:
        mask = (segments[0][:, :, None] == segments[0][:, None, :])[:, None]
    (out,) = references.heads_first(references.attention(*references.heads_first(q, k, v), mask=mask, scale=_SCALE))
    return out


def _options(
    function: Callable[..., Any], reference: Callable[..., Any], **options: Any
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    return functools.partial(function, **options), functools.partial(reference, **options)


_MHA = (
    *_pair("gpu.attention.mha", *_options(_mha, _mha_reference, causal=False), _QKV, _TOKENS, 3),
    *_pair("gpu.attention.mha_causal", *_options(_mha, _mha_reference, causal=True), _QKV, _TOKENS, 3),
    Row("gpu.attention.mha_segments", *_options(_mha, _mha_reference, causal=False), (*_QKV, _SEGMENTS), _TOKENS),
)

# --- one query against many keys -------------------------------------------------------------------------------------

_KEYS, _SPLITS = 128, 2
_LENGTHS = np.array([97, 31], np.int32)


def _mqa(q: jax.Array, k: jax.Array, v: jax.Array, lengths: jax.Array) -> jax.Array:
    return decode_attention.mqa(q, k, v, kv_seq_len=lengths, sm_scale=_SCALE, block_k=_BLOCK, k_splits=_SPLITS)


def _gqa(q: jax.Array, k: jax.Array, v: jax.Array, lengths: jax.Array) -> jax.Array:
    return decode_attention.gqa(q, k, v, kv_seq_len=lengths, sm_scale=_SCALE, block_k=_BLOCK, k_splits=_SPLITS)


def _mqa_reference(q: jax.Array, k: jax.Array, v: jax.Array, lengths: jax.Array) -> jax.Array:
    mask = (jnp.arange(_KEYS)[None, :] < lengths[:, None])[:, None]
    return references.attention(q, k, v, mask=mask, scale=_SCALE)


def _gqa_reference(q: jax.Array, k: jax.Array, v: jax.Array, lengths: jax.Array, scale: float = _SCALE) -> jax.Array:
    k, v = references.heads_first(k, v)
    batch, heads, width = q.shape
    grouped = q.reshape(batch, k.shape[1], heads // k.shape[1], width)
    mask = (jnp.arange(k.shape[2])[None, :] < lengths[:, None])[:, None, None]
    return references.attention(grouped, k, v, mask=mask, scale=scale).reshape(q.shape)


_PAGE, _PAGES = 16, 8
_PAGE_TABLE = np.random.default_rng(0).permutation(2 * _PAGES).astype(np.int32).reshape(2, _PAGES)


def _paged(q: jax.Array, k: jax.Array, v: jax.Array, table: jax.Array, lengths: jax.Array) -> jax.Array:
    return gpu_paged.paged_attention(q, k, v, table, lengths, pages_per_compute_block=2, k_splits=_SPLITS)


def _paged_reference(q: jax.Array, k: jax.Array, v: jax.Array, table: jax.Array, lengths: jax.Array) -> jax.Array:
    def gather(pages: jax.Array) -> jax.Array:
        heads, _, _, width = pages.shape
        return pages[:, table].transpose(1, 2, 3, 0, 4).reshape(table.shape[0], -1, heads, width)

    return _gqa_reference(q, gather(k), gather(v), lengths, scale=1.0)


_DECODE = (
    Row("gpu.decode_attention.mqa", _mqa, _mqa_reference,
        (normal(2, 5, _WIDTH), normal(2, _KEYS, _WIDTH, seed=1), normal(2, _KEYS, _WIDTH, seed=2), _LENGTHS), _KEYS),
    Row("gpu.decode_attention.gqa", _gqa, _gqa_reference,
        (normal(2, 6, _WIDTH), normal(2, _KEYS, 2, _WIDTH, seed=1), normal(2, _KEYS, 2, _WIDTH, seed=2), _LENGTHS),
        _KEYS),
    Row("gpu.paged_attention", _paged, _paged_reference,
        (normal(2, 6, _WIDTH), normal(2, 2 * _PAGES, _PAGE, _WIDTH, seed=1),
         normal(2, 2 * _PAGES, _PAGE, _WIDTH, seed=2), _PAGE_TABLE, _LENGTHS), _KEYS),
)  # fmt: skip

# --- rows ------------------------------------------------------------------------------------------------------------

_ROWS = (normal(2, 5, 200), normal(200, seed=1), normal(200, seed=2))
_NORMS = (
    *_pair("gpu.layer_norm", layer_norm.layer_norm, references.layer_norm, _ROWS, 200, 3),
    *_pair("gpu.rms_norm", rms_norm.rms_norm, references.rms_norm, _ROWS, 200, 3),
    Row("gpu.softmax", softmax.softmax, functools.partial(jax.nn.softmax, axis=-1), (normal(3, 5, 100),), 100),
)

# --- jax.experimental.pallas.ops.tpu ---------------------------------------------------------------------------------

# Its lanes: blocks are whole multiples.
_LANES = 128
_LONG = tuple(normal(1, _HEADS, 2 * _LANES, _LANES, seed=seed) for seed in range(3))
_ONE_BATCH = tuple(array[0] for array in _LONG)
_NARROW = 1 / 16


def _flash(q: jax.Array, k: jax.Array, v: jax.Array, *, causal: bool) -> jax.Array:
    return flash_attention.flash_attention(q, k, v, causal=causal, sm_scale=_NARROW)


def _splash(q: jax.Array, k: jax.Array, v: jax.Array, *, causal: bool) -> Any:
    shape = (q.shape[1], k.shape[1])
    mask = splash_attention.CausalMask(shape) if causal else splash_attention.FullMask(shape)
    heads = splash_attention.MultiHeadMask([mask] * q.shape[0])
    return splash_attention.make_splash_mha_single_device(heads)(_NARROW * q, k, v)


def _long_reference(q: jax.Array, k: jax.Array, v: jax.Array, *, causal: bool) -> jax.Array:
    mask = references.causal(q.shape[-2], k.shape[-2]) if causal else None
    mask = None if mask is None else jnp.broadcast_to(mask, (*q.shape[:-1], k.shape[-2]))
    return references.attention(q, k, v, mask=mask, scale=_NARROW)


_LONG_SEGMENTS = np.repeat(np.array([[0, 1]], np.int32), [100, 156], axis=1)
_BIAS = normal(1, _HEADS, 2 * _LANES, 2 * _LANES, seed=3)


def _flash_biased(q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array, segments: jax.Array) -> jax.Array:
    ids = flash_attention.SegmentIds(segments, segments)
    return flash_attention.flash_attention(q, k, v, bias, ids, sm_scale=_NARROW)


def _biased_reference(q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array, segments: jax.Array) -> jax.Array:
    mask = (segments[:, :, None] == segments[:, None, :])[:, None]
    return references.attention(q, k, v, mask=mask, scale=_NARROW, bias=bias)


# One wide key head for all queries, a window of keys, and a backward pass in one kernel.
_WINDOW = 70
_FUSED = splash_attention.BlockSizes(
    block_q=_LANES, block_kv=_LANES, block_q_dkv=_LANES, block_kv_dkv=_LANES, use_fused_bwd_kernel=True
)


def _splash_local(q: jax.Array, k: jax.Array, v: jax.Array) -> Any:
    mask = splash_attention.LocalMask((q.shape[1], k.shape[0]), (_WINDOW, 0), 0)
    kernel = splash_attention.make_splash_mqa(
        splash_attention.MultiHeadMask([mask] * q.shape[0]), block_sizes=_FUSED, head_shards=1, q_seq_shards=1
    )
    return kernel(_NARROW * q, k, v)


def _local_reference(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    back = jnp.arange(q.shape[1])[:, None] - jnp.arange(k.shape[0])[None, :]
    return references.attention(q, k[None], v[None], mask=((back >= 0) & (back <= _WINDOW))[None], scale=_NARROW)


_GROUP_SIZES = (100, 0, 61, 95)
_GROUPED = (normal(256, 128), normal(4, 128, 128, seed=1), np.array(_GROUP_SIZES, np.int32))
_RUNS = (normal(128, 256), normal(256, 128, seed=1), np.array(_GROUP_SIZES, np.int32))
_TILING = (64, 64, 64)


def _gmm(x: jax.Array, matrices: jax.Array, sizes: jax.Array) -> jax.Array:
    return megablox_ops.gmm(x, matrices, sizes, jnp.float32, _TILING)


def _gmm_reference(x: jax.Array, matrices: jax.Array, sizes: jax.Array) -> jax.Array:
    return references.grouped_matmul(x, matrices, _GROUP_SIZES)


def _tgmm(x: jax.Array, y: jax.Array, sizes: jax.Array) -> jax.Array:
    return tgmm(x, y, sizes, jnp.float32, _TILING)


def _tgmm_reference(x: jax.Array, y: jax.Array, sizes: jax.Array) -> jax.Array:
    return references.grouped_outer(x, y, _GROUP_SIZES)


_MATRICES = (
    Row("tpu.example_kernel", example_kernel.double, lambda x: 2 * x, (normal(7, 5),), roundings=0),
    Row("tpu.matmul", functools.partial(matmul.matmul, block_shape=(64, 32), block_k=16), jnp.matmul,
        (normal(128, 48), normal(48, 64, seed=1)), 48),
    *_pair("tpu.megablox.gmm", _gmm, _gmm_reference, _GROUPED, 256, 2),
    Row("tpu.megablox.tgmm", _tgmm, _tgmm_reference, _RUNS, 256),
)  # fmt: skip
_ATTENTION = (
    *_pair("tpu.flash_attention", *_options(_flash, _long_reference, causal=False), _LONG, 256, 3),
    *_pair("tpu.flash_attention_causal", *_options(_flash, _long_reference, causal=True), _LONG, 256, 3),
    Row("tpu.flash_attention_biased", _flash_biased, _biased_reference, (*_LONG, _BIAS, _LONG_SEGMENTS), 256),
    *_pair("tpu.splash_attention", *_options(_splash, _long_reference, causal=False), _ONE_BATCH, 256, 3),
    *_pair(
        "tpu.splash_attention_causal",
        *_options(_splash, _long_reference, causal=True),
        _ONE_BATCH,
        256,
        3,
    ),
    *_pair(
        "tpu.splash_attention_local",
        _splash_local,
        _local_reference,
        (_LONG[0][0], _LONG[1][0, 0], _LONG[2][0, 0]),
        256,
        3,
    ),
)

_KEY, _BITS = np.array([0x1234567, 0x89ABCDEF], np.uint32), (3, 300)


def _threefry_reference(key: jax.Array) -> jax.Array:
    with jax.threefry_partitionable(True):
        return jax.random.bits(jax.random.wrap_key_data(key, impl="threefry2x32"), _BITS, jnp.uint32)


_RANDOM = (
    Row("tpu.random.threefry", lambda key: threefry.plthreefry_random_bits(key, 32, _BITS), _threefry_reference,
        (_KEY,), roundings=0),
    Row("tpu.random.philox", lambda key: philox.philox_random_bits(key, 32, _BITS),
        lambda key: jnp.asarray(references.philox_bits(_KEY, _BITS)), (_KEY,), roundings=0),
)  # fmt: skip

ROWS: tuple[Row, ...] = (*_MHA, *_DECODE, *_NORMS, *_MATRICES, *_ATTENTION, *_RANDOM)
BY_NAME = {row.name: row for row in ROWS}

# The modules whose kernels the rows call.
COVERED = (
    "gpu.attention gpu.decode_attention gpu.layer_norm gpu.paged_attention gpu.rms_norm gpu.softmax tpu.example_kernel "
    "tpu.flash_attention tpu.matmul tpu.megablox.gmm tpu.random.philox tpu.random.threefry "
    "tpu.splash_attention.splash_attention_kernel"
).split()

_WGMMA = ("wgmma", "matrix units of Hopper, fed by copies into shared memory and barriers")
_TCGEN05 = ("tcgen05_mma", "matrix units of Blackwell, which sum in tensor memory")
# Kernels for one vendor's machines: a word in their source, and what it stands for.
VENDOR: dict[str, tuple[str, str]] = {
    "gpu.all_gather_mgpu": ("multimem_store", "multicast between GPUs over NVLink, semaphore_signal_multicast"),
    "gpu.attention_mgpu": _WGMMA,
    "gpu.blackwell_matmul_mgpu": _TCGEN05,
    "gpu.blackwell_ragged_dot_mgpu": _TCGEN05,
    "gpu.collective_matmul_mgpu": ("semaphore_signal", "semaphores between GPUs"),
    "gpu.hopper_matmul_mgpu": _WGMMA,
    "gpu.hopper_mixed_type_matmul_mgpu": _WGMMA,
    "gpu.ragged_dot_mgpu": _WGMMA,
    "gpu.reduce_scatter_mgpu": ("multimem_load_reduce", "reduction between GPUs over NVLink"),
    "gpu.transposed_ragged_dot_mgpu": _WGMMA,
    "tpu.all_gather": ("async_remote_copy", "dma_start to another TPU, semaphore_signal"),
    "tpu.paged_attention.paged_attention_kernel": ("make_async_copy", "dma_start and dma_wait with DMA semaphores"),
    "tpu.ragged_paged_attention.kernel": ("make_async_copy", "dma_start and dma_wait with DMA semaphores; bitcast"),
}
