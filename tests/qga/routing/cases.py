"""Rows of ``qga.routing``."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from qga import routing
from tests.qga.case import Case
from tests.qga.routing.chains import draw_chain, draw_network, walk

Drawn = tuple[np.ndarray, ...]


def rows(logits: jax.Array) -> jax.Array:
    """Make a walk of any matrix, so that a derivative stays among walks."""
    return jax.nn.softmax(logits, axis=-1)


def draw_two(random: np.random.Generator) -> Drawn:
    return tuple(random.normal(size=(5, 5)) for _ in range(2))


def draw_layers(random: np.random.Generator) -> Drawn:
    return (random.normal(size=(3, 5, 5)),)


def draw_walk(random: np.random.Generator) -> Drawn:
    return walk(draw_network(random))


def draw_links(random: np.random.Generator) -> Drawn:
    return (draw_network(random),)


def draw_side(random: np.random.Generator) -> Drawn:
    return (*walk(draw_network(random)), np.arange(7) < 3)


def draw_gap(random: np.random.Generator) -> Drawn:
    return random.random(()) + 0.1, random.dirichlet(np.ones(4))


def informed(logits: jax.Array, chances: jax.Array) -> jax.Array:
    return routing.mutual_information(rows(logits), rows(chances[0]))


def symmetric(function: object) -> object:
    return lambda network: function((network + network.T) / 2)  # type: ignore[operator]


CASES = [
    Case("compose", lambda a, b: routing.compose(rows(a), rows(b)), draw_two, depth=5),
    Case("tensor", routing.tensor, draw_two, scale=4.0),
    Case("rollout", lambda a: routing.rollout(rows(a), 0.4), draw_layers, depth=15),
    Case("dobrushin", lambda a, _: routing.dobrushin(rows(a)), draw_two, depth=5),
    Case("stationary", lambda a, _: routing.stationary(rows(a)).law, draw_two, depth=50),
    Case("mutual_information", informed, draw_two, depth=5, scale=2.0),
    Case("divergences", lambda a, b: routing.divergences(rows(a), rows(b[0])), draw_two, depth=5, scale=2.0),
    Case("capacity", lambda a: routing.capacity(a, iterations=50), lambda random: (draw_chain(random, 4),),
         is_smooth=False, depth=50, scale=2.0),
    Case("conductances", routing.conductances, draw_walk),
    Case("spectral_gap", routing.spectral_gap, draw_walk, lowers=False, depth=7, scale=10.0),
    Case("fiedler", routing.fiedler, draw_walk, is_smooth=False, lowers=False, depth=7, scale=10.0),
    Case("conductance", routing.conductance, draw_side, depth=7),
    Case("cheeger_bounds", lambda gap, _: routing.cheeger_bounds(gap), draw_gap),
    Case("sweep_cut", routing.sweep_cut, draw_walk, is_smooth=False, lowers=False, depth=7, scale=10.0),
    Case("effective_resistance", symmetric(routing.effective_resistance), draw_links, lowers=False, depth=7,
         scale=10.0),
    Case("kemeny_constant", routing.kemeny_constant, draw_walk, lowers=False, depth=7, scale=20.0),
    Case("detect_bottlenecks", lambda links: routing.detect_bottlenecks(links, 3).leverage, draw_links,
         lowers=False, depth=7, scale=10.0),
    Case("mixing_time_bounds", routing.mixing_time_bounds, draw_gap, scale=10.0),
    Case("free_energy", lambda a, b: routing.free_energy(rows(a), jnp.square(b) + 0.2, 1.5), draw_two,
         lowers=False, depth=5, scale=20.0),
    Case("log_product", lambda a, b: routing.log_product(a, b, 2.0), draw_two, depth=5, scale=4.0),
    Case("tropical_product", routing.tropical_product, draw_two, scale=4.0),
    Case("shortest_costs", lambda a, _: routing.shortest_costs(jnp.square(a) + 0.2), draw_two, depth=5, scale=4.0),
]  # fmt: skip
