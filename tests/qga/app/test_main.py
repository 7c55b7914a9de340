"""The command line: what it teaches, what it refuses, and a whole run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from qga.app.main import main
from qga.app.run import execute as execute_package
from qga.app.run.devices import Devices
from qga.app.run.options import RunOptions

CPU_ONLY = Devices({"cpu": jax.devices("cpu")[0]}, "Unknown backend vulkan")


@pytest.fixture
def book(tmp_path: Path) -> Path:
    file = tmp_path / "book.txt"
    file.write_text("It was the best of times, it was the worst of times. " * 40)
    return file


@pytest.fixture
def two_halves(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the CPU stand in for Vulkan, so that the comparison is exercised without a driver."""
    cpu = jax.devices("cpu")[0]
    monkeypatch.setitem(main_globals(), "find_devices", lambda backend: Devices({"cpu": cpu, "vulkan": cpu}))
    return iter(())


@pytest.fixture(scope="module")
def tried() -> dict[Any, Any]:
    """Keep what adaptive attention found in the heads of each model."""
    return {}


@pytest.fixture(autouse=True)
def heads_are_tried_once(tried: dict[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Try the heads of each model once: that takes longer than these runs."""
    original: Any = main_globals()["adapt_heads"]

    def adapt(parameters: Any, examples: Any, config: Any) -> Any:
        if config not in tried:
            tried[config] = original(parameters, examples, config)
        return tried[config]

    monkeypatch.setitem(main_globals(), "adapt_heads", adapt)


def main_globals() -> dict[str, object]:
    """Return the names ``execute`` looks up; the package re-exports a function of its module's name."""
    return execute_package.__globals__


def test_no_arguments_teach(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "start here:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "example"), [(["--help"], "qga run book.txt"), (["run", "--help"], "--resume --steps 300")]
)
def test_help_shows_examples(words: list[str], example: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 0
    assert example in capsys.readouterr().out


def test_unknown_subcommand_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["paint"])
    assert stop.value.code == 2
    assert "invalid choice: 'paint'" in capsys.readouterr().err


def test_no_steps_are_refused_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--steps", "0"]) == 2
    assert capsys.readouterr().err.splitlines()[0] == "qga: run: steps and seed are counts."


def test_vulkan_by_name_needs_a_device(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(platform: str) -> list[jax.Device]:
        if platform == "vulkan":
            raise RuntimeError("Unknown backend vulkan\nsecond line")
        return [CPU_ONLY.by_name["cpu"]]

    monkeypatch.setattr(jax, "devices", fail)
    assert main(["run", "--backend", "vulkan"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "qga: run: --backend vulkan needs a Vulkan device.",
        "  got:  Unknown backend vulkan",
        "  want: jax.devices('vulkan') with at least one device",
        "  fix:  run `qga devices` to see what is missing, or use --backend cpu.",
    ]


def test_resume_without_a_checkpoint_is_refused(book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(book), "--backend", "cpu", "--resume", str(tmp_path / "none")]) == 2
    assert "there is no checkpoint to resume from" in capsys.readouterr().err


def test_command_parses_back_to_its_options() -> None:
    options = RunOptions(Path("my book.txt"), "fidelity", "cpu", 9, 4, Path("out"), None)
    words = shlex.split(options.command(resume=Path("out")))
    assert words == [
        *("qga", "run", "my book.txt", "--attention", "fidelity", "--backend", "cpu"),
        *("--steps", "9", "--seed", "4", "--out", "out", "--resume", "out"),
    ]


@pytest.mark.usefixtures("two_halves")
@pytest.mark.parametrize("attention", ["dot", "fidelity"])
def test_run_of_both_halves_reports_and_resumes(
    attention: str, book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["run", str(book), "--attention", attention, "--out", str(out)]
    assert main([*words, "--steps", "2"]) == 0
    assert capsys.readouterr().out.strip() == str(out / "report.html")
    assert main([*words, "--steps", "4", "--resume"]) == 0
    page = (out / "report.html").read_text()
    assert sorted(file.name for file in (out / "checkpoint").iterdir()) == ["cpu.safetensors", "vulkan.safetensors"]
    titles = "Learning", "Agreement", "Time of each step", "Inside the heads", "What adaptive attention leaves out"
    for title in (*titles, "Numbers", "A sample"):
        assert f"<h2>{title}</h2>" in page
    assert "4 of 4 losses are equal to the last bit" in page
    assert page.count("<img") == 8
    assert_self_contained(page)


def test_run_without_vulkan_says_so(
    book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(main_globals(), "find_devices", lambda backend: CPU_ONLY)
    assert main(["run", str(book), "--steps", "2", "--out", str(tmp_path)]) == 0
    assert "no Vulkan device, so only the CPU half runs: Unknown backend vulkan" in capsys.readouterr().err
    page = (tmp_path / "report.html").read_text()
    assert "There was no Vulkan device" in page
    assert "<h2>Agreement</h2>" not in page
    assert_self_contained(page)


def test_other_attention_does_not_resume(book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", str(book), "--backend", "cpu", "--out", str(tmp_path)]
    assert main([*words, "--steps", "1"]) == 0
    assert main([*words, "--steps", "2", "--attention", "fidelity", "--resume"]) == 2
    assert "  got:  attention=fidelity\n  want: attention=dot" in capsys.readouterr().err


def test_maps_of_a_run_are_stochastic(book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    original = main_globals()["measure_heads"]
    monkeypatch.setitem(main_globals(), "measure_heads", lambda look: seen.append(look) or original(look))
    assert main(["run", str(book), "--backend", "cpu", "--steps", "1", "--out", str(tmp_path)]) == 0
    (look,) = seen
    for rows in (look.maps, look.flowed):
        assert np.abs(rows.sum(axis=-1) - 1).max() < 1e-5
        assert np.abs(np.triu(rows, 1)).max() == 0
    assert 0 < look.tail <= 1e-6


def assert_self_contained(page: str) -> None:
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(address.startswith("data:") for address in addresses)
    assert "@import" not in page
    assert "url(" not in page
    assert "<script" not in page
