"""The programs in README and docs, and the examples in docstrings, run and say what they claim.

A page's blocks marked `python` are one program, top to bottom; those marked `python vulkan` need a device. Blocks
marked `pycon` are a session whose output is compared; it sees what the page's `python` blocks define.
"""

from __future__ import annotations

import doctest
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python *(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SESSION = re.compile(r"^```pycon\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [str(page.relative_to(ROOT)) for page in sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = [page for page in PAGES if "```python\n" in (ROOT / page).read_text()]
WITH_DEVICE = [page for page in PAGES if "```python vulkan\n" in (ROOT / page).read_text()]
SESSIONS = [page for page in PAGES if SESSION.search((ROOT / page).read_text())]
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
MODULES = sorted(
    file
    for room in ("qga", "lowering", "shaders")
    for file in (ROOT / room).rglob("*.py")
    if ">>> " in file.read_text()
)


def blocks(page: str, *, with_device: bool) -> str:
    """Return the program that the Python blocks of a page make; blocks marked `vulkan` need a device."""
    found = BLOCK.findall((ROOT / page).read_text())
    return "\n".join(text for mark, text in found if with_device or mark != "vulkan")


def run_program(text: str, folder: Path, **environment: str) -> str:
    """Run a program as a user would, from a file in another folder; return what it prints."""
    file = folder / "example.py"
    file.write_text(text)
    result = subprocess.run(
        [sys.executable, file.name], cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_readme_example_runs_on_the_cpu(tmp_path: Path) -> None:
    assert "Cpu" in run_program(blocks("README.md", with_device=False), tmp_path, JAX_PLATFORMS="cpu")


def test_readme_example_runs_on_vulkan(tmp_path: Path, vulkan: Any) -> None:
    printed = run_program(blocks("README.md", with_device=False), tmp_path, JAX_PLATFORMS=vulkan.platform)
    assert "vulkan" in printed.lower()


@pytest.mark.parametrize("page", PROGRAMS)
def test_page_runs_without_a_device(page: str, tmp_path: Path) -> None:
    # Most of the time goes to compiling what runs once.
    run_program(
        blocks(page, with_device=False), tmp_path, JAX_PLATFORMS="cpu", JAX_DISABLE_MOST_OPTIMIZATIONS="1"
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_DEVICE)
def test_page_runs_with_a_device(page: str, tmp_path: Path, vulkan: Any) -> None:
    run_program(blocks(page, with_device=True), tmp_path, JAX_PLATFORMS=f"cpu,{vulkan.platform}")


@pytest.mark.parametrize("page", SESSIONS)
def test_session_prints_what_the_page_shows(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Programs leave files where they run; sessions name files of the project.
    monkeypatch.chdir(tmp_path)
    text = "\n".join(SESSION.findall((ROOT / page).read_text()))
    known: dict[str, Any] = {}
    exec(compile(blocks(page, with_device=False), page, "exec"), known)
    monkeypatch.chdir(ROOT)
    session = doctest.DocTestParser().get_doctest(text, known, page, page, None)
    report: list[str] = []
    results = doctest.DocTestRunner(optionflags=FLAGS).run(session, out=report.append)
    assert results.failed == 0, "".join(report)
    assert results.attempted > 0


def test_pages_have_blocks_of_each_kind() -> None:
    assert "docs/tour.md" in WITH_DEVICE
    assert "docs/compiler.md" in SESSIONS
    assert len(blocks("docs/tour.md", with_device=True)) > len(blocks("docs/tour.md", with_device=False)) > 0


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(ROOT)))
def test_docstring_examples_are_true(file: Path) -> None:
    parts = file.relative_to(ROOT).with_suffix("").parts
    module = importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    results = doctest.testmod(module, optionflags=FLAGS)
    assert results.failed == 0
    assert results.attempted > 0
