"""Attention over rows on several devices: what is asked for, and a program that computes it on a mesh of the CPU.

Run as a program, in a process of its own: how many devices a CPU is stands fast once JAX has started.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qga.exact import attention, ring_attention, zigzag_order
from tests.qga.exact.compare import MAIN, measure, of_dtype
from tests.qga.exact.options import Arrays, Row, Shape

DEVICES = 4


@dataclass(frozen=True)
class Case:
    """A row of options on a ring.

    Attributes:
        row: options, and arrays of all devices.
        devices: along the ring.
        is_zigzag: whether rows are put in that order, and results back.
    """

    row: Row
    devices: int
    is_zigzag: bool = False


def _draw_numbers(random: np.random.Generator, shape: Shape) -> Arrays:
    return {name: random.uniform(0.1, 0.6, shape.heads) for name in ("alibi", "scale", "sinks")}


def _ask_for_everything(arrays: Arrays) -> Arrays:
    def score_mod(score: Any, batch: Any, head: Any, query: Any, key: Any) -> Any:
        return score + 0.1 * jnp.sin((query + 2 * key).astype(score.dtype))

    return {
        **{name: arrays[name] for name in ("alibi", "scale", "sinks")}, "is_causal": True, "window": (9, None),
        "softcap": 2.0, "score_mod": score_mod, "mask_mod": lambda batch, head, query, key: (query + key) % 5 != 2,
    }  # fmt: skip


def _causal(arrays: Arrays) -> Arrays:
    del arrays
    return {"is_causal": True}


CASES = {
    case.row.name: case
    for case in (
        Case(Row("causal", _causal, shape=Shape(2, 20, 20), tile=4), 4),
        Case(Row("zigzag", _causal, shape=Shape(1, 12, 12), tile=4), 2, is_zigzag=True),
        Case(Row("open", shape=Shape(1, 9, 15, 3, 3), tile=4), 3),
        Case(Row("everything", _ask_for_everything, _draw_numbers, Shape(2, 12, 20), tile=4), 4),
    )
}
ALONE = Case(Row("alone", _causal, shape=Shape(1, 7, 7), tile=4), 1)


def around(
    devices: int, *, is_zigzag: bool = False, function: Callable = ring_attention, platform: str = "cpu"
) -> Callable:
    """Return attention of all rows, computed on a ring; arrays in its options are what all devices have."""
    kind = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((devices,), ("ring",), axis_types=kind, devices=jax.devices(platform)[:devices])
    rows = jax.P(None, "ring")

    def run(query: Any, key: Any, value: Any, **options: Any) -> Any:
        numbers = {name: each for name, each in options.items() if isinstance(each, jax.Array)}
        words = {name: each for name, each in options.items() if name not in numbers} | ORDER[is_zigzag]

        def local(query: Any, key: Any, value: Any, numbers: Arrays) -> Any:
            return function(query, key, value, axis_name="ring", return_lse=True, **words, **numbers)

        spread = jax.shard_map(local, mesh=mesh, in_specs=(rows, rows, rows, jax.P()), out_specs=rows, check_vma=False)
        if not is_zigzag:
            return spread(query, key, value, numbers)
        order = zigzag_order(query.shape[1], devices)
        out, log_sums = spread(*(each[:, order] for each in (query, key, value)), numbers)
        return tuple(each[:, jnp.argsort(order)] for each in (out, log_sums))

    return run


ORDER: dict[bool, Arrays] = {False: {}, True: {"order": "zigzag"}}


def gathered(query: Any, key: Any, value: Any, *, axis_name: str, **options: Any) -> Any:
    """Compute the same with all keys and values on each device: what a ring avoids."""
    first = jax.lax.axis_index(axis_name) * query.shape[1]
    key, value = (jax.lax.all_gather(each, axis_name, axis=1, tiled=True) for each in (key, value))
    return attention(query, key, value, query_offset=first, **options)


def largest(function: Callable, devices: int) -> int:
    """Return the elements of the largest array that a device holds in a gradient, at 8 rows a device."""
    row = Row("", _causal, shape=Shape(1, 8 * devices, 8 * devices))
    arrays = of_dtype(row.arrays(np.random.default_rng(0)), jnp.float32)
    spread = partial(measure, around(devices, function=function), row, tile=4)
    return max(_sizes(jax.make_jaxpr(spread)(arrays).jaxpr, inside=False), default=0)


def _sizes(jaxpr: Any, *, inside: bool) -> list[int]:
    found = []
    for step in jaxpr.eqns:
        found += [each.aval.size for each in step.outvars if inside]
        for inner in jax.tree.leaves(list(step.params.values()), is_leaf=lambda each: hasattr(each, "eqns")):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                found += _sizes(inner, inside=inside or step.primitive.name == "shard_map")
    return found


def arrays_of(case: Case) -> Arrays:
    """Draw what a case is about, in float64."""
    return case.row.arrays(np.random.default_rng(20240229))


def compute(path: str) -> None:
    """Compute all cases and write results to a file, under the name of the case and what it is."""
    written: Arrays = {}
    for name, case in CASES.items():
        arrays = of_dtype(arrays_of(case), jnp.float64)
        run = jax.jit(partial(measure, around(case.devices, is_zigzag=case.is_zigzag), case.row, tile=case.row.tile))
        out, log_sums, gradients = run(arrays)
        written |= {f"{name} out": out, f"{name} log sums": log_sums}
        written |= {f"{name} {role}": each for role, each in gradients.items()}
        if name == "causal":
            written["causal again"] = run(arrays)[2]["key"]
            # As if each device took its place for that of the next one.
            rows = case.row.shape.queries // case.devices
            moved = run({role: jnp.roll(arrays[role], -rows, 1) for role in MAIN})[0]
            written["causal misplaced"] = jnp.roll(moved, rows, 1)
    for devices in (2, DEVICES):
        written |= {f"largest {f.__name__} {devices}": largest(f, devices) for f in (ring_attention, gathered)}
    found: Any = {name: np.asarray(each) for name, each in written.items()}
    np.savez(path, **found)


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", DEVICES)
    jax.config.update("jax_enable_x64", True)
    compute(sys.argv[1])
