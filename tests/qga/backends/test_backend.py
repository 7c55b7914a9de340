"""The same calls on the CPU and through Vulkan: equal results, the caller's framework, switching, refusals."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qga
from qga import backends
from qga.errors import DomainError, OptionError, ShapeError
from tests.qga.tolerances import CPU_ROUNDINGS, VULKAN_ROUNDINGS, assert_close, assert_far

ROWS, HEADS, WIDTH = 24, 4, 8
# What one precision may be off by, twice: both backends round.
ROUNDINGS = VULKAN_ROUNDINGS + 25 * CPU_ROUNDINGS


def draw(random: np.random.Generator, *shape: int) -> np.ndarray:
    return random.normal(size=shape).astype(np.float32)


def draw_call(random: np.random.Generator) -> list[np.ndarray]:
    return [draw(random, 1, ROWS, heads, WIDTH) for heads in (HEADS, 2, 2)]


def on_cpu(*arrays: np.ndarray) -> list[jax.Array]:
    """Put arrays where float32 is computed in float32; the default device may take shortcuts."""
    return [jax.device_put(each, jax.devices("cpu")[0]) for each in arrays]


@pytest.fixture
def both(cpu: backends.Backend, vulkan: Any) -> tuple[backends.Backend, backends.Backend]:
    return cpu, backends.choose(vulkan)


def require_equal(results: list[Any], depth: int, scale: float = 1.0) -> None:
    """Compare what two backends return, leaf by leaf: numbers within the bound, integers and truths exactly."""
    ours, theirs = map(jax.tree.leaves, results)
    for got, want in zip(ours, theirs, strict=True):
        assert isinstance(got, np.ndarray)
        assert got.dtype == want.dtype
        if got.dtype.kind in "fc":
            parts = [(got.real, want.real), (got.imag, want.imag)] if got.dtype.kind == "c" else [(got, want)]
            for pair in parts:
                assert_close(*pair, depth=depth, scale=scale, roundings=ROUNDINGS)
        else:
            assert np.array_equal(got, want)


def test_attention_is_equal_and_switches_in_the_middle(
    both: tuple[backends.Backend, backends.Backend], random: np.random.Generator
) -> None:
    call, mask = draw_call(random), random.random((1, 1, ROWS, ROWS)) < 0.7
    options = {"is_causal": True, "bias": draw(random, 1, HEADS, ROWS, ROWS), "softcap": 5.0}
    first, second = both
    prepared = first.prepare_attention(*call, **options)
    # Prepared here, computed there and here again.
    results = [first.compute_attention(prepared, mask), second.compute_attention(prepared, mask)]
    assert np.array_equal(first.compute_attention(prepared, mask), results[0])
    assert_close(second.compute_attention(second.prepare_attention(*call, **options), mask), results[1])
    scale = float(max(np.abs(results[0]).max(), 8))
    require_equal(results, ROWS, scale)
    plain = qga.attention(*on_cpu(*call, options["bias"], mask), is_causal=True, softcap=options["softcap"])
    assert_close(results[0], plain, depth=ROWS, scale=scale)
    assert_far(
        second.compute_attention(prepared, ~mask | np.eye(ROWS, dtype=bool)), results[0], depth=ROWS, scale=scale
    )


def test_core_is_equal(both: tuple[backends.Backend, backends.Backend], random: np.random.Generator) -> None:
    field, gains = draw(random, 16, 3), draw(random, 5)
    weights = random.dirichlet(np.ones(6), size=6).astype(np.float32)
    flows = [each.compute_pattern_flow(field, 0.7, scale=0.5) for each in both]
    require_equal(flows, 16, 4)
    assert_close(
        flows[0][0],
        qga.pattern_flow(*on_cpu(field) * 3, 0.7, order=qga.flow.order_for(0.7), scale=0.5)[0],
        depth=16, scale=4,
    )  # fmt: skip
    filtered = [each.apply_motivic_structure(field, gains) for each in both]
    require_equal(filtered, 16, 4)
    assert_close(filtered[1], qga.motivic.apply(*on_cpu(field, gains)), depth=16, scale=4)
    reports = [each.analyze_arithmetic_dynamics(weights) for each in both]
    require_equal(reports, 6)
    assert float(reports[0].traces[0]) == pytest.approx(float(np.trace(weights)), rel=1e-6)
    # Negative twin: another time is another field.
    assert_far(both[1].compute_pattern_flow(field, 0.2, scale=0.5)[0], flows[0][0], depth=16, scale=4)


def test_another_time_is_the_same_program(cpu: backends.Backend, random: np.random.Generator) -> None:
    field = draw(random, 4, 2)
    with jax.log_compiles(False):
        cpu.compute_pattern_flow(field, 0.5, order=3)
        before = backends.prepared.run._cache_size()
        cpu.compute_pattern_flow(field, np.float32(0.25), order=3)
    assert backends.prepared.run._cache_size() == before
    cpu.compute_pattern_flow(field, 0.5, order=4)
    assert backends.prepared.run._cache_size() == before + 1


@pytest.mark.parametrize("make", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
def test_tiles_go_back_to_where_they_came_from(backend: backends.Backend, make: Any) -> None:
    rows = make(np.arange(10, dtype=np.int32).reshape(5, 2))
    tiles, exists = backend.split_into_tiles(rows, 2)
    assert isinstance(tiles, np.ndarray if make is np.asarray else jax.Array)
    assert np.asarray(exists).tolist() == [[True, True], [True, True], [True, False]]
    assert np.array_equal(np.asarray(tiles).reshape(6, 2)[:5], np.asarray(rows))
    if isinstance(tiles, jax.Array):
        assert tiles.devices() == {backend.device}
    else:
        assert tiles.flags.writeable
        assert tiles.flags.owndata


def test_prepared_attention_is_a_snapshot(cpu: backends.Backend, random: np.random.Generator) -> None:
    call = draw_call(random)
    prepared = cpu.prepare_attention(*call)
    before = cpu.compute_attention(prepared)
    call[2][:] = 0
    assert np.array_equal(cpu.compute_attention(prepared), before)
    assert not np.array_equal(cpu.compute_attention(cpu.prepare_attention(*call)), before)


def test_default_tile_is_that_of_the_limits(backend: backends.Backend, random: np.random.Generator) -> None:
    call = draw_call(random)
    assert backend.prepare_attention(*call).tile == backend.optimize_tiling(ROWS, width=WIDTH).tile
    assert backend.prepare_attention(*call, tile=3).tile == 3


def test_rows_too_wide_for_a_tile_are_taken_in_parts(cpu: backends.Backend) -> None:
    wide = cpu.limits.room_bytes // 4
    call = [np.ones((2, 1, wide), np.float32) for _ in range(3)]
    with pytest.raises(OptionError, match="at least one key and its value must fit"):
        cpu.optimize_tiling(2, width=wide)
    assert np.array_equal(cpu.compute_attention(cpu.prepare_attention(*call, scale=0.0)), call[0])


def refusals(backend: backends.Backend) -> list[tuple[type[Exception], str, Any]]:
    good, field = np.ones((3, 2, 4), np.float32), np.ones((4, 2), np.float32)
    prepared = backend.prepare_attention(good, good, good)
    return [
        (ShapeError, "query, key and value must fit", lambda: backend.prepare_attention(good, good[:, :, :3], good)),
        (ShapeError, "query, key and value must fit", lambda: backend.prepare_attention(good[0], good[0], good[0])),
        (OptionError, "every argument has one place", lambda: backend.prepare_attention(good, good, good, mask=None)),
        (OptionError, "constant of the program", lambda: backend.prepare_attention(good, good, good, window=[1, 2])),
        (OptionError, "got:  list", lambda: backend.prepare_attention(good.tolist(), good, good)),
        (OptionError, "JAX is tracing", lambda: jax.jit(lambda x: backend.prepare_attention(x, x, x))(good)),
        (TypeError, "heat", lambda: backend.prepare_attention(good, good, good, heat=1)),
        (ShapeError, "mask", lambda: backend.compute_attention(prepared, np.ones((5, 5), bool))),
        (DomainError, "a flow runs forwards", lambda: backend.compute_pattern_flow(field, np.float32(-1))),
        (OptionError, "passes are counted from zero", lambda: backend.compute_pattern_flow(field, 1.0, order=-1)),
        (ShapeError, "one gain for each level", lambda: backend.apply_motivic_structure(field, np.ones(2, np.float32))),
        (ShapeError, "two rows", lambda: backend.analyze_arithmetic_dynamics(field, np.ones(4, np.float32))),
        (OptionError, "at least one row", lambda: backend.split_into_tiles(field, 0)),
    ]  # fmt: skip


def test_what_does_not_fit_is_refused_and_nothing_is_lost(backend: backends.Backend) -> None:
    kept = backend.to_backend(np.arange(3, dtype=np.float32))
    for error, text, action in refusals(backend):
        with pytest.raises(error, match=text):
            action()
    assert np.asarray(kept).tolist() == [0, 1, 2]
    assert backend.statistics().live_count == 1


def test_names_and_devices_choose(vulkan: Any) -> None:
    host = jax.devices("cpu")[0]
    assert backends.choose("vulkan").device == vulkan == backends.choose(vulkan).device
    assert [type(backends.choose(each)) for each in ("cpu", host, vulkan)] == [
        backends.CPUBackend, backends.CPUBackend, backends.VulkanBackend,
    ]  # fmt: skip
    is_hardware = vulkan.device_type != "cpu"
    assert backends.choose().platform == ("vulkan" if is_hardware else "cpu")
    for what in ("cuda", 3):
        with pytest.raises(OptionError, match="a backend is a platform that has one"):
            backends.choose(what)
    with pytest.raises(OptionError, match="must be of platform vulkan"):
        backends.VulkanBackend(host)


@pytest.mark.parametrize(
    ("there", "expected"),
    [({"cpu": "cpu", "vulkan": "discrete"}, "vulkan"), ({"cpu": "cpu", "vulkan": "cpu"}, "cpu"),
     ({"vulkan": "cpu"}, "vulkan"), ({"cpu": "cpu"}, "cpu"), ({}, None)],
)  # fmt: skip
def test_auto_takes_hardware_first(
    monkeypatch: pytest.MonkeyPatch, there: dict[str, str], expected: str | None
) -> None:
    class FakeDevice:
        max_shared_bytes, subgroup_size, matrices = 32768, 8, ""

        def __init__(self, platform: str) -> None:
            self.platform, self.device_type = platform, there[platform]

    def devices(platform: str) -> list[FakeDevice]:
        if platform not in there:
            raise RuntimeError(f"no platform {platform}\nand more")
        return [FakeDevice(platform)]

    monkeypatch.setattr(jax, "devices", devices)
    if expected is None:
        with pytest.raises(OptionError, match="there must be a device of platform cpu"):
            backends.choose()
    else:
        assert backends.choose().platform == expected
