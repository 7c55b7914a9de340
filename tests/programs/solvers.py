"""Solvers: linear systems by iteration, minimisation, differential equations."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.ode import odeint
from jax.scipy import optimize
from jax.scipy.sparse.linalg import bicgstab, cg

from .case import Program, normal, positive


def _systems(a: Any, b: Any) -> Any:
    matrix = a @ a.T / a.shape[0] + jnp.eye(a.shape[0])
    solve = lambda right: cg(lambda v: matrix @ v, right, tol=1e-6)[0]  # noqa: E731
    return solve(b), jax.grad(lambda right: (solve(right) ** 2).sum())(b), bicgstab(matrix, b, tol=1e-6)[0]


def _minimise(start: Any) -> Any:
    def valley(x: Any) -> Any:
        return ((1 - x[:-1]) ** 2 + 2 * (x[1:] - x[:-1] ** 2) ** 2).sum()

    return optimize.minimize(valley, start, method="BFGS").x


def _newton(target: Any) -> Any:
    def root(t: Any) -> Any:
        solve = lambda f, x: jax.lax.fori_loop(0, 8, lambda _, v: v - f(v) / jax.grad(f)(v), x)  # noqa: E731
        tangent = lambda g, y: y / g(jnp.ones_like(y))  # noqa: E731
        return jax.lax.custom_root(lambda x: x**3 + x - t, jnp.float32(1), solve, tangent)

    return jax.vmap(jax.value_and_grad(root))(target)


def _hunt(state: Any, time: Any, rates: Any) -> Any:
    prey, hunter = state
    return jnp.stack([prey * (rates[0] - rates[1] * hunter), hunter * (rates[2] * prey - rates[3])]) + 0 * time


def _odeint(rates: Any) -> Any:
    times = jnp.linspace(0.0, 3.0, 7)
    run = lambda r: odeint(_hunt, jnp.array([1.0, 0.5]), times, r, rtol=1e-3, atol=1e-4)  # noqa: E731
    return run(rates), jax.grad(lambda r: run(r)[-1].sum())(rates)


def _diffrax(rates: Any) -> Any:
    import diffrax

    def run(r: Any, adjoint: Any) -> Any:
        term = diffrax.ODETerm(lambda t, y, args: _hunt(y, t, args))
        control = diffrax.PIDController(rtol=1e-3, atol=1e-4)
        options = {"stepsize_controller": control, "adjoint": adjoint, "max_steps": 64, "throw": False}
        start = jnp.array([1.0, 0.5])
        return diffrax.diffeqsolve(term, diffrax.Tsit5(), 0.0, 3.0, 0.1, start, r, **options).ys[-1]

    # The default adjoint of gradients sorts its checkpoints; the solution itself and its derivative do not.
    forward = jax.jacfwd(lambda r: run(r, diffrax.ForwardMode()))(rates)
    return run(rates, diffrax.RecursiveCheckpointAdjoint()), forward


def _pendulums(angles: Any) -> Any:
    """Integrate a chain of pendulums by leapfrog and follow the energy."""

    def energy(q: Any, p: Any) -> Any:
        return (p**2).sum() / 2 - jnp.cos(q).sum() + ((q[1:] - q[:-1]) ** 2).sum() / 2

    def step(carry: Any, _: None) -> Any:
        q, p = carry
        p = p - 0.05 * jax.grad(energy)(q, p)
        q = q + 0.05 * jax.grad(energy, 1)(q, p)
        return (q, p), energy(q, p)

    return jax.lax.scan(step, (angles, jnp.zeros_like(angles)), length=50)


RATES = jnp.array([1.1, 0.4, 0.3, 0.7])

PROGRAMS = [
    # The iterations stop at a residual of 1e-6: eight units of f32.
    Program("sparse_linear_systems", _systems, (normal(12, 12), normal(12, seed=1)), roundings=64, depth=12),
    # A minimum is where the gradient is below 1e-5: the place moves by the gradient over the curvature.
    Program("optimise_bfgs", _minimise, (normal(4),), roundings=512),
    Program("optimise_newton", _newton, (positive(9) * 4,)),
    # Steps of chosen length amplify roundings: f32 on the CPU is itself up to 1e-4 of the size of results from f64.
    Program("ode_dormand_prince", _odeint, (RATES,), roundings=64, depth=512),
    Program("ode_diffrax", _diffrax, (RATES,), roundings=64, depth=512, needs="diffrax"),
    Program("ode_pendulums", _pendulums, (positive(8),), depth=64),
]
