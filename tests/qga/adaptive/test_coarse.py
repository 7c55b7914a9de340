"""Tiles that are one row each: every bound holds against float64, and pays where neighbouring rows are alike."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qga import OptionError, adaptive_attention, attention, structured_attention
from qga.adaptive import attend_and_map
from qga.adaptive import attention as module
from qga.tiling import LEVEL_NAMES, Audit, Certified, level_shares
from tests.qga.adaptive.test_adaptive import check, errors, exact
from tests.qga.adaptive.test_level_map import counts_agree

ROWS, HEADS, WIDTH, CHANNELS, TILE = 384, 2, 16, 5, 64
Arrays = tuple[np.ndarray, ...]


def cluster(random: np.random.Generator, rows: int, heads: int, width: int, noise: float) -> np.ndarray:
    """Neighbours that are one row but for noise."""
    centers = random.normal(size=(-(-rows // TILE), heads, width))
    return np.repeat(centers, TILE, axis=0)[:rows] + noise * random.normal(size=(rows, heads, width))


def smooth(random: np.random.Generator, rows: int, heads: int, width: int, noise: float) -> np.ndarray:
    """A slow path."""
    phases, turns = random.random((1, heads, width)), random.integers(0, 2, (1, heads, width))
    path = np.sin(2 * np.pi * (phases + turns * np.linspace(0, 0.1, rows)[:, None, None]))
    return path + noise * random.normal(size=path.shape)


def repeated(random: np.random.Generator, rows: int, heads: int, width: int, noise: float) -> np.ndarray:
    """Tiles of one key each, the same in all of them for some."""
    return cluster(random, rows, heads, width, 0.0) * (1 + np.round(noise))


KINDS = {"cluster": cluster, "smooth": smooth, "repeated": repeated}


def draw(
    kind: str = "cluster", *, noise: float = 0.02, rows: int = ROWS, keys: int = ROWS, length: float = 1.0,
    dtype: Any = np.float32, seed: int = 3,
) -> Arrays:  # fmt: skip
    random = np.random.default_rng(seed)
    shapes = (rows, HEADS, WIDTH), (keys, 1, WIDTH), (keys, 1, CHANNELS)
    found = [KINDS[kind](random, *shape, noise)[None] for shape in shapes]
    return tuple((each * size).astype(dtype) for each, size in zip(found, (length, length, 1), strict=True))


def run(arrays: Any, eps: float = 1e-2, **options: Any) -> tuple[Any, Any, Any]:
    resolution = Certified(eps, coarse=True, **options.pop("resolution", {}))
    return jax.jit(partial(attend_and_map, resolution=resolution, **options))(*arrays)


@cache
def plain(eps: float = 1e-2) -> Any:
    """Return the compiled attention of several tests."""
    return jax.jit(partial(attend_and_map, resolution=Certified(eps, coarse=True)))


@cache
def causal() -> Any:
    """Return it with the causal rule and slopes, of 129 queries that see 192 keys before them."""
    run = partial(attend_and_map, resolution=Certified(1e-2, coarse=True), **CAUSAL)
    return jax.jit(lambda *rows_and_slopes: run(*rows_and_slopes[:3], alibi=rows_and_slopes[3]))


CAUSAL: dict[str, Any] = {"is_causal": True, "query_offset": np.array([192], np.int32)}


def share(levels: Any, word: str = "coarse") -> float:
    return float(np.mean(level_shares(levels.levels)[word]))


@pytest.mark.parametrize("kind", KINDS)
def test_alike_rows_are_coarse_within_their_bounds(kind: str) -> None:
    arrays = draw(kind, noise=0.003)
    out, certificate, levels = plain()(*arrays)
    check(arrays, {}, (out, certificate), 1e-2)
    assert bool(jnp.all(certificate.sound))
    assert share(levels) > 0.3
    assert counts_agree(certificate, np.asarray(levels.levels), int(levels.tile))


def test_random_rows_are_not_coarse() -> None:
    _, certificate, levels = plain()(*draw(noise=1.0))
    assert share(levels) == 0
    assert not np.any(np.asarray(certificate.tiles_coarse))


def worst(arrays: Arrays, found: tuple[Any, Any, Any], options: dict[str, Any]) -> float:
    """Return the largest error in bounds."""
    return float(np.max(errors(found[0], exact(arrays, options)) / np.asarray(found[1].out_error)))


def shrink(monkeypatch: pytest.MonkeyPatch, by: float) -> None:
    """Say that scores of tiles spread less than they do."""
    coarse_level = module.coarse_level

    def too_small(*given: Any) -> Any:
        level = coarse_level(*given)
        return level._replace(spread=level.spread._replace(reach=by * level.spread.reach))

    monkeypatch.setattr(module, "coarse_level", too_small)


# noise and length of rows, that of queries being another
HARD: dict[str, dict[str, Any]] = {
    "wide tiles": {"noise": 0.3}, "long rows": {"noise": 0.02, "length": 6.0}, "short rows": {"length": 1e-4},
    "long and wide": {"noise": 1.0, "length": 30.0},
}  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "long rows",
        "short rows",
        *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("wide tiles", "long and wide")),
    ],
)
def test_bounds_hold_whatever_is_promised(name: str) -> None:
    arrays = draw(**HARD[name])
    for eps in (0.5, 1e-2):
        found = plain(eps)(*arrays)
        check(arrays, {}, found[:2], eps)


def test_a_spread_that_is_too_small_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = draw(noise=0.3, length=3.0)
    assert worst(arrays, plain()(*arrays), {}) <= 1
    shrink(monkeypatch, 1e-3)
    found = run(arrays)
    assert share(found[2]) > 0
    with pytest.raises(AssertionError):
        check(arrays, {}, found[:2], 1e-2)


def weights(arrays: Arrays, eps: float) -> tuple[np.ndarray, Any, Any]:
    """Return half the sums of differences of weights: values that are all different directions show them."""
    query, key, _ = arrays
    value = np.eye(key.shape[1], dtype=query.dtype)[None, :, None]
    out, certificate, levels = run((query, key, value), eps)
    distance = np.abs(np.asarray(out, np.float64) - exact((query, key, value), {}))
    return np.sum(distance, axis=-1) / 2, certificate, levels


def test_weights_are_as_near_as_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = draw(noise=0.2, keys=192)
    distance, certificate, levels = weights(arrays, 0.3)
    assert share(levels) > 0
    # The bound is of the right size.
    assert np.all(distance <= np.asarray(certificate.total_variation))
    assert np.max(distance / np.asarray(certificate.total_variation)) > 0.03
    shrink(monkeypatch, 1e-2)
    distance, certificate, _ = weights(arrays, 0.3)
    assert np.any(distance > np.asarray(certificate.total_variation))


def test_a_needle_makes_its_tile_exact() -> None:
    query, key, value = draw()
    before = plain()(query, key, value)[1]
    key = key.copy()
    key[0, 200, 0] = 80 * query[0, 10, 0] / np.sum(np.square(query[0, 10, 0]))
    out, certificate, levels = plain()(query, key, value)
    check((query, key, value), {}, (out, certificate), 1e-2)
    assert LEVEL_NAMES[int(levels.levels[0, 0, 0, 200 // TILE])] == "exact"
    assert int(certificate.tiles_exact[0, 10, 0]) >= int(before.tiles_exact[0, 10, 0])
    assert np.max(np.abs(np.asarray(out)[0, 10, 0] - value[0, 200, 0])) < 1e-2


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(list(KINDS)), noise=st.floats(0, 0.5), length=st.floats(1e-3, 30.0), seed=st.integers(0, 99),
    slope=st.sampled_from([0.0, 0.001, 0.3]), spike=st.sampled_from([0.0, 1.0, 1e3]),
)  # fmt: skip
def test_no_drawn_problem_violates_its_bound(
    kind: str, noise: float, length: float, seed: int, slope: float, spike: float
) -> None:
    query, key, value = draw(kind, noise=noise, length=length, keys=321, rows=129, seed=seed)
    # One key and one value that are far from the others of their tile.
    place = seed % 321
    key[0, place], value[0, place] = key[0, place] + spike, value[0, place] - spike
    slopes = np.float32([slope, slope / 4])
    found = causal()(query, key, value, slopes)
    check((query, key, value), {**CAUSAL, "alibi": slopes}, found[:2], 1e-2)


@pytest.mark.parametrize("dtype", [pytest.param(np.float16, marks=pytest.mark.exhaustive), jnp.bfloat16])
def test_16_bit_rows_are_coarse_within_their_bounds(dtype: Any) -> None:
    arrays = draw(rows=640, keys=768, dtype=dtype, kind="smooth", noise=0.0)
    out, certificate, levels = run(arrays, 0.1)
    check(arrays, {}, (out, certificate), 0.1)
    assert share(levels) > 0.3


def test_alibi_is_exact_in_coarse_tiles() -> None:
    options = {"alibi": np.float32([0.02, 0.002]), "is_causal": True}
    arrays = draw(noise=0.003)
    out, certificate, levels = run(arrays, 1e-2, **options)
    check(arrays, options, (out, certificate), 1e-2)
    assert share(levels) > 0.2
    # A tenth of the bias more is far more than what is promised.
    other = {**options, "alibi": 1.1 * options["alibi"]}
    assert np.any(errors(out, exact(arrays, other)) > np.asarray(certificate.out_error))


def test_ragged_ends_and_hidden_rows_are_exact() -> None:
    arrays = draw(rows=200, keys=333)
    options = {"key_lengths": jnp.array([300]), "query_lengths": jnp.array([150])}
    out, certificate, levels = run(arrays, **options)
    check(arrays, options, (out, certificate), 1e-2)
    assert not np.any(np.asarray(out)[:, 150:])
    assert share(levels) > 0
    coarse = np.asarray(levels.levels) == LEVEL_NAMES.index("coarse")
    assert not np.any(coarse[..., 300 // TILE :])


def test_rows_without_width_are_alike() -> None:
    query, key, value = draw(rows=70, keys=200)
    out, certificate, levels = plain()(query[..., :0], key[..., :0], value)
    np.testing.assert_allclose(out, np.broadcast_to(value.mean(axis=1)[:, None], out.shape), atol=1e-6)
    assert bool(jnp.all(certificate.sound))
    assert share(levels) > 0


def test_a_batch_may_be_empty() -> None:
    query, key, value = (rows[:0] for rows in draw(rows=70, keys=200))
    out, certificate, _ = plain()(query, key, value)
    assert out.shape == (0, 70, HEADS, CHANNELS)
    assert certificate.sound.shape == (0, 70, HEADS)


def test_what_is_not_a_number_is_not_coarse() -> None:
    query, key, value = draw()
    key[0, 300:] = np.nan
    options = {"key_lengths": jnp.array([300])}
    out, _, levels = run((query, key, value), **options)
    np.testing.assert_allclose(out, exact((query, key[:, :300], value[:, :300]), {}), atol=1e-3)
    assert not np.any(np.asarray(levels.levels)[..., 4:] == LEVEL_NAMES.index("coarse"))


def dense(levels: np.ndarray, query: Any, key: Any, value: Any) -> Any:
    """Attention whose scores in coarse tiles are those for the pilot and linear in the query."""
    tile, scale = TILE, WIDTH**-0.5
    pilots = jax.lax.stop_gradient(jnp.mean(query.reshape(1, -1, tile, HEADS, WIDTH), axis=2))
    keys = key.reshape(1, -1, tile, WIDTH)
    asked = scale * jnp.einsum("bqhd,btkd->bhqtk", pilots, keys)
    means = jnp.einsum("bhqtk,btkd->bhqtd", jax.nn.softmax(asked, axis=4), keys)
    apart = query.reshape(1, -1, tile, HEADS, WIDTH) - pilots[:, :, None]
    linear = asked[:, :, :, None] + scale * jnp.einsum("bqihd,bhqtd->bhqit", apart, means)[..., None]
    linear = linear.reshape(1, HEADS, query.shape[1], key.shape[1])
    scores = scale * jnp.einsum("bihd,bjd->bhij", query, key[:, :, 0])
    is_coarse = levels == LEVEL_NAMES.index("coarse")
    is_coarse = np.repeat(np.repeat(is_coarse, tile, axis=2), tile, axis=3)
    mixed = jax.nn.softmax(jnp.where(is_coarse, linear, scores), axis=3)
    return jnp.einsum("bhij,bjc->bihc", mixed, value[:, :, 0])


def test_gradients_are_those_of_the_rows_that_stand_for_tiles() -> None:
    arrays = draw(noise=0.3)
    resolution = Certified(0.9, skip_share=0.01, coarse=True)

    def slope(function: Any) -> list[np.ndarray]:
        loss = lambda *rows: jnp.sum(jnp.sin(3 * function(*rows)))  # noqa: E731
        return [np.asarray(each) for each in jax.jit(jax.grad(loss, (0, 1, 2)))(*arrays)]

    levels = run(arrays, 0.9, resolution={"skip_share": 0.01})[2]
    assert share(levels) > 0.3
    assert share(levels, "left out") == 0
    found = slope(lambda *rows: adaptive_attention(*rows, resolution=resolution)[0])
    expected = slope(partial(dense, np.asarray(levels.levels)))
    of_exact = slope(attention)
    for one, other, third in zip(found, expected, of_exact, strict=True):
        largest = np.max(np.abs(other))
        np.testing.assert_allclose(one, other, atol=2e-4 * largest)
        assert np.max(np.abs(one - third)) > 2e-3 * largest


def test_gradients_of_rows_that_see_nothing_are_zero() -> None:
    arrays = draw()
    options = {"query_lengths": jnp.array([150])}
    call = partial(adaptive_attention, resolution=Certified(1e-2, coarse=True), **options)
    slope = jax.jit(jax.grad(lambda *rows: jnp.sum(jnp.square(call(*rows)[0]))))(*arrays)
    assert np.all(np.isfinite(slope))
    assert not np.any(slope[:, 150:])
    assert np.any(slope[:, :150])


def test_vmap_is_a_batch() -> None:
    query, key, value = (np.concatenate([rows, rows[:, ::-1]]) for rows in draw())
    call = lambda *rows: adaptive_attention(*rows, resolution=Certified(1e-2, coarse=True))  # noqa: E731
    batch, mapped = jax.jit(lambda *rows: (call(*rows), jax.vmap(call)(*rows)))(query, key, value)
    assert np.any(np.asarray(batch[1].tiles_coarse))
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6), batch, mapped)


@pytest.mark.parametrize("metric", [pytest.param("dot", marks=pytest.mark.exhaustive), "cosine"])
def test_a_scale_for_each_head_is_its_own(metric: Any) -> None:
    arrays = draw()
    options = {"scale": np.float32([[0.5, 0.05]]), "metric": metric}
    found = run(arrays, **options)
    check(arrays, options, found[:2], 1e-2)
    assert share(found[2]) > 0


@pytest.mark.exhaustive
def test_coarse_tiles_and_fewer_bits_share_a_promise() -> None:
    arrays = draw("smooth", noise=0.0, rows=768, keys=768)
    found = run(arrays, 3e-2, resolution={"products": "half"})
    check(arrays, {}, found[:2], 3e-2)
    assert bool(jnp.all(found[1].sound))
    assert share(found[2]) > 0 < share(found[2], "half") + share(found[2], "split")


def test_an_audit_computes_coarse_heads_again() -> None:
    arrays = draw(noise=0.3)
    audit = Audit(rows=100, tolerance=1e-5, share=0.05)
    _, certificate, levels = run(arrays, 0.9, resolution={"skip_share": 0.01}, audit=audit, audit_key=jax.random.key(0))
    assert bool(jnp.all(certificate.audit.is_again))
    assert share(levels, "exact") == 1
    assert not np.any(np.asarray(certificate.tiles_coarse))


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, marks=pytest.mark.exhaustive, id="plain"),
        pytest.param({"alibi": np.float32([0.02, 0.002]), "is_causal": True}, id="alibi"),
    ],
)
def test_vulkan_has_the_same_coarse_tiles(options: dict[str, Any], vulkan: jax.Device) -> None:
    arrays = draw(noise=0.003)
    call = jax.jit(partial(adaptive_attention, resolution=Certified(1e-2, coarse=True), **options))
    cpu, other = (
        call(*(jax.device_put(each, device) for each in arrays)) for device in (jax.devices("cpu")[0], vulkan)
    )
    assert other[0].devices() == {vulkan}
    assert np.any(np.asarray(cpu[1].tiles_coarse))
    np.testing.assert_array_equal(cpu[1].tiles_coarse, other[1].tiles_coarse)
    check(arrays, options, other, 1e-2)
    np.testing.assert_allclose(other[0], cpu[0], rtol=2e-5, atol=2e-5)


@pytest.mark.exhaustive
def test_16_bit_rows_are_coarse_on_vulkan(vulkan: jax.Device) -> None:
    arrays = draw(rows=384, keys=512, dtype=np.float16, kind="smooth", noise=0.0)
    call = jax.jit(partial(adaptive_attention, resolution=Certified(5e-2, coarse=True)))
    found = call(*(jax.device_put(each, vulkan) for each in arrays))
    check(arrays, {}, found, 5e-2)
    assert np.any(np.asarray(found[1].tiles_coarse))


UNLIKE: list[dict[str, Any]] = [
    {"softcap": 3.0}, {"metric": "gauss"}, {"metric": "fidelity"}, {"bias": np.zeros((ROWS, ROWS), np.float32)},
    {"score_mod": lambda score, *place: 2 * score},
]  # fmt: skip


@pytest.mark.parametrize("options", UNLIKE, ids=lambda options: next(iter(options)))
def test_scores_without_a_mean_are_refused_before_anything_is_computed(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(*given: Any, **other: Any) -> Any:
        raise LookupError

    monkeypatch.setattr(module, "prepare", prepare)
    with pytest.raises(OptionError, match="linear in the key") as failure:
        adaptive_attention(*draw(), resolution=Certified(1e-2, coarse=True), **options)
    assert next(iter(options)) in str(failure.value)
    with pytest.raises(LookupError):
        adaptive_attention(*draw(), resolution=Certified(1e-2), **options)


def test_points_have_no_coarse_tiles_of_this_kind() -> None:
    with pytest.raises(OptionError, match="not coarse"):
        structured_attention(*draw(), resolution=Certified(1e-2, coarse=True))
