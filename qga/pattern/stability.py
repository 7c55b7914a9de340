"""Whether an iterated map or flow is calm or chaotic: eigenvalues at rest, Lyapunov exponents along an orbit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Complex, Float

from ..errors import OptionError, refuse

Point = Float[Array, " states"]


class Stability(NamedTuple):
    """What the Jacobian says at a fixed point.

    Attributes:
        eigenvalues: of the Jacobian, largest real part (flow) or modulus (map) first.
        growth: the most that a disturbance can grow at first: the largest eigenvalue of (J + J^T) / 2, a rate, for a
            flow; the norm |J|_2, a factor, for a map.
        is_stable: whether all small disturbances die out in the end; False where the Jacobian is not finite.
    """

    eigenvalues: Complex[Array, " states"]
    growth: Float[Array, ""]
    is_stable: Bool[Array, ""]


def stability(function: Callable[[Point], Point], point: Point, *, is_flow: bool) -> Stability:
    """Decide whether a fixed point is stable by the eigenvalues of its Jacobian.

    Args:
        function: x -> dx/dt of a flow, or x -> next x of a map.
        point: a fixed point: zero of a flow, fixed by a map. It is not checked.
        is_flow: which of the two.

    Returns:
        Stable where all real parts are below 0 (flow), all moduli below 1 (map). A positive growth of a stable flow, or
        one above 1 of a stable map, means that disturbances grow before they die.

    Needs eigenvalue solvers, which the CPU has.

    Source: Lyapunov 1892; Trefethen and Embree 2005 (abscissa).
    """
    jacobian = jax.jacfwd(function)(point)
    values = jnp.linalg.eigvals(jacobian)
    sizes = jnp.real(values) if is_flow else jnp.abs(values)
    order = jnp.argsort(-sizes)
    symmetric = (jacobian + jacobian.T) / 2 if is_flow else jacobian.T @ jacobian
    largest = jnp.linalg.eigvalsh(symmetric)[-1]
    growth = largest if is_flow else jnp.sqrt(jnp.maximum(largest, 0))
    return Stability(values[order], growth, sizes[order[0]] < (0 if is_flow else 1))


@partial(jax.jit, static_argnames=("function", "steps", "count"))
def lyapunov_exponents(
    function: Callable[[Point], Point], start: Point, *, steps: int, count: int
) -> Float[Array, " exponents"]:
    """Measure how fast neighbouring orbits of a map part, in each of several directions.

    The mean of log |diagonal of R| over the QR steps of the tangent map; all of them add up to the mean of
    log |det J| exactly.

    Args:
        function: x -> next x.
        start: on the attractor, or near it.
        steps: of the orbit.
        count: exponents wanted, largest first.

    Returns:
        Nats a step: positive for chaos, negative for contraction.

    Raises:
        OptionError: ``steps`` is below 1, or ``count`` is not between 1 and the number of states.

    Needs a QR factorisation, which the CPU has.

    Error: falls like one over the square root of the steps for a mixing map.
    Source: Benettin et al. 1980.
    """
    states = start.shape[0]
    if steps < 1 or not 1 <= count <= states:
        refuse(
            OptionError,
            "lyapunov_exponents: there are as many exponents as states, and a step at least.",
            got=f"steps={steps}, count={count}, {states} states",
            want=f"steps >= 1, 1 <= count <= {states}",
            fix="ask for fewer exponents.",
        )

    def step(carry: tuple[Array, Array, Array], _: None) -> tuple[tuple[Array, Array, Array], None]:
        point, frame, sums = carry
        after, push = jax.linearize(function, point)
        frame, factors = jnp.linalg.qr(jax.vmap(push, in_axes=1, out_axes=1)(frame))
        return (after, frame, sums + jnp.log(jnp.abs(jnp.diagonal(factors)))), None

    frame = jnp.eye(states, count, dtype=start.dtype)
    (_, _, sums), _ = lax.scan(step, (start, frame, jnp.zeros(count, start.dtype)), None, length=steps)
    return sums / steps
