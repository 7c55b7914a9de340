"""What is measured of one attention head, and how: passes where the arrays are, small matrices on the host."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .. import arithmetic, motivic, operators, routing
from ..errors import OptionError, refuse
from ..quantum.entropy import row_entropy
from .threads import one_thread

# Tiles at most: their operator is a picture that fits a page and a matrix that is solved at once.
_TILES = 128
_CAPACITY_ITERATIONS = 300
_BOTTLENECKS = 3
_MIXING_DISTANCE = 0.25


@dataclass(frozen=True)
class Options:
    """What is known about a head before its arrays are.

    Attributes:
        metric: ``dot`` or ``fidelity``.
        is_causal: whether query i sees keys 0 to i only.
        rank: directions of the sketch of the spectrum.
        block: queries and keys scored at a time.
    """

    metric: operators.Metric
    is_causal: bool
    rank: int
    block: int


class Interval(NamedTuple):
    """Two bounds that a number certainly lies between, up to rounding."""

    lower: float
    upper: float


@dataclass(frozen=True)
class Head:
    """One head in numbers. Times are in steps of the walk, information and entropy in nats.

    Quantities of routing are those of the undirected attention network over tiles: the walk that follows attention
    in either direction, c_ST = (w_S P_ST + w_T P_TS) / 2 with w the shares of the tiles. It is reversible whatever the
    head is, so a causal head has a gap and a mixing time as well.

    Attributes:
        layer: name of the layer.
        head: index within the layer.
        row_entropy: of each query's attention.
        score_variance: of each query's scores under its attention: squared speed of the row in log temperature.
        entanglement: bounds of the entanglement entropy of queries and keys; e to it is the effective rank.
        schmidt: largest squared Schmidt values, largest first; captured fidelity by rank.
        information: mutual information of query and key, queries equally likely.
        capacity: bounds of the most that any distribution over tiles of queries could route to tiles of keys.
        metric_eigenvalues: of the mean attention metric, largest first; None for ``fidelity``.
        curvature: Gaussian curvature of the attention metric at each query on the plane of its two leading
            directions; NaN where a row is too sharp to have one. None for ``fidelity``.
        smoothing: variance of the mixed values over that of the values: 0 where all rows come out alike.
        tile: rows of one tile.
        tile_operator: mass from a tile of queries to a tile of keys.
        lumping_defect: largest difference between two queries of a tile.
        spectral_gap: of the undirected walk.
        cheeger: bounds of its smallest conductance.
        mixing_time: bounds of the flow time until every start is within 1/4 of the stationary law.
        bottlenecks: pairs of tiles, hardest to do without first.
        leverage: of each of them, 1 for a bridge.
        arithmetic: zeta function, entropy rate and quantum walk of the undirected walk.
        is_causal: whether query i sees keys 0 to i only.
        weight_spectrum: share of each scale of keys in the energy of the tile operator, coarsest first.
    """

    layer: str
    head: int
    row_entropy: Float[np.ndarray, " queries"]
    score_variance: Float[np.ndarray, " queries"]
    entanglement: Interval
    schmidt: Float[np.ndarray, " rank"]
    information: float
    capacity: Interval
    metric_eigenvalues: Float[np.ndarray, " width"] | None
    curvature: Float[np.ndarray, " queries"] | None
    smoothing: float
    tile: int
    tile_operator: Float[np.ndarray, "tiles tiles"]
    lumping_defect: float
    spectral_gap: float
    cheeger: Interval
    mixing_time: Interval
    bottlenecks: Int[np.ndarray, "edges 2"]
    leverage: Float[np.ndarray, " edges"]
    arithmetic: arithmetic.ArithmeticReport
    is_causal: bool
    weight_spectrum: Float[np.ndarray, " levels"]

    @property
    def keys_seen(self) -> float:
        """How many keys a query looks at, e^entropy, averaged over the queries."""
        return float(np.mean(np.exp(self.row_entropy)))

    @property
    def effective_rank(self) -> Interval:
        """Bounds of how many directions the pattern uses."""
        return Interval(float(np.exp(self.entanglement.lower)), float(np.exp(self.entanglement.upper)))

    @property
    def median_curvature(self) -> float:
        """Median over the queries that have a curvature; NaN without any."""
        finite = [] if self.curvature is None else self.curvature[np.isfinite(self.curvature)]
        return float(np.median(finite)) if len(finite) else float("nan")


class Survey(NamedTuple):
    """What the device computes of a head before anything is solved."""

    row_entropy: Float[Array, " queries"]
    score_variance: Float[Array, " queries"]
    gram: Float[Array, "rank rank"]
    information: Float[Array, ""]
    metric: Float[Array, "width width"]
    smoothing: Float[Array, ""]
    lumped: operators.TileOperator


class Passes(NamedTuple):
    """A head after its passes.

    Attributes:
        survey: on the host.
        eigenvalues: of the mean metric, largest first; None for ``fidelity``.
        curvature: where the arrays are, perhaps still being computed; None where there is no plane.
    """

    survey: Survey
    eigenvalues: np.ndarray | None
    curvature: Array | None


def run_passes(
    queries: Float[Array, "rows width"],
    keys: Float[Array, "rows width"],
    values: Float[Array, "rows channels"],
    scale: Float[Array, ""],
    key: PRNGKeyArray,
    options: Options,
) -> Passes:
    """Run the passes over blocks of one head's scores: wait for all but those of the curvature, which are only queued.

    The device has the curvature to do while the next head is made ready.
    """
    operator = operators.attention_operator(
        queries, keys, metric=options.metric, scale=scale, is_causal=options.is_causal, block=options.block
    )
    tile = rows_of_tile(queries.shape[0])
    survey = jax.device_get(survey_head(operator, values, key, rank=options.rank, tile=tile))
    if options.metric != "dot":
        return Passes(survey, None, None)
    eigenvalues, plane = lead(survey.metric)
    # A width of one has no plane.
    curvature = operators.metric_curvature(operator, jnp.asarray(plane)) if len(plane) == 2 else None
    return Passes(survey, eigenvalues, curvature)


def rows_of_tile(rows: int) -> int:
    """Return how many rows make a tile, so that tiles are few."""
    return -(-rows // _TILES)


def lead(metric: Float[np.ndarray, "width width"]) -> tuple[np.ndarray, np.ndarray]:
    """Return the eigenvalues of a metric, largest first, and its two leading directions as rows."""
    with one_thread:
        eigenvalues, directions = np.linalg.eigh(metric.astype(float))
    return eigenvalues[::-1], directions[:, :-3:-1].T.astype(metric.dtype)


def solver_device() -> Any:
    """Return the device that solves small problems."""
    try:
        return jax.devices("cpu")[0]
    except RuntimeError:
        refuse(
            OptionError,
            "analyze: small problems, such as eigenvalues of tiles, are solved on the CPU.",
            got="a JAX without a CPU device",
            want="a CPU device beside the one that holds the arrays",
            fix="start with JAX_PLATFORMS=vulkan,cpu; the first one stays the default.",
        )


@partial(jax.jit, static_argnames=("rank", "tile"))
def survey_head(
    operator: operators.AttentionOperator,
    values: Float[Array, "rows channels"],
    key: PRNGKeyArray,
    *,
    rank: int,
    tile: int,
) -> Survey:
    """Compute what needs no solver, in seven passes."""
    weights = jnp.full(values.shape[:1], 1 / values.shape[0], operator.scores.scale.dtype)
    masses = operators.key_masses(operator, weights)
    centred = operator.scores.keys - (masses @ operator.scores.keys)[None]
    apart = values - jnp.mean(values, axis=0, keepdims=True)
    means = operators.operate(operator, jnp.concatenate([centred, apart], axis=1))
    mixed = means[:, centred.shape[1] :]
    spread = jnp.sum(jnp.square(mixed - jnp.mean(mixed, axis=0, keepdims=True)))
    return Survey(
        row_entropy=operator.rows.entropy,
        score_variance=operator.rows.score_variance,
        gram=operators.sketch_amplitudes(operator, key, rank=rank),
        information=row_entropy(masses) - jnp.sum(weights * operator.rows.entropy),
        metric=operators.metric_of_means(operator, centred, means[:, : centred.shape[1]], weights, masses),
        smoothing=spread / jnp.sum(jnp.square(apart)),
        lumped=operators.tile_operator(operator, tile),
    )


class Solved(NamedTuple):
    """What solvers make of a survey."""

    bounds: operators.EntanglementBounds
    capacity: routing.Capacity
    gap: Float[Array, ""]
    cheeger: routing.Bounds
    mixing_time: routing.Bounds
    narrow: routing.Bottlenecks
    arithmetic: arithmetic.ArithmeticReport


# On the CPU, where the solvers are, whatever the device of the arrays.
@partial(jax.jit, static_argnames="rows")
def _solve(gram: Array, lumped: operators.TileOperator, *, rows: int) -> Solved:
    network = routing.conductances(lumped.weights, lumped.query_masses)
    degrees = jnp.sum(network, axis=1)
    walk, law = network / degrees[:, None], degrees / jnp.sum(degrees)
    gap = routing.spectral_gap(walk, law)
    tiles = law.shape[0]
    return Solved(
        bounds=operators.entanglement_bounds(gram, rows),
        capacity=routing.capacity(lumped.weights, iterations=_CAPACITY_ITERATIONS),
        gap=gap,
        cheeger=routing.cheeger_bounds(gap),
        mixing_time=routing.mixing_time_bounds(gap, law, distance=_MIXING_DISTANCE),
        narrow=routing.detect_bottlenecks(network, min(_BOTTLENECKS, tiles * (tiles - 1) // 2)),
        arithmetic=arithmetic.analyze(walk, law),
    )


def _solve_on_host(survey: Survey) -> Solved:
    # In double precision: in single precision the solvers spend their time on numbers near zero.
    with jax.default_device(solver_device()), jax.enable_x64(True), one_thread:
        gram, lumped = jax.tree.map(lambda each: np.asarray(each, float), (survey.gram, survey.lumped))
        return jax.device_get(_solve(gram, lumped, rows=len(survey.row_entropy)))


def write_head(passes: Passes, options: Options, *, layer: str, head: int) -> Head:
    """Solve what is small on the CPU, wait for the curvature, and write all of it down."""
    survey, solved, weights = passes.survey, _solve_on_host(passes.survey), np.asarray(passes.survey.lumped.weights)
    low = float(solved.capacity.value)
    return Head(
        layer=layer,
        head=head,
        row_entropy=np.asarray(survey.row_entropy),
        score_variance=np.asarray(survey.score_variance),
        entanglement=Interval(float(solved.bounds.lower), float(solved.bounds.upper)),
        schmidt=np.asarray(solved.bounds.schmidt),
        information=float(survey.information),
        capacity=Interval(low, low + float(solved.capacity.gap)),
        metric_eigenvalues=passes.eigenvalues,
        curvature=None if passes.curvature is None else np.asarray(passes.curvature),
        smoothing=float(survey.smoothing),
        tile=rows_of_tile(len(survey.row_entropy)),
        tile_operator=weights,
        lumping_defect=float(survey.lumped.defect),
        spectral_gap=float(solved.gap),
        cheeger=Interval(*map(float, solved.cheeger)),
        mixing_time=Interval(*map(float, solved.mixing_time)),
        bottlenecks=np.asarray(solved.narrow.edges),
        leverage=np.asarray(solved.narrow.leverage),
        arithmetic=solved.arithmetic,
        is_causal=options.is_causal,
        weight_spectrum=_weight_spectrum(weights),
    )


def _weight_spectrum(weights: np.ndarray) -> np.ndarray:
    """Share each scale of keys in the energy of the rows, padded to a power of two with keys that nobody sees."""
    columns = 1 << (weights.shape[1] - 1).bit_length()
    padded = np.zeros((columns, weights.shape[0]), weights.dtype)
    padded[: weights.shape[1]] = weights.T
    with jax.default_device(solver_device()):
        energies = np.asarray(_energies(padded)).sum(axis=1)
    return energies / energies.sum()


_energies = jax.jit(motivic.energies)
