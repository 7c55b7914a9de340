"""The report of a layer says what the dense pattern says, head by head."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import entropy

import qga
from qga import OptionError, ShapeError
from qga.analysis import Head, Report
from tests.qga.dense import dot_weights, fidelity_weights
from tests.qga.tolerances import assert_close

ROWS, WIDTH = 150, 6


@pytest.fixture(scope="module")
def arrays() -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(11)
    return tuple(random.normal(size=(2, ROWS, WIDTH)).astype(np.float32) for _ in range(3))


@pytest.fixture(scope="module")
def report(arrays: tuple[np.ndarray, ...]) -> Report:
    return qga.analyze(*map(jnp.asarray, arrays), scale=1.0, block=64)


@pytest.fixture(scope="module")
def causal(arrays: tuple[np.ndarray, ...]) -> Report:
    return qga.analyze(*map(jnp.asarray, arrays), scale=1.0, is_causal=True, layer="first")


def weights_of(arrays: tuple[np.ndarray, ...], head: int, *, is_causal: bool = False) -> np.ndarray:
    return dot_weights(arrays[0][head], arrays[1][head], 1.0, np.tri(ROWS, dtype=bool) if is_causal else None)


def test_rows_are_those_of_the_pattern(arrays: tuple[np.ndarray, ...], report: Report, causal: Report) -> None:
    for head in (0, 1):
        assert_close(report.heads[head].row_entropy, entropy(weights_of(arrays, head), axis=1), depth=ROWS, scale=8.0)
        want = entropy(weights_of(arrays, head, is_causal=True), axis=1)
        assert_close(causal.heads[head].row_entropy, want, depth=ROWS, scale=8.0)


def test_effective_rank_is_certain(arrays: tuple[np.ndarray, ...], report: Report, causal: Report) -> None:
    for found, is_causal in ((report, False), (causal, True)):
        for head in found.heads:
            values = np.linalg.svd(weights_of(arrays, head.head, is_causal=is_causal) ** 0.5 / ROWS**0.5)[1] ** 2
            rank = np.exp(entropy(values))
            assert head.effective_rank.lower * (1 - 1e-4) <= rank <= head.effective_rank.upper * (1 + 1e-4)
            assert head.effective_rank.upper < 0.9 * ROWS


def test_information_is_below_capacity_of_all_rows(arrays: tuple[np.ndarray, ...], report: Report) -> None:
    for head in report.heads:
        dense = weights_of(arrays, head.head)
        want = np.mean([entropy(row, dense.mean(0)) for row in dense])
        assert head.information == pytest.approx(want, abs=1e-4)
        assert head.capacity.lower <= head.capacity.upper
        assert (
            qga.routing.capacity(jnp.asarray(head.tile_operator), iterations=2000).value <= head.capacity.upper + 1e-5
        )


def test_tiles_are_the_lumped_pattern(arrays: tuple[np.ndarray, ...], report: Report) -> None:
    for head in report.heads:
        assert head.tile == 2
        dense = weights_of(arrays, head.head).reshape(75, 2, 75, 2).sum(3).mean(1)
        assert_close(head.tile_operator, dense, depth=ROWS)


def test_gap_is_that_of_the_undirected_walk(arrays: tuple[np.ndarray, ...], causal: Report) -> None:
    for head in causal.heads:
        network = head.tile_operator.astype(float) + head.tile_operator.T
        degrees = network.sum(1)
        values = np.linalg.eigvalsh(network / np.sqrt(np.outer(degrees, degrees)))
        assert head.spectral_gap == pytest.approx(1 - values[-2], abs=1e-5)
        assert head.cheeger.lower <= head.cheeger.upper
        assert 0 < head.mixing_time.lower < head.mixing_time.upper
        assert not head.arithmetic.is_causal
        assert head.is_causal


def test_metric_is_the_mean_covariance(arrays: tuple[np.ndarray, ...], report: Report) -> None:
    for head in report.heads:
        keys = arrays[1][head.head].astype(float)
        metrics = [np.cov(keys.T, aweights=row, ddof=0) for row in weights_of(arrays, head.head)]
        assert head.metric_eigenvalues is not None
        assert_close(
            head.metric_eigenvalues.astype(np.float32), np.linalg.eigvalsh(np.mean(metrics, 0))[::-1], depth=ROWS
        )
        assert np.isfinite(head.median_curvature)


def test_smoothing_compares_variances(arrays: tuple[np.ndarray, ...], report: Report) -> None:
    for head in report.heads:
        mixed = weights_of(arrays, head.head) @ arrays[2][head.head]
        assert head.smoothing == pytest.approx(mixed.var(0).sum() / arrays[2][head.head].var(0).sum(), rel=1e-3)


def test_equal_rows_are_one_direction_and_tell_nothing() -> None:
    keys = jnp.asarray(np.random.default_rng(1).normal(size=(1, 40, 4)), jnp.float32)
    head = qga.analyze(jnp.ones((1, 40, 4)), keys, keys).heads[0]
    assert head.effective_rank.upper == pytest.approx(1, abs=1e-2)
    assert head.information == pytest.approx(0, abs=1e-5)
    assert head.capacity.upper == pytest.approx(0, abs=1e-5)
    assert head.smoothing == pytest.approx(0, abs=1e-5)


def test_separate_blocks_have_no_gap_and_a_bottleneck() -> None:
    # Two groups that see themselves, and one weak link.
    group = np.repeat(np.eye(2), 20, axis=0)
    rows = jnp.asarray(np.concatenate([group, 0.01 * np.ones((40, 2))], axis=1)[None], jnp.float32)
    head = qga.analyze(rows, rows, rows, scale=12.0).heads[0]
    assert head.spectral_gap < 1e-3
    assert head.mixing_time.lower > 500
    assert head.keys_seen == pytest.approx(20, rel=1e-2)


def test_query_heads_share_the_keys_of_their_group(arrays: tuple[np.ndarray, ...], report: Report) -> None:
    queries, keys, values = (jnp.asarray(each) for each in arrays)
    shared = qga.analyze(queries, keys[:1], values[:1], scale=1.0)
    want = entropy(dot_weights(arrays[0][1], arrays[1][0], 1.0), axis=1)
    assert_close(shared.heads[1].row_entropy, want, depth=ROWS, scale=8.0)
    assert np.array_equal(
        shared.heads[0].tile_operator, qga.analyze(queries[:1], keys[:1], values[:1], scale=1.0).heads[0].tile_operator
    )


def test_fidelity_heads_are_analysed(arrays: tuple[np.ndarray, ...]) -> None:
    head = qga.analyze(*map(jnp.asarray, arrays), metric="fidelity", scale=6.0).heads[0]
    want = entropy(fidelity_weights(arrays[0][0], arrays[1][0], 6.0), axis=1)
    assert_close(head.row_entropy, want, depth=ROWS, scale=8.0)
    assert head.curvature is None
    assert np.isnan(head.median_curvature)


def test_analysis_of_the_same_arrays_is_the_same(arrays: tuple[np.ndarray, ...], causal: Report) -> None:
    again = qga.analyze(*map(jnp.asarray, arrays), scale=1.0, is_causal=True, layer="first")
    for first, second in zip(causal.heads, again.heads, strict=True):
        for name, value in vars(first).items():
            pairs = zip(jax.tree.leaves(value), jax.tree.leaves(getattr(second, name)), strict=True)
            assert all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs), name


def test_each_head_may_have_its_own_scale(arrays: tuple[np.ndarray, ...], report: Report) -> None:
    scaled = qga.analyze(*map(jnp.asarray, arrays), scale=jnp.array([1.0, 2.0]), block=64)
    assert np.allclose(scaled.heads[0].row_entropy, report.heads[0].row_entropy)
    want = entropy(dot_weights(arrays[0][1], arrays[1][1], 2.0), axis=1)
    assert_close(scaled.heads[1].row_entropy, want, depth=ROWS, scale=8.0)


def test_progress_is_told_after_each_head(arrays: tuple[np.ndarray, ...]) -> None:
    told: list[tuple[str, int, int]] = []
    qga.analyze(*map(jnp.asarray, arrays), notify=lambda *done: told.append(done))
    assert told == [("attention", 1, 2), ("attention", 2, 2)]


def test_vulkan_reports_what_the_cpu_reports(
    arrays: tuple[np.ndarray, ...], report: Report, vulkan: jax.Device
) -> None:
    on_device = (jax.device_put(each, vulkan) for each in arrays)
    for ours, theirs in zip(qga.analyze(*on_device, scale=1.0, block=64).heads, report.heads, strict=True):
        assert_close(ours.row_entropy, theirs.row_entropy, depth=ROWS, scale=8.0, roundings=40)
        assert_close(ours.tile_operator, theirs.tile_operator, depth=ROWS, roundings=40)
        assert ours.information == pytest.approx(theirs.information, abs=1e-4)
        assert ours.spectral_gap == pytest.approx(theirs.spectral_gap, abs=1e-4)
        assert ours.median_curvature == pytest.approx(theirs.median_curvature, rel=1e-3)


def test_analyze_refuses_what_does_not_fit() -> None:
    rows = jnp.ones((2, 8, 4))
    with pytest.raises(
        ShapeError, match=r"heads of self-attention over the same two or more rows.\n  got:  queries float32\[8, 4\]"
    ):
        qga.analyze(rows[0], rows, rows)
    for others in (rows[:, :7], jnp.ones((3, 8, 4)), rows[:, :, :3]):
        with pytest.raises(ShapeError, match="heads of self-attention"):
            qga.analyze(rows, others, others)
    with pytest.raises(ShapeError, match="heads of self-attention"):
        qga.analyze(rows[:, :1], rows[:, :1], rows[:, :1])
    with pytest.raises(OptionError, match="no natural scale"):
        qga.analyze(rows, rows, rows, metric="fidelity")


def test_head_is_typed_and_frozen(report: Report) -> None:
    assert all(isinstance(head, Head) for head in report.heads)
    with pytest.raises(AttributeError):
        report.heads[0].layer = "other"  # type: ignore[misc]


def test_analyze_says_that_it_needs_a_cpu_beside_the_device(
    arrays: tuple[np.ndarray, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def devices(backend: str | None = None) -> list[jax.Device]:
        raise RuntimeError(f"Unknown backend {backend}")

    monkeypatch.setattr(jax, "devices", devices)
    with pytest.raises(OptionError, match=r"(?s)solved on the CPU.*fix:  start with JAX_PLATFORMS=vulkan,cpu"):
        qga.analyze(*arrays)
