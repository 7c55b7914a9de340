"""What adaptive attention does with given rows at several promises: levels, bounds against errors, work and time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..adaptive import attend_and_map
from ..exact import attention
from ..tiling import Certificate, Certified, LevelMap
from .head import solver_device

PROMISES = (1e-1, 1e-2, 1e-3, 1e-4)
_CALLS = 5


@dataclass(frozen=True)
class Trial:
    """One promise, kept.

    Attributes:
        eps: the promise.
        certificate: of every query, in NumPy arrays [batch, queries, heads].
        levels: of every pair of tiles.
        error: length of the error that was made, against float64, [batch, queries, heads].
        seconds: median of a call.
        seconds_exact: of exact attention to the same rows on the same device.
    """

    eps: float
    certificate: Certificate
    levels: LevelMap
    error: Float[np.ndarray, "batch queries heads"]
    seconds: float
    seconds_exact: float

    @property
    def tightness(self) -> float:
        """How many times the largest error the largest bound is."""
        most = float(np.max(self.error))
        return float(np.max(self.certificate.out_error)) / most if most > 0 else float("inf")


def try_promises(
    query: Float[Array, "batch queries heads width"],
    key: Float[Array, "batch keys key_heads width"],
    value: Float[Array, "batch keys key_heads channels"],
    *,
    promises: Sequence[float] = PROMISES,
    products: Literal["given", "half"] = "given",
    **options: Any,
) -> tuple[Trial, ...]:
    """Attend within several promises, and compare what the certificates say with what is true.

    A certificate bounds an error that nobody knows. Here exact attention is computed in float64 as well, so that both
    can be seen, and every call is timed. Not traceable.

    Args:
        query: as in ``qga.adaptive_attention``, where the arrays are.
        key: likewise.
        value: likewise.
        promises: total variations, the eps of ``qga.tiling.Certified``.
        products: likewise.
        options: all others of ``qga.adaptive_attention``.

    Raises:
        ShapeError: as in ``qga.adaptive_attention``.
        OptionError: likewise, or JAX has no CPU device.

    Cost: for each promise a program is compiled and called six times; exact attention in float64 on the CPU once.

    Example:
        >>> x = jax.random.normal(jax.random.key(0), (1, 256, 1, 8))
        >>> (trial,) = try_promises(x, x, x, promises=[1e-2], is_causal=True, alibi=jnp.array([1.0]))
        >>> bool(np.all(trial.error <= trial.certificate.out_error))
        True
    """
    rows = query, key, value
    truth = _attend_exactly(rows, options)
    exact = jax.jit(partial(attention, **options))
    seconds_exact, _ = _time(exact, rows)
    trials = []
    for eps in promises:
        attend = jax.jit(partial(attend_and_map, resolution=Certified(eps, products=products), **options))
        seconds, (out, certificate, levels) = _time(attend, rows)
        error = np.linalg.norm(np.asarray(out, np.float64) - truth, axis=-1)
        certificate, levels = jax.device_get((certificate, levels))
        trials.append(Trial(eps, certificate, levels, error, seconds, seconds_exact))
    return tuple(trials)


def _attend_exactly(rows: tuple[Array, ...], options: dict[str, Any]) -> np.ndarray:
    given = jax.device_get((rows, options))
    with jax.enable_x64(True), jax.default_device(solver_device()):
        (query, key, value), options = jax.tree.map(_widened, given)
        return np.asarray(attention(query, key, value, derivatives="all", **options))


def _widened(leaf: Any) -> Any:
    """Make a table of numbers one of float64, and leave everything else as it is."""
    is_table = isinstance(leaf, np.ndarray) and jnp.issubdtype(leaf.dtype, jnp.floating)
    return jnp.asarray(leaf, jnp.float64) if is_table else leaf


def _time(attend: Callable[..., Any], rows: tuple[Array, ...]) -> tuple[float, Any]:
    """Return the median seconds of a call after the first, and what it returns."""
    out = jax.block_until_ready(attend(*rows))
    seconds = []
    for _ in range(_CALLS):
        started = time.perf_counter()
        out = jax.block_until_ready(attend(*rows))
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds), out
