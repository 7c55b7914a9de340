"""Zeta function, walk, entropy and Mahler measure of operators (theory A-2, A-5, A-6, A-8)."""

from __future__ import annotations

import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import mpmath
import networkx as nx
import numpy as np
import pytest

from qga import DomainError, OptionError, ShapeError, arithmetic, routing
from tests.qga.routing.chains import draw_chain, draw_network, law_of, walk
from tests.qga.tolerances import assert_close, assert_far

# Eigenvalues of small matrices are good to tens of eps.
SOLVER_SCALE = 50.0


def test_sharpening_is_a_change_of_temperature(random: np.random.Generator, dtype: np.dtype) -> None:
    scores = random.normal(size=(3, 8))
    rows = jax.nn.softmax(jnp.asarray(scores, dtype))
    assert_close(arithmetic.sharpen(rows, 3.0), jax.nn.softmax(3 * jnp.asarray(scores, dtype)), scale=30.0)
    assert_far(arithmetic.sharpen(rows, 3.0), jax.nn.softmax(2.9 * jnp.asarray(scores, dtype)))


def test_sharpening_multiplies_the_height_exactly() -> None:
    row = [Fraction(3, 8), Fraction(1, 2), Fraction(1, 8)]
    sharp = [each**5 / sum(other**5 for other in row) for each in row]
    assert arithmetic.height(sharp) == pytest.approx(5 * arithmetic.height(row), rel=1e-15)
    assert arithmetic.height([each**4 for each in row]) != pytest.approx(5 * arithmetic.height(row), rel=1e-3)


def test_sharpening_keeps_zeros_with_finite_derivatives() -> None:
    row = jnp.array([0.5, 0.5, 0.0])
    assert arithmetic.sharpen(row, 2.0).tolist() == [0.5, 0.5, 0.0]
    assert arithmetic.sharpen(jnp.zeros(3), 2.0).tolist() == [0.0, 0.0, 0.0]
    assert jnp.isfinite(jax.jacrev(arithmetic.sharpen)(row, 2.0)).all()


def test_sharpening_hides_no_invalid_weight() -> None:
    for row in ([0.5, jnp.nan, 0.2], [0.5, -0.5, 1.0]):
        assert jnp.isnan(arithmetic.sharpen(jnp.array(row), 2.5)).all()
    with pytest.raises(DomainError, match=r"sharpen: zeros stay zero under positive powers alone.\n  got:  power=0"):
        arithmetic.sharpen(jnp.ones(2), 0)


@pytest.mark.usefixtures("x64")
def test_pole_at_one_is_simple_for_one_recurrent_class(random: np.random.Generator) -> None:
    # zeta(z) (1 - z)^m stays finite and away from zero exactly for m the number of recurrent classes.
    one, two = draw_chain(random, 4), np.kron(np.eye(2), draw_chain(random, 3))
    transient = np.array([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    for chain, classes in ((one, 1), (two, 2), (transient, 2)):
        near = np.array([1 - 1e-4, 1 - 1e-6], complex)
        log_zeta = np.asarray(arithmetic.zeta_log_determinant(jnp.asarray(chain), jnp.asarray(near))).real
        order = (log_zeta[1] - log_zeta[0]) / np.log(1e2)
        assert order == pytest.approx(classes, abs=1e-3)


@pytest.mark.usefixtures("x64")
def test_zeta_of_the_golden_mean_shift_has_its_pole_at_the_inverse_golden_mean() -> None:
    # 1 / (1 - z - z^2), with Lucas numbers of closed walks; Lind and Marcus 1995, examples 4.1.4 and 6.4.5.
    shift, golden = jnp.array([[1.0, 1.0], [1.0, 0.0]]), (1 + math.sqrt(5)) / 2
    assert arithmetic.trace_powers(shift, 8).tolist() == [1, 3, 4, 7, 11, 18, 29, 47]
    points = jnp.array([0.3, -0.4 + 0.2j])
    got = arithmetic.zeta_log_determinant(shift, points)
    assert_close(jnp.exp(got).real, (1 / (1 - points - points**2)).real, scale=SOLVER_SCALE)
    assert_close(jnp.exp(got).imag, (1 / (1 - points - points**2)).imag, scale=SOLVER_SCALE)
    found = np.log(np.asarray(arithmetic.trace_powers(shift, 40))[-1]) / 40
    assert found == pytest.approx(math.log(golden), rel=1e-9)
    # The measure of largest entropy of the shift (Parry 1964) has the same rate, and no other walk on it has.
    parry = jnp.array([[1 / golden, 1 / golden**2], [1.0, 0.0]])
    law = jnp.array([golden**2, 1.0]) / (golden**2 + 1)
    assert_close(arithmetic.entropy_rate(parry, law), math.log(golden))
    even = jnp.array([[0.5, 0.5], [1.0, 0.0]])
    assert float(arithmetic.entropy_rate(even, jnp.array([2 / 3, 1 / 3]))) < math.log(golden) - 1e-2


@pytest.mark.usefixtures("x64")
def test_cycles_that_repeat_are_no_prime_cycles() -> None:
    # The negative twin of the Euler product: with 2-cycles walked twice counted as prime, it is another number.
    matrix = np.array([[0.0, 0.5], [0.6, 0.0]])
    assert arithmetic.prime_cycles(matrix, 6) == [((0, 1), pytest.approx(0.3))]
    want = float(arithmetic.zeta_log_determinant(jnp.asarray(matrix), jnp.asarray(0.9)).real)
    assert -math.log(1 - 0.3 * 0.9**2) == pytest.approx(want, rel=1e-12)
    assert -math.log(1 - 0.3 * 0.9**2) - math.log(1 - 0.3**2 * 0.9**4) != pytest.approx(want, rel=1e-3)


@pytest.mark.usefixtures("x64")
def test_zeta_is_the_series_and_the_determinant(random: np.random.Generator) -> None:
    chain, points = draw_chain(random, 5), np.array([0.3, -0.2 + 0.3j])
    got = np.asarray(arithmetic.zeta_log_determinant(jnp.asarray(chain), jnp.asarray(points)))
    traces = np.array([np.trace(np.linalg.matrix_power(chain, n)) for n in range(1, 80)])
    series = [(traces * point ** np.arange(1, 80) / np.arange(1, 80)).sum() for point in points]
    exact = [
        complex(-mpmath.log(mpmath.det(mpmath.eye(5) - complex(point) * mpmath.matrix(chain)))) for point in points
    ]
    for want in (series, exact):
        assert_close(got.real, np.real(want), depth=80, scale=SOLVER_SCALE)
        assert_close(got.imag, np.imag(want), depth=80, scale=SOLVER_SCALE)
    assert_far(got.real, np.real(arithmetic.zeta_log_determinant(jnp.asarray(chain.T @ chain), jnp.asarray(points))))


@pytest.mark.usefixtures("x64")
def test_zeta_is_the_euler_product_over_prime_cycles() -> None:
    matrix, point = np.array([[0.2, 0.5, 0.0], [0.1, 0.0, 0.3], [0.4, 0.1, 0.1]]), 0.2
    product = [
        -sum(math.log(1 - weight * point ** len(nodes)) for nodes, weight in arithmetic.prime_cycles(matrix, length))
        for length in (2, 4, 9)
    ]
    want = float(arithmetic.zeta_log_determinant(jnp.asarray(matrix), jnp.asarray(point)).real)
    errors = [abs(each - want) for each in product]
    assert errors[0] > 10 * errors[1] > 100 * errors[2]
    assert errors[2] < 1e-7


@pytest.mark.usefixtures("x64")
def test_zeta_of_a_causal_operator_is_in_its_diagonal(random: np.random.Generator) -> None:
    chain = np.tril(random.random((6, 6)))
    chain /= chain.sum(1, keepdims=True)
    assert bool(arithmetic.is_triangular(jnp.asarray(chain)))
    got = arithmetic.zeta_log_determinant(jnp.asarray(chain), jnp.asarray(0.7))
    assert_close(got.real, -np.log(1 - 0.7 * np.diagonal(chain)).sum(), scale=SOLVER_SCALE)
    assert not bool(arithmetic.is_triangular(jnp.asarray(draw_chain(random))))


@pytest.mark.usefixtures("x64")
def test_traces_are_those_of_the_powers(random: np.random.Generator) -> None:
    chain = draw_chain(random)
    want = [np.trace(np.linalg.matrix_power(chain, power)) for power in (1, 2, 3)]
    assert_close(arithmetic.trace_powers(jnp.asarray(chain), 3), want, depth=7)
    estimate = arithmetic.trace_powers_estimate(lambda f: jnp.asarray(chain) @ f, 7, 3, jax.random.key(3), probes=4000)
    assert (np.abs(estimate.value - np.array(want)) < 4 * estimate.error).all()
    assert (estimate.error < 0.05).all()


@pytest.mark.usefixtures("x64")
def test_walk_operator_has_the_phases_of_the_discriminant(random: np.random.Generator) -> None:
    chain = draw_chain(random, 4)
    rows = 4
    amplitudes = np.zeros((rows * rows, rows))
    for place in range(rows):
        amplitudes[place * rows : (place + 1) * rows, place] = np.sqrt(chain[place])
    swap = np.eye(rows * rows).reshape(rows, rows, rows, rows).transpose(1, 0, 2, 3).reshape(rows * rows, -1)
    unitary = swap @ (2 * amplitudes @ amplitudes.T - np.eye(rows * rows))
    assert_close(unitary @ unitary.T, np.eye(rows * rows), depth=16)
    values = np.linalg.eigvals(unitary)
    phases = np.asarray(arithmetic.szegedy_phases(jnp.asarray(chain)))
    for phase in phases:
        for sign in (1, -1):
            # A phase near zero carries the square root of rounding.
            assert np.abs(values - np.exp(sign * 1j * phase)).min() < 1e-7
    # The negative twin: those of another walk are not among them.
    wrong = np.asarray(arithmetic.szegedy_phases(jnp.asarray(draw_chain(random, 4))))[1:]
    assert all(np.abs(values - np.exp(1j * phase)).min() > 1e-3 for phase in wrong)
    # The functional equation of det(1 - z W).
    point, size = 0.4 + 0.3j, rows * rows
    left = np.linalg.det(np.eye(size) - point * unitary)
    mirrored = np.conj(np.linalg.det(np.eye(size) - unitary / np.conj(point)))
    right = (-point) ** size * np.linalg.det(unitary) * mirrored
    assert abs(left - right) < 1e-12 * abs(left) + 1e-12
    broken = np.linalg.det(np.eye(size) - 0.9 * point * unitary)
    assert abs(broken - right) > 1e-3


@pytest.mark.usefixtures("x64")
def test_phase_gap_is_quadratic_in_the_classical_gap(random: np.random.Generator) -> None:
    chain, law = walk(draw_network(random))
    gap = float(routing.spectral_gap(jnp.asarray(chain), jnp.asarray(law)))
    phase = float(arithmetic.phase_gap(jnp.asarray(chain)))
    assert phase >= math.sqrt(2 * gap) - 1e-12
    assert phase == pytest.approx(math.acos(1 - gap), rel=1e-9)


def test_phase_gap_of_a_reversible_walk_has_a_derivative(dtype: np.dtype) -> None:
    # Staying with chance 1 - a on two places: eigenvalues 1 and 1 - 2 a, and the trivial phase is an end of arccos.
    def gap(chance: jax.Array) -> jax.Array:
        return arithmetic.phase_gap(jnp.stack([jnp.stack([1 - chance, chance]), jnp.stack([chance, 1 - chance])]))

    slope = jax.grad(gap)(jnp.asarray(0.3, dtype))
    assert_close(slope, 2 / math.sqrt(1 - 0.4**2), scale=SOLVER_SCALE)
    assert_far(slope, 2 / math.sqrt(1 - 0.5**2))
    lazy = (nx.to_numpy_array(nx.cycle_graph(5)) + np.eye(5)) / 3
    assert jnp.isfinite(jax.grad(arithmetic.phase_gap)(jnp.asarray(lazy, dtype))).all()


def test_traces_of_a_diagonal_operator_have_no_spread_and_a_derivative() -> None:
    def error(diagonal: jax.Array) -> jax.Array:
        return arithmetic.trace_powers_estimate(lambda f: diagonal[:, None] * f, 2, 2, jax.random.key(0)).error.sum()

    assert error(jnp.array([0.5, 0.25])) == 0
    assert jnp.isfinite(jax.grad(error)(jnp.array([0.5, 0.25]))).all()


@pytest.mark.usefixtures("x64")
def test_entropy_rate_of_known_walks(random: np.random.Generator) -> None:
    assert_close(arithmetic.entropy_rate(jnp.full((4, 4), 0.25), jnp.full(4, 0.25)), np.log(4))
    chain, law = walk(nx.to_numpy_array(nx.cycle_graph(5)))
    assert_close(arithmetic.entropy_rate(jnp.asarray(chain), jnp.asarray(law)), np.log(2))
    chain = draw_chain(random)
    want = -(law_of(chain)[:, None] * chain * np.log(chain)).sum()
    assert_close(arithmetic.entropy_rate(jnp.asarray(chain), jnp.asarray(law_of(chain))), want, depth=49, scale=2.0)


@pytest.mark.usefixtures("x64")
def test_mahler_measure_of_lehmer_and_by_jensen() -> None:
    lehmer = jnp.array([1.0, 1, 0, -1, -1, -1, -1, -1, 0, 1, 1])
    # Lehmer 1933: the smallest known measure above 1.
    assert math.exp(float(arithmetic.log_mahler_measure(lehmer))) == pytest.approx(1.176280818259917, rel=1e-12)
    # The negative twin: with one sign turned it is another number.
    assert math.exp(float(arithmetic.log_mahler_measure(lehmer.at[3].set(1.0)))) != pytest.approx(1.1762808, rel=1e-3)
    coefficients = [3.0, -1.0, 5.0, 0.5]
    mean = mpmath.quad(lambda t: mpmath.log(abs(mpmath.polyval(coefficients, mpmath.expjpi(2 * t)))), [0, 0.5, 1])
    assert float(arithmetic.log_mahler_measure(jnp.asarray(coefficients))) == pytest.approx(float(mean), rel=1e-10)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("coefficients", "want"),
    [
        # Cyclotomic: Kronecker 1857. The golden mean. The smallest Pisot number: Siegel 1944, Smyth 1971.
        ([1.0, 1, 1, 1, 1], 1.0),
        ([1.0, -1, -1], 1.618033988749895),
        ([1.0, 0, -1, -1], 1.324717957244746),
        ([2.0, 0, 1], 2.0),
        ([1.0, -3, 1], 2.618033988749895),
    ],
)
def test_mahler_measure_of_known_polynomials(coefficients: list[float], want: float) -> None:
    got = math.exp(float(arithmetic.log_mahler_measure(jnp.array(coefficients))))
    assert got == pytest.approx(want, rel=1e-10)
    assert math.exp(float(arithmetic.log_mahler_measure(jnp.array([*coefficients[:-1], 3.5])))) != pytest.approx(want)


@pytest.mark.usefixtures("x64")
def test_mahler_measure_multiplies(random: np.random.Generator) -> None:
    first, second = random.normal(size=4), random.normal(size=3)
    measures = [float(arithmetic.log_mahler_measure(jnp.asarray(each))) for each in (first, second)]
    product = float(arithmetic.log_mahler_measure(jnp.asarray(np.convolve(first, second))))
    assert product == pytest.approx(sum(measures), rel=1e-9)
    added = np.r_[0, second] + first
    assert float(arithmetic.log_mahler_measure(jnp.asarray(added))) != pytest.approx(sum(measures), rel=1e-3)


@pytest.mark.usefixtures("x64")
def test_szegedy_phases_of_known_graphs() -> None:
    # The walk on a complete graph of n vertices has eigenvalues 1 and -1 / (n - 1); on a cycle cos(2 pi k / n).
    for rows in (3, 6):
        chain = (np.ones((rows, rows)) - np.eye(rows)) / (rows - 1)
        want = [0.0] + [math.acos(-1 / (rows - 1))] * (rows - 1)
        assert np.allclose(arithmetic.szegedy_phases(jnp.asarray(chain)), want, atol=1e-7)
    chain, _ = walk(nx.to_numpy_array(nx.cycle_graph(5)))
    got = arithmetic.szegedy_phases(jnp.asarray(chain))
    assert np.allclose(got, 2 * np.pi / 5 * np.array([0, 1, 1, 2, 2]), atol=1e-7)
    assert not np.allclose(got, 2 * np.pi / 6 * np.array([0, 1, 1, 2, 2]), atol=1e-3)


@pytest.mark.usefixtures("x64")
def test_report_agrees_with_its_parts(random: np.random.Generator) -> None:
    chain = draw_chain(random)
    report = arithmetic.analyze(jnp.asarray(chain), jnp.asarray(law_of(chain)))
    assert_close(report.traces[1], np.trace(chain @ chain), depth=7)
    assert_close(np.abs(report.poles[0]), 1.0, scale=SOLVER_SCALE)
    second = np.sort(np.abs(np.linalg.eigvals(chain)))[-2]
    assert_close(report.modulus_gap, 1 - second, scale=SOLVER_SCALE)
    assert_close(np.abs(report.poles[1]), 1 / second, scale=SOLVER_SCALE / second)
    assert not bool(report.is_causal)


def test_pole_of_an_eigenvalue_of_zero_is_infinite() -> None:
    falling = jnp.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    assert arithmetic.analyze(falling, jnp.array([1.0, 0.0, 0.0])).poles.tolist() == [1, math.inf, math.inf]


def test_operators_that_are_not_square_are_refused() -> None:
    wide = jnp.ones((2, 3))
    with pytest.raises(ShapeError, match=r"discriminant: an operator .* square matrix.\n  got:  float32\[2, 3\]"):
        arithmetic.discriminant(wide)
    with pytest.raises(ShapeError, match="trace_powers: an operator on places is a square matrix"):
        arithmetic.trace_powers(wide, 2)
    with pytest.raises(ShapeError, match="zeta_log_determinant: an operator"):
        arithmetic.zeta_log_determinant(wide, jnp.asarray(0.1))
    with pytest.raises(ShapeError, match="ihara_log_determinant: an operator"):
        arithmetic.ihara_log_determinant(wide, jnp.asarray(0.1))
    with pytest.raises(ShapeError, match=r"entropy_rate: .*\n  got:  weights float32\[3, 3\], stationary float32\[1\]"):
        arithmetic.entropy_rate(jnp.ones((3, 3)), jnp.ones(1))
    with pytest.raises(ShapeError, match="phase_gap: a walk on one place"):
        arithmetic.phase_gap(jnp.ones((1, 1)))


def test_arithmetic_refuses_what_does_not_fit() -> None:
    with pytest.raises(OptionError, match="got:  prime=1, codes int32"):
        arithmetic.valuation(jnp.array([3]), 1)
    with pytest.raises(
        OptionError, match=r"reverse_digits: .*\n  got:  base=2, digits=8, codes int8\n  want: .* <= 127"
    ):
        arithmetic.reverse_digits(jnp.zeros(2, jnp.int8), 2, digits=8)
    with pytest.raises(OptionError, match="base=256, digits=1, codes uint8"):
        arithmetic.reverse_digits(jnp.zeros(2, jnp.uint8), 256, digits=1)
    with pytest.raises(OptionError, match="base=1, digits=3"):
        arithmetic.reverse_digits(jnp.zeros(2, jnp.int32), 1, digits=3)
    with pytest.raises(OptionError, match="base=2, digits=-1"):
        arithmetic.reverse_digits(jnp.zeros(2, jnp.int32), 2, digits=-1)
    with pytest.raises(OptionError, match=r"prime_cycles: powers are counted from one.\n  got:  count=0"):
        arithmetic.prime_cycles(np.eye(2), 0)
    with pytest.raises(ShapeError, match="prime_cycles: an operator on places is a square matrix"):
        arithmetic.prime_cycles(np.ones((2, 3)), 2)
    with pytest.raises(ShapeError, match=r"log_mahler_measure: a polynomial .*\n  got:  float32\[0\]"):
        arithmetic.log_mahler_measure(jnp.zeros(0))
    with pytest.raises(OptionError, match="trace_powers: powers are counted from one"):
        arithmetic.trace_powers(jnp.eye(2), 0)
    with pytest.raises(OptionError, match="probes=1"):
        arithmetic.trace_powers_estimate(lambda f: f, 2, 1, jax.random.key(0), probes=1)
    with pytest.raises(ShapeError, match="analyze: an operator of at least two rows"):
        arithmetic.analyze(jnp.ones((1, 1)), jnp.ones(1))
