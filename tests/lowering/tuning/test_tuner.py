"""Schedules are measured on the device, checked, kept, and taken by what is compiled next."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lowering
from lowering.api import compile_module
from lowering.cache import DiskCache
from lowering.choices import candidates, choose
from lowering.codegen import dot, kernels
from lowering.compiler import optimise
from lowering.errors import InputError
from lowering.runtime import Buffer, Device, LoadedProgram
from lowering.schedule import Schedule
from lowering.tuning import measure as measuring
from lowering.tuning import tuner as tuning
from lowering.tuning.measure import Result, Trial, difference, measure, prepare, results
from lowering.tuning.sites import Site, find_sites
from lowering.tuning.store import Winner, keep, read
from lowering.tuning.tuner import Report, tune

SHORT_S = 0.2
X, Y = (np.random.default_rng(seed).standard_normal((24, 24), np.float32) for seed in range(2))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QGA_CACHE_DIR", str(tmp_path))
    return tmp_path


def matmul(lhs: Any, rhs: Any) -> Any:
    return lhs @ rhs


def sites_of(device: Device, function: Callable[..., Any], *arguments: Any) -> list[Site]:
    fused = optimise(lowering.lower(function)(*arguments).graph, device.capabilities)
    return find_sites(device, fused, [uploaded(device, array) for array in arguments])


def uploaded(device: Device, array: np.ndarray) -> Buffer:
    buffer = device.allocate(array.nbytes)
    device.upload(buffer, array)
    return buffer


def downloaded(device: Device, site: Site) -> list[np.ndarray]:
    found = [np.empty(value.shape, np.float32) for value in site.fusion.inputs]
    for buffer, target in zip(site.inputs, found, strict=True):
        device.download(buffer, target)
    return found


def candidate(site: Site, device: Device) -> Schedule:
    """Return a candidate other than the default."""
    default = choose(site.fusion, device.capabilities)
    return next(each for each in candidates(site.fusion, device.capabilities) if each.text() != default.text())


# --- kernels and what they read -------------------------------------------------------------------------------------


def test_a_kernel_in_the_middle_reads_what_was_computed_before(device: Device) -> None:
    first, second = sites_of(device, lambda x, y: matmul(jnp.tanh(matmul(x, y)), y.T), X, Y)
    assert np.array_equal(downloaded(device, first)[0], X)
    assert np.allclose(downloaded(device, second)[0], np.tanh(X @ Y), atol=1e-5)


def test_a_kernel_in_a_loop_reads_what_the_first_round_does(device: Device) -> None:
    def scanned(x: Any, weights: Any) -> Any:
        return jax.lax.scan(lambda carry, weight: (jnp.tanh(matmul(carry, weight)), None), x, weights)[0]

    (site,) = sites_of(device, scanned, X, np.stack([Y] * 3))
    assert any(np.array_equal(array, X) for array in downloaded(device, site))


def test_kernels_in_branches_are_found(device: Device) -> None:
    def branch(x: Any, which: Any) -> Any:
        return jax.lax.cond(which[0] > 0, matmul, lambda x, y: matmul(x, y.T), x, x)

    assert len(sites_of(device, branch, X, np.ones(1, np.int32))) == 2


def test_kernels_of_one_class_are_one(device: Device) -> None:
    assert len(sites_of(device, lambda x, y: matmul(matmul(x, y), y), X, Y)) == 1


# --- checks ---------------------------------------------------------------------------------------------------------


def test_candidates_compute_what_the_default_does(device: Device) -> None:
    (site,) = sites_of(device, matmul, X, Y)
    default = prepare(device, site, choose(site.fusion, device.capabilities))
    other = prepare(device, site, candidate(site, device))
    assert difference(site, results(device, site, other), results(device, site, default)) == ""


@pytest.mark.parametrize("spoil", [lambda x: x + 0.1, lambda x: np.where(x == x.max(), np.nan, x), lambda x: 1.01 * x])
def test_other_results_are_a_difference(device: Device, spoil: Callable[[np.ndarray], np.ndarray]) -> None:
    (site,) = sites_of(device, matmul, X, Y)
    right = results(device, site, prepare(device, site, choose(site.fusion, device.capabilities)))
    assert "allowed is" in difference(site, [spoil(array).astype(np.float32) for array in right], right)


def test_a_candidate_that_computes_something_else_is_refused(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    (site,) = sites_of(device, matmul, np.ones((96, 24), np.float32), np.ones((24, 96), np.float32))
    default = choose(site.fusion, device.capabilities)

    def too_few(fusion: Any, schedule: Schedule) -> int:
        return dot.groups(fusion, schedule) if schedule == default else 1

    # Too few workgroups: what they leave out keeps the bytes that were there before.
    table = {**kernels.TEMPLATES, "dot": kernels.Template(dot.emit, too_few)}
    monkeypatch.setattr(kernels, "TEMPLATES", table)
    found = measure(device, site, SHORT_S, lambda _: None)
    assert found.tried
    assert found.best == found.default
    assert not found.is_better
    assert all("computes nan" in why for why in found.refused)
    assert len(found.refused) == found.tried


def test_sound_candidates_are_not_refused(device: Device) -> None:
    (site,) = sites_of(device, matmul, X, Y)
    lines: list[str] = []
    found = measure(device, site, SHORT_S, lines.append)
    assert found.tried
    assert found.refused == ()
    assert lines[0].endswith("times as fast")


# --- who wins -------------------------------------------------------------------------------------------------------


def timed(monkeypatch: pytest.MonkeyPatch, nanoseconds: Callable[[str], list[float]]) -> None:
    """Replace the device's clock: the samples of a schedule, again and again."""

    def sample(_: Site, trial: Trial) -> None:
        values = nanoseconds(trial.schedule.text())
        trial.samples.append(values[len(trial.samples) % len(values)])

    monkeypatch.setattr(measuring, "sample", sample)


def test_a_candidate_that_is_faster_by_more_than_the_spread_is_kept(
    device: Device, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (site,) = sites_of(device, matmul, X, Y)
    wanted = candidate(site, device).text()
    timed(monkeypatch, lambda text: [400.0, 500.0, 600.0] if text == wanted else [900.0, 1000.0, 1100.0])
    report = tune(matmul, X, Y, device=device, budget_s=SHORT_S)
    assert read(device.capabilities, folder) == {site.name: Winner(wanted, 1.0, 0.5)}
    assert "kept" in report.text()
    assert f"-> {wanted}" in report.text()


@pytest.mark.parametrize("samples", [[960.0, 990.0, 1020.0], [100.0, 600.0, 1700.0], [1000.0]])
def test_the_default_stays_where_a_candidate_is_faster_by_less(
    device: Device, folder: Path, monkeypatch: pytest.MonkeyPatch, samples: list[float]
) -> None:
    (site,) = sites_of(device, matmul, X, Y)
    wanted = candidate(site, device).text()
    _ = keep(device.capabilities, folder, {site.name: Winner(wanted, 1.0, 0.5)})
    timed(monkeypatch, lambda text: samples if text == wanted else [950.0, 1000.0, 1050.0])
    report = tune(matmul, X, Y, device=device, budget_s=SHORT_S)
    assert read(device.capabilities, folder) == {}
    assert "default stays" in report.text()


@pytest.mark.parametrize(
    ("best_us", "spread_us", "is_better"), [(97.0, 0.0, True), (99.0, 0.0, False), (97.0, 4.0, False)]
)
def test_a_winner_beats_the_spread_and_a_fiftieth(best_us: float, spread_us: float, is_better: bool) -> None:
    row = Result("a class", "dot", "x", "y", 100.0, best_us, spread_us, 3, 0, ())
    assert row.is_better == is_better


def test_nothing_is_written_where_nothing_is_to_be_kept(
    device: Device, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed(monkeypatch, lambda text: [500.0 + len(text)])
    report = tune(matmul, X, Y, device=device, budget_s=SHORT_S, is_kept=False)
    assert report.path is None
    assert not (folder / "tuning").exists()


def test_candidates_without_time_are_counted() -> None:
    row = Result("a class", "dot", "x", "x", 1.0, 1.0, 0.0, 3, 9, ("y: too large",))
    text = Report("a device", None, (row,)).text()
    assert "no time for 9 candidates" in text
    assert "refused: y: too large" in text


def test_launches_too_short_for_the_clock_are_no_winners(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    (site,) = sites_of(device, matmul, X, Y)
    monkeypatch.setattr(LoadedProgram, "profile", lambda *_: [])
    found = measure(device, site, SHORT_S, lambda _: None)
    assert found.tried
    assert (found.gain, found.is_better) == (1.0, False)


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_measured(
    device: Device, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "tuning").write_text("")
    monkeypatch.setattr(tuning, "measure", lambda *_: pytest.fail("measured"))
    with pytest.raises(InputError, match="results are kept in the folder of the caches"):
        _ = tune(matmul, X, Y, device=device, budget_s=SHORT_S)
    with pytest.raises(pytest.fail.Exception):
        _ = tune(matmul, X, Y, device=device, budget_s=SHORT_S, is_kept=False)


# --- what is compiled next ------------------------------------------------------------------------------------------


def choose_another(device: Device, folder: Path) -> str:
    """Keep a candidate that is not the default, as if it had won; return its text."""
    (site,) = sites_of(device, matmul, X, Y)
    text = candidate(site, device).text()
    _ = keep(device.capabilities, folder, {site.name: Winner(text, 2.0, 1.0)})
    return text


def test_a_kept_schedule_is_compiled_and_computes(device: Device, folder: Path) -> None:
    lowered = lowering.lower(matmul)(X, Y)
    assert "tuned" not in lowered.as_text("schedule", device.capabilities)
    text = choose_another(device, folder)
    assert f"<tuned {text}>" in lowered.as_text("schedule", device.capabilities)
    assert np.allclose(lowered.compile(device)(X, Y), X @ Y, atol=1e-4)


def test_a_kept_schedule_is_not_used_where_tuning_is_off(
    device: Device, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _ = choose_another(device, folder)
    monkeypatch.setenv("QGA_TUNING", "0")
    assert "tuned" not in lowering.lower(matmul)(X, Y).as_text("schedule", device.capabilities)


def test_a_kept_schedule_makes_another_program_of_the_cache(device: Device, folder: Path) -> None:
    import jax.extend.mlir
    from jax.extend.mlir.dialects import stablehlo

    module = jax.jit(matmul).trace(X, Y).lower(lowering_platforms=("vulkan",)).compiler_ir("stablehlo")
    data = jax.extend.mlir.serialize_portable_artifact(module, stablehlo.get_current_version())
    store = DiskCache("programs", folder=folder)

    def entries() -> int:
        _ = compile_module(data, device, store=store)
        return sum(path.is_file() for path in store.folder.rglob("*"))

    assert [entries(), entries()] == [1, 1]
    _ = choose_another(device, folder)
    assert [entries(), entries()] == [2, 2]


# --- what is asked for ----------------------------------------------------------------------------------------------


def test_shapes_are_drawn_and_arguments_may_be_nested(device: Device) -> None:
    shape = jax.ShapeDtypeStruct((24, 24), jnp.float16)
    index = jax.ShapeDtypeStruct((3,), jnp.int32)

    def function(pair: Any, index: Any) -> Any:
        return (pair["x"] @ pair["y"])[index]

    report = tune(function, {"x": shape, "y": shape}, index, device=device, budget_s=SHORT_S, is_kept=False)
    assert len(report.results) == 1


def test_a_program_without_alternatives_says_so(device: Device) -> None:
    report = tune(jnp.tanh, X, device=device)
    assert "No kernel of this program has alternatives" in report.text()


@pytest.mark.parametrize("budget", [0.0, -1.0, float("nan")])
def test_a_budget_must_be_positive(budget: float) -> None:
    with pytest.raises(InputError, match="the budget must be positive"):
        _ = tune(matmul, X, Y, budget_s=budget)
