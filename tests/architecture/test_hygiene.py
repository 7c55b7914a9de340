"""What does not belong in the repository: leftovers, binaries, large files, promises without an issue, local paths."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEFTOVERS = (".bak", ".log", ".spv", ".ipynb", ".orig", ".rej", ".so", ".pyc", ".comp", ".whl")
LARGEST_BYTES = 256 * 1024
# A home or working folder of some machine; folders that every Debian has (/usr, /etc, /dev, /proc, /tmp) are fine.
MACHINE_PATH = re.compile(r"(?<![\w.~$}])/(?:root|home/\w+|Users/\w+|work|mnt|srv)/[\w.]")
UNTRACKED_PROMISE = re.compile(r"\b(?:TODO|FIXME|XXX)\b(?!\(#\d+\))")


def tracked() -> list[Path]:
    """Return the files that git tracks, or every file of an unpacked source archive."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def texts() -> list[tuple[Path, str]]:
    """Return the tracked text files but this one, which names what it forbids."""
    return [(file, file.read_text(errors="replace")) for file in tracked() if file != Path(__file__)]


def test_no_leftover_is_tracked() -> None:
    assert [str(file.relative_to(ROOT)) for file in tracked() if file.name.endswith(LEFTOVERS)] == []


def test_no_tracked_file_is_large() -> None:
    assert [str(file.relative_to(ROOT)) for file in tracked() if file.stat().st_size > LARGEST_BYTES] == []


def test_every_todo_names_its_issue() -> None:
    found = [
        f"{file.relative_to(ROOT)}: {line.strip()}"
        for file, text in texts()
        if file.suffix in (".py", ".c", ".sh", ".toml")
        for line in text.splitlines()
        if UNTRACKED_PROMISE.search(line)
    ]
    assert found == [], "write TODO(#issue)"


def test_no_path_of_a_machine_is_written_down() -> None:
    found = [
        f"{file.relative_to(ROOT)}: {line.strip()[:100]}"
        for file, text in texts()
        for line in text.splitlines()
        if MACHINE_PATH.search(line)
    ]
    assert found == []


def test_no_package_index_is_pinned() -> None:
    for file in (ROOT / "requirements").glob("*.txt"):
        assert not re.search(r"://|^--|^-[ief]", file.read_text(), re.MULTILINE), (
            f"{file.name} names a place, not a version"
        )


@pytest.mark.parametrize("line", ["see /root/notes", "cd /home/ada/x", "open('/work/main')"])
def test_machine_path_is_recognised(line: str) -> None:
    assert MACHINE_PATH.search(line)


@pytest.mark.parametrize("line", ["/usr/share/vulkan/icd.d", "a/work/b", "$HOME/root/x", "/etc/vulkan"])
def test_common_path_is_accepted(line: str) -> None:
    assert not MACHINE_PATH.search(line)
