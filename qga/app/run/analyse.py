"""Look inside the heads of a trained model: maps, flow, entropy, rank, spectrum."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ... import motivic, quantum
from ...flow import heat, order_for
from .devices import Device
from .model import ModelConfig, Parameters, attend, measure_loss, predict

FLOW_TIME = 2.0
_FLOW_TOLERANCE = 1e-6


class Look(NamedTuple):
    """What the device computed from a trained model.

    Attributes:
        loss: mean surprise on text held out from no batch in particular, in nats.
        maps: attention of each head on one example; rows sum to one.
        flowed: the same after heat flow for ``FLOW_TIME``.
        tail: largest total variation between a flowed row and the exact one.
    """

    loss: Float[np.ndarray, ""]
    maps: Float[np.ndarray, "layers heads places places"]
    flowed: Float[np.ndarray, "layers heads places places"]
    tail: Float[np.ndarray, ""]


@dataclass(frozen=True)
class HeadNumbers:
    """One head in numbers.

    Attributes:
        layer: index of its layer.
        head: index within the layer.
        row_entropy: of each row, in nats.
        flowed_entropy: the same after the flow.
        effective_rank: e to the entanglement entropy of the map with equal weight on all queries.
        spectrum: share of the map's energy at each scale of keys, coarsest first; sums to one.
    """

    layer: int
    head: int
    row_entropy: np.ndarray
    flowed_entropy: np.ndarray
    effective_rank: float
    spectrum: np.ndarray


def look_inside(
    parameters: Parameters, examples: Int[np.ndarray, "batch places_and_next"], config: ModelConfig, device: Device
) -> Look:
    """Evaluate loss, attention maps and their heat flow on one device.

    Args:
        parameters: of a trained model, anywhere.
        examples: the loss is taken over all of them, the maps over the first.
        config: sizes.
        device: where it runs.
    """
    arguments = jax.device_put((parameters, examples), device)
    return Look(*jax.device_get(jax.jit(partial(_look, config=config))(*arguments)))


def measure_heads(look: Look) -> list[HeadNumbers]:
    """Measure every head of a look on the CPU, where eigenvalues are."""
    with jax.default_device(jax.devices("cpu")[0]):
        layers, heads = look.maps.shape[:2]
        places = [(layer, head) for layer in range(layers) for head in range(heads)]
        return [_measure(layer, head, look.maps[layer, head], look.flowed[layer, head]) for layer, head in places]


def _look(parameters: Parameters, examples: Array, *, config: ModelConfig) -> tuple[Array, Array, Array, Array]:
    _, layers = predict(parameters, examples[:1, :-1], config)
    queries = jnp.concatenate([layer.queries for layer in layers])
    keys = jnp.concatenate([layer.keys for layer in layers])
    scales = [layer.scale for layer in layers if layer.scale is not None]
    # Attention of the identity is the matrix of weights itself, computed by the same tiled function as in training.
    identity = jnp.broadcast_to(jnp.eye(config.context, dtype=queries.dtype), (*queries.shape[:3], config.context))
    scale = jnp.stack(scales) if scales else None
    maps = attend(config, queries, keys, identity, scale)
    flowed, tail = heat(
        lambda field: attend(config, queries, keys, field, scale),
        identity,
        FLOW_TIME,
        order=order_for(FLOW_TIME, _FLOW_TOLERANCE),
    )
    return measure_loss(parameters, examples, config), maps, flowed, tail


def _measure(layer: int, head: int, weights: np.ndarray, flowed: np.ndarray) -> HeadNumbers:
    # Rows of equal weight: the amplitude matrix sqrt(P / queries) has unit norm, and its squared singular values are
    # the eigenvalues of this density matrix.
    rho = quantum.density(jnp.sqrt(jnp.asarray(weights)))
    energies = np.asarray(motivic.energies(jnp.asarray(weights).T)).sum(axis=1)
    return HeadNumbers(
        layer=layer,
        head=head,
        row_entropy=np.asarray(quantum.row_entropy(jnp.asarray(weights))),
        flowed_entropy=np.asarray(quantum.row_entropy(jnp.asarray(flowed))),
        effective_rank=float(quantum.effective_rank(rho)),
        spectrum=energies / energies.sum(),
    )
