"""All heads in turn: the device passes over one while the host solves those before it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .. import operators
from ..exact.observe import Observed
from .head import Head, Options, run_passes, solver_device, write_head

_RANK = 32
# The random directions of sketches; the bounds that come of them hold for every choice.
_SEED = 0
# Heads that wait for the host at most: each holds a few vectors of rows and a matrix of tiles.
_WAITING = 2
# The scores of 4,096 x 4,096 pairs take 64 MiB and a GPU longer than to start on them.
_BLOCK_OF_GPU = 4096

Notify = Callable[[str, int, int], None]


class Place(NamedTuple):
    """Where a head belongs.

    Attributes:
        layer: name of the layer.
        head: index within the layer.
        heads: in the layer.
    """

    layer: str
    head: int
    heads: int


class Inputs(NamedTuple):
    """What the passes over one head need."""

    queries: Float[Array, "rows width"]
    keys: Float[Array, "rows width"]
    values: Float[Array, "rows channels"]
    scale: Float[Array, ""]
    key: PRNGKeyArray
    options: Options


def measure_heads(layers: Sequence[Observed], *, block: int | None, notify: Notify | None = None) -> list[Head]:
    """Measure every head of some layers, in order.

    Args:
        layers: what was observed.
        block: queries and keys scored at a time, at most; None for what suits the device.
        notify: called with the layer, heads done and heads in all, by this thread.

    Raises:
        OptionError: JAX has no CPU device, or an option of ``qga.operators.attention_operator``.
    """
    solver_device()
    done: list[Head] = []
    waiting: deque[tuple[Place, Future[Head]]] = deque()

    def finish() -> None:
        place, head = waiting.popleft()
        done.append(head.result())
        if notify is not None:
            notify(place.layer, place.head + 1, place.heads)

    # One thread: solvers are short beside the passes, and two of them would wait for one another's cores.
    with ThreadPoolExecutor(1, thread_name_prefix="qga-solve") as solver:
        for place, inputs in _heads(layers, block):
            passes = run_passes(*inputs)
            future = solver.submit(write_head, passes, inputs.options, layer=place.layer, head=place.head)
            waiting.append((place, future))
            if len(waiting) > _WAITING:
                finish()
        while waiting:
            finish()
    return done


def block_for(rows: Array) -> int:
    """Return how many rows are scored at a time: what stays near a core of a CPU, or keeps a GPU busy for long."""
    is_cpu = all(device.platform == "cpu" for device in rows.devices())
    return operators.DEFAULT_BLOCK if is_cpu else _BLOCK_OF_GPU


def _heads(layers: Sequence[Observed], block: int | None) -> Iterator[tuple[Place, Inputs]]:
    for found in layers:
        count, rows, width = found.queries.shape
        group = count // found.keys.shape[0]
        options = Options(found.metric, found.is_causal, min(_RANK, rows), block or block_for(found.queries))
        scale = found.scale
        if scale is None and found.metric == "dot":
            scale = 1 / math.sqrt(width)
        # A missing scale is refused by the operator, with its reason.
        scales = [None] * count if scale is None else jnp.broadcast_to(jnp.asarray(scale), (count,))
        for head in range(count):
            arrays = found.queries[head], found.keys[head // group], found.values[head // group]
            key = jax.random.key(_SEED + head)
            yield Place(found.layer, head, count), Inputs(*arrays, scales[head], key, options)  # type: ignore[arg-type]
