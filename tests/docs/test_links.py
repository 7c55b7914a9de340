"""Every relative link of every page leads somewhere, and every command a page names exists."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


def broken_links(page: Path, text: str) -> list[str]:
    """Return the links of a page that lead to no file or, inside a page of ours, to no heading."""
    broken = []
    for target in LINK.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file.read_text())):
            broken.append(target)
    return broken


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as Git hosts make them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def named_commands(text: str, pattern: str) -> set[str]:
    """Return what follows a command's name in the code of a page."""
    return {match for code in CODE.findall(text) for match in re.findall(pattern, code)}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_resolve(page: Path) -> None:
    assert broken_links(page, page.read_text()) == []


def test_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A title\n")
    text = "[a](page.md) [b](#a-title) [c](https://example.org) [d](gone.md) [e](page.md#no)"
    assert broken_links(page, text) == ["gone.md", "page.md#no"]


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert named_commands(page.read_text(), r"\bmake ([a-z]+)") <= targets


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_ci_commands_exist(page: Path) -> None:
    known = set(re.findall(r"^  (\w+)\) ", (ROOT / ".ci" / "run").read_text(), re.MULTILINE))
    assert named_commands(page.read_text(), r"\.ci/run ([a-z]+)") <= known


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_subcommands_exist(page: Path) -> None:
    program = importlib.import_module("qga.app.main")
    assert named_commands(page.read_text(), r"(?<![\w.])(?<!from )qga ([a-z]+)") <= set(program._SUBCOMMANDS)


def settings(*folders: str) -> set[str]:
    """Return the environment variables of ours that source files name."""
    files = [
        file for name in folders for file in (ROOT / name).rglob("*") if file.suffix in (".py", "") and file.is_file()
    ]
    texts = [file.read_text(errors="replace") for file in (*files, ROOT / "hatch_build.py")]
    return {name for text in texts for name in re.findall(r"\bQGA_[A-Z]+(?:_[A-Z]+)*\b", text)}


def test_every_environment_variable_is_explained() -> None:
    named = settings("lowering", "qga", "shaders", ".ci")
    explained = set(re.findall(r"^\| `(QGA_\w+)` \|", (ROOT / "docs/guide/vulkan.md").read_text(), re.MULTILINE))
    assert named == explained


def test_every_page_is_listed() -> None:
    text = (ROOT / "docs" / "index.md").read_text()
    pages = [page.relative_to(ROOT / "docs") for page in PAGES if page.is_relative_to(ROOT / "docs")]
    listed = [*LINK.findall(text), "index.md"]
    assert [str(page) for page in pages if str(page) not in listed and str(page.parent) not in _folders(listed)] == []


def _folders(targets: list[str]) -> set[str]:
    """Return the folders that targets lead to, as folders or by their README."""
    return {target.removesuffix("/README.md") for target in targets if not target.endswith(".md") or "README" in target}


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = folder.joinpath("README.md").read_text()
    assert [page.name for page in folder.glob("0*.md") if f"({page.name})" not in listed] == []
