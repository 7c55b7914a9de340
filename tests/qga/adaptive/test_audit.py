"""Audits find what is off as often as they promise, and what fails them is computed again exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import binom

from qga import OptionError, adaptive_attention, attention
from qga.adaptive import audit as module
from qga.adaptive.audit import judge
from qga.tiling import Audit, Budget, Certified, Fixed
from qga.tiling.audit import allowed_failures
from tests.qga.adaptive.test_adaptive import ROWS, draw, errors, exact

TILE = 64
# The first head forgets within a tile: two tiles are all of it. The second one needs them all.
SLOPES = np.float32([2, 0])
OPTIONS = {"alibi": SLOPES}
AUDIT = Audit(rows=100, tolerance=1e-3, share=0.1, confidence=0.99)
KEY = jax.random.key(0)


def run(resolution: Any, arrays: tuple[Any, ...], audit: Audit, options: dict[str, Any], key: Any = KEY) -> Any:
    def call(key: Any, *rows: Any) -> Any:
        return adaptive_attention(*rows, resolution=resolution, audit=audit, audit_key=key, **options)

    return jax.jit(call)(key, *arrays)


def swap(score: Any, batch: Any, head: Any, query: Any, key: Any) -> Any:
    """A bias of the place of a query, and of its batch entry."""
    return score + jnp.sin(query + 2 * key + head + 3 * batch).astype(score.dtype)


def tables() -> dict[str, dict[str, Any]]:
    random = np.random.default_rng(2)
    bias, mask = random.normal(size=(2, 1, 90, 110)).astype(np.float32), random.random((1, 2, 90, 110)) < 0.7
    segments = np.arange(90)[None] // np.int32([[20], [35]]), np.arange(110)[None] // np.int32([[25], [40]])
    offset = {"is_causal": True, "query_offset": np.int32([3, 40])}
    return {
        "plain": {},
        "causal, offset, alibi": {**offset, "alibi": np.float32([0.2, 0.1])},
        "window": {"window": (30, 10)},
        "segments": {"segment_ids": segments},
        "tables": {"bias": bias, "mask": mask},
        "one row of a table": {"bias": bias[:, :, :1]},
        "lengths": {"query_lengths": np.int32([50, 90]), "key_lengths": np.int32([110, 7])},
        "score and mask": {"score_mod": swap, "mask_mod": lambda b, h, q, k: (q + k + h) % 3 > 0, "softcap": 2.0},
        "hyperbolic": {"metric": "hyperbolic"},
        "gauss": {"metric": "gauss", "scale": 0.3},
        "fidelity": {"metric": "fidelity", "scale": 5.0},
    }  # fmt: skip


FEW = "causal, offset, alibi", "tables", "score and mask", "gauss"


def two(rows: int = 90, keys: int = 110) -> tuple[np.ndarray, ...]:
    query, key, value = draw(rows, keys)
    return tuple(np.concatenate([each, each[:, ::-1]]) for each in (query, key, value))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in FEW else [pytest.mark.exhaustive]) for name in tables()]
)
def test_rows_keep_their_places_in_everything_that_happens_to_them(name: str) -> None:
    found = run(Fixed(), two(), Audit(rows=70, share=0.1), tables()[name])[1].audit
    assert np.max(np.asarray(found.largest)) < 1e-5
    assert not np.any(np.asarray(found.failures))


@pytest.mark.parametrize(
    "name", ["tables", "plain", *(pytest.param(name, marks=pytest.mark.exhaustive) for name in FEW[::2])]
)
def test_rows_of_other_places_are_off(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    at_rows = module._at_rows
    monkeypatch.setattr(module, "_at_rows", lambda prepared, rows: at_rows(prepared, (rows + 1) % 90))
    _, certificate = run(Fixed(), two(), Audit(rows=70, share=0.1), tables()[name])
    assert np.all(np.asarray(certificate.audit.failures) > 50)


def test_heads_that_fail_are_computed_again_and_the_others_kept() -> None:
    arrays = draw()
    out, certificate = run(Budget(3), arrays, AUDIT, OPTIONS)
    assert np.asarray(certificate.audit.is_again)[0].tolist() == [False, True]
    truth = exact(arrays, OPTIONS)
    distance = errors(out, truth)
    assert np.max(distance[..., 1]) < 1e-5
    assert np.all(distance <= np.asarray(certificate.out_error))
    plain, before = jax.jit(lambda *rows: adaptive_attention(*rows, resolution=Budget(3), **OPTIONS))(*arrays)
    np.testing.assert_array_equal(np.asarray(out)[..., 0, :], np.asarray(plain)[..., 0, :])
    assert np.max(errors(plain, truth)[..., 1]) > 0.1
    # It is certified as what it is now, and the work for nothing is counted.
    tiles = ROWS // TILE
    for name, kept, again in (("tiles_exact", 3, tiles), ("tiles_skipped", tiles - 3, 0), ("tiles_extra", 0, 3)):
        counts = np.asarray(getattr(certificate, name))[0]
        assert np.all(counts[:, 0] == kept), name
        assert np.all(counts[:, 1] == again), name
    assert not np.any(np.asarray(certificate.skipped)[..., 1])
    assert np.all(np.asarray(before.tiles_skipped) == tiles - 3)
    flops = np.asarray(certificate.flops / certificate.flops_exact)[0, 0]
    np.testing.assert_allclose(flops, [3 / tiles + 100 / ROWS, 1 + 3 / tiles + 100 / ROWS], rtol=1e-6)


def test_what_is_within_a_promise_passes() -> None:
    _, certificate = run(Certified(1e-4), draw(), AUDIT, {"alibi": np.float32([2, 1])})
    found = certificate.audit
    assert not np.any(np.asarray(found.is_again))
    assert np.all(np.asarray(found.largest) < 1e-4)
    np.testing.assert_allclose(found.share, 1 - 0.01 ** (1 / 100), rtol=1e-6)
    assert np.any(np.asarray(certificate.tiles_skipped))


@pytest.mark.exhaustive
def test_products_of_fewer_bits_are_computed_again_in_their_own_numbers() -> None:
    arrays = draw(150, 200)
    audit = Audit(rows=50, tolerance=1e-7, share=0.1)
    out, certificate = run(Certified(3e-1, products="half"), arrays, audit, {})
    assert np.all(np.asarray(certificate.audit.is_again))
    assert not np.any(np.asarray(certificate.tiles_half + certificate.tiles_split))
    distance = errors(out, exact(arrays, {}))
    assert np.all(distance <= np.asarray(certificate.out_error))
    assert np.max(distance) < 1e-5


def test_planted_failures_are_caught_as_often_as_promised() -> None:
    """Rows whose error is just above the tolerance, in a share just above the one that is allowed."""
    arrays, audit = draw(128, 192), Audit(rows=40, tolerance=0.0, share=0.25, confidence=0.8)
    call = lambda *rows: adaptive_attention(*rows, resolution=Budget(2), **OPTIONS)  # noqa: E731
    out, certificate = jax.jit(call)(*arrays)
    distance = np.sort(errors(out, exact(arrays, OPTIONS))[0, :, 1] / np.asarray(certificate.value_scale)[0, 0, 1])

    rows = [jnp.asarray(each) for each in arrays]

    def passes(share: float, count: int) -> np.ndarray:
        place = int(128 * (1 - share))
        planted = Audit(**{**vars(audit), "tolerance": float(distance[place - 1 : place + 1].mean())})
        keys = jax.random.split(jax.random.key(7), count)

        def call(key: Any) -> Any:
            given = {"resolution": Budget(2), "audit": planted, "audit_key": key, **OPTIONS}
            return adaptive_attention(*rows, **given)[1].audit.is_again[0, 1]

        return ~np.asarray(jax.jit(lambda keys: jax.lax.map(call, keys))(keys))

    count, most = 200, allowed_failures(audit)
    share = 0.28125
    expected = binom.cdf(most, audit.rows, share)
    assert expected <= 1 - audit.confidence
    assert abs(passes(share, count).mean() - expected) < 4 * np.sqrt(0.25 / count)
    # What has few of them is let through.
    assert passes(0.02, 50).mean() > 0.9


def test_what_is_not_a_number_is_off() -> None:
    rows = np.zeros((1, 5, 1, 3), np.float32)
    broken = rows.copy()
    broken[0, 2] = np.nan
    audit, unit = Audit(rows=5, share=0.7), np.ones((1, 1), np.float32)
    assert int(judge(jnp.asarray(broken), jnp.asarray(rows), unit, audit).failures[0, 0]) == 1
    assert int(judge(jnp.asarray(rows), jnp.asarray(rows), 0 * unit, audit).failures[0, 0]) == 0


@pytest.mark.parametrize("size", [1e-30, pytest.param(1e25, marks=pytest.mark.exhaustive)])
def test_values_whose_squares_are_no_numbers_are_audited(size: float) -> None:
    query, key, value = draw(130, 200)
    rows = query, key, np.float32(size) * value
    out, certificate = run(Budget(1), rows, AUDIT, OPTIONS)
    found, usual = certificate.audit, run(Budget(1), (query, key, value), AUDIT, OPTIONS)[1].audit
    assert np.asarray(found.is_again)[0].tolist() == np.asarray(usual.is_again)[0].tolist() == [False, True]
    np.testing.assert_allclose(found.largest, usual.largest, rtol=1e-3, atol=1e-6)
    assert np.max(errors(out, exact(rows, OPTIONS))[..., 1]) < 1e-5 * size


def test_errors_in_a_unit_that_is_no_number_are_off() -> None:
    rows = jnp.zeros((1, 5, 1, 3))
    assert int(judge(rows + 1, rows, jnp.full((1, 1), jnp.inf), Audit(rows=5, share=0.7)).failures[0, 0]) == 5


@pytest.mark.parametrize(("queries", "keys"), [(0, 10), (5, 0), pytest.param(0, 0, marks=pytest.mark.exhaustive)])
def test_nothing_is_off_where_nothing_is(queries: int, keys: int) -> None:
    out, certificate = run(Certified(1e-2), draw(queries, keys), AUDIT, {})
    assert not np.any(out)
    assert not np.any(certificate.audit.failures)
    assert not np.any(certificate.audit.is_again)


@pytest.mark.exhaustive
def test_gradients_are_those_of_what_was_returned() -> None:
    arrays = draw()

    def slope(function: Callable[..., Any]) -> Any:
        return jax.jit(jax.grad(lambda *rows: jnp.sum(jnp.sin(3 * function(*rows)[..., 1, :])), (0, 1, 2)))(*arrays)

    given = {"audit": AUDIT, "audit_key": KEY, **OPTIONS}
    found = slope(lambda *rows: adaptive_attention(*rows, resolution=Budget(3), **given)[0])
    expected = slope(lambda *rows: attention(*rows, **OPTIONS))
    kept = slope(lambda *rows: adaptive_attention(*rows, resolution=Budget(3), **OPTIONS)[0])
    near = [
        [np.max(np.abs(one - other)) < 2e-4 * np.max(np.abs(other)) for one, other in zip(each, expected, strict=True)]
        for each in (found, kept)
    ]
    assert near == [[True] * 3, [False] * 3]


@pytest.mark.exhaustive
def test_vmap_audits_each_entry() -> None:
    query, key, value = (np.concatenate([rows, 2 * rows])[:, None] for rows in draw(128, 256))
    audit = Audit(rows=30, tolerance=1e-2, share=0.2)

    def call(*rows: Any) -> Any:
        return adaptive_attention(*rows, resolution=Budget(2), audit=audit, audit_key=KEY, **OPTIONS)

    mapped = jax.jit(jax.vmap(call))(query, key, value)
    apart = [jax.jit(call)(*(each[entry] for each in (query, key, value))) for entry in range(2)]
    stacked = jax.tree.map(lambda *each: jnp.stack(each), *apart)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5), mapped, stacked)


def test_vulkan_computes_the_same_heads_again(vulkan: jax.Device) -> None:
    arrays = draw(128, 256)

    def call(key: Any, *rows: Any) -> Any:
        return adaptive_attention(*rows, resolution=Budget(2), audit=AUDIT, audit_key=key, **OPTIONS)

    run, devices = jax.jit(call), (jax.devices("cpu")[0], vulkan)
    cpu, other = (run(*(jax.device_put(each, device) for each in (KEY, *arrays))) for device in devices)
    assert other[0].devices() == {vulkan}
    np.testing.assert_array_equal(cpu[1].audit.failures, other[1].audit.failures)
    assert np.asarray(other[1].audit.is_again)[0].tolist() == [False, True]
    np.testing.assert_allclose(other[0], cpu[0], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("audit", "got"),
    [
        (Audit(rows=0), "rows=0"), (Audit(share=0.0), "share=0.0"), (Audit(confidence=1.0), "confidence=1.0"),
        (Audit(tolerance=-1.0), "tolerance=-1.0"), (Audit(rows=100), "says no less than a share of 0.045"),
    ],
)  # fmt: skip
def test_impossible_audits_are_refused(audit: Audit, got: str) -> None:
    with pytest.raises(OptionError, match="adaptive_attention: an audit") as failure:
        run(Fixed(), draw(8, 8), audit, {})
    assert got in str(failure.value)


def test_an_audit_without_a_key_is_refused() -> None:
    with pytest.raises(OptionError, match=r"draws its rows with a key(.|\n)*jax\.random\.key"):
        adaptive_attention(*draw(8, 8), resolution=Fixed(), audit=Audit())
