"""One of several processes that compute ring attention together, each on a Vulkan device of its own.

Arguments: number of the process, number of processes, port, devices of the CPU in each process, where to write.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

ROWS, HEADS, KEY_HEADS, WIDTH = 5, 2, 1, 4


def draw(devices: int) -> list[np.ndarray]:
    """Return queries, keys and values of all devices."""
    random, rows = np.random.default_rng(5), ROWS * devices
    return [random.normal(size=(1, rows, heads, WIDTH)).astype(np.float32) for heads in (HEADS, KEY_HEADS, KEY_HEADS)]


def total(attend: Any, *arrays: Any) -> Any:
    """Return a number that every result has a part in, and the results."""
    out = attend(*arrays)
    return jnp.sum(jnp.sin(3 * out)), out


def compute() -> dict[str, np.ndarray]:
    """Compute attention and its gradients, and return the rows that this process has."""
    # Only here: the first of these starts JAX.
    import lowering
    from lowering.embedding import handler
    from qga import ring_attention

    devices = jax.device_count()
    mesh = jax.make_mesh((devices,), ("ring",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.P(None, "ring")
    local = partial(ring_attention, axis_name="ring", is_causal=True, embed=lowering.embed)
    attend = jax.shard_map(local, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False)
    run = jax.jit(jax.grad(partial(total, attend), (0, 1, 2), has_aux=True))
    spread = jax.NamedSharding(mesh, rows)
    arrays = [jax.make_array_from_callback(each.shape, spread, each.__getitem__) for each in draw(devices)]
    jax.block_until_ready(run(*arrays))
    before = handler.load.cache_info().hits
    gradients, out = jax.block_until_ready(run(*arrays))
    found = dict(zip(("out", "query", "key", "value"), map(_own_rows, (out, *gradients)), strict=True))
    return {**found, "calls": np.array(handler.load.cache_info().hits - before)}


def _own_rows(array: jax.Array) -> np.ndarray:
    shards = sorted(array.addressable_shards, key=lambda each: each.index[1].start)
    return np.concatenate([each.data for each in shards], axis=1)


def main(rank: int, processes: int, port: int, devices: int, path: str) -> None:
    """Join the others, compute, and write what was found."""
    jax.config.update("jax_num_cpu_devices", devices)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", processes, rank, initialization_timeout=60)
    found: Any = compute()
    np.savez(path, **found)
    jax.distributed.shutdown()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:5]), sys.argv[5])
