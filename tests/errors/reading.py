"""Read error messages whole: the four lines, and where."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = ("got", "want", "fix")


def parts(text: str) -> dict[str, str]:
    """Split a message into its rule, got, want, fix, at and in; require the four lines that every message has."""
    lines = text.splitlines()
    found = {"rule": lines[0]}
    for line in lines[1:]:
        key, _, value = line.partition(": ")
        if not key.startswith("  ") or key.strip() not in (*PARTS, "at", "in"):
            break
        found[key.strip()] = value.strip()
    assert [key for key in found if key in PARTS] == list(PARTS), text
    assert found["rule"].endswith("."), text
    return found


def run_python(source: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python source in a process of its own, without the settings of this one that choose platforms or devices."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("JAX_", "XLA_", "VK_", "QGA_"))}
    return subprocess.run(
        [sys.executable, "-c", source, *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        cwd=ROOT,
        env=inherited | environment,
    )


def last_error(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Read the message of the exception that ended a process."""
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    lines = done.stderr.splitlines()
    first = max(number for number, line in enumerate(lines) if line and not line[0].isspace() and "Error: " in line)
    return parts("\n".join(lines[first:]))
