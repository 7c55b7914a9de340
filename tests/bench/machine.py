"""The facts at the head of a record: when, which source, which machine."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .derive import Record

ROOT = Path(__file__).parents[2]
RECORDS = Path(__file__).parent / "records"
FORMAT = 1
ROOMS = ("qga", "lowering", "shaders")


def head_of_record(options: Record, label: str) -> Record:
    """Return what a record starts with: when, which source, which machine."""
    return {
        "format": FORMAT,
        "label": label,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "has_changes": bool(_git("status", "--porcelain", "--", *ROOMS)),
        "source_sha256": source_digest(),
        **options,
        "host": {
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)),
            "load": os.getloadavg()[0],
            "system": platform.platform(),
        },
    }


def write_record(record: Record, name: str, device: str) -> None:
    """Write a record under a name, that of its device and its day."""
    file = f"{name}-{device.lower().replace(' ', '-')}-{record['date'][:10]}.json"
    RECORDS.joinpath(file).write_text(json.dumps(record, indent=1) + "\n")


def source_digest() -> str:
    """Return a digest of the code that was measured: a tree without git names its version, too."""
    digest = hashlib.sha256()
    files = [file for room in ROOMS for file in (ROOT / room).rglob("*")]
    for file in sorted(file for file in files if file.suffix in (".py", ".toml", ".c")):
        digest.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _git(*arguments: str) -> str:
    try:
        found = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    names = re.findall(r"^model name\s*: (.*)$", text, re.MULTILINE)
    return names[0] if names else platform.machine()


def record_name(record: Record, names: Sequence[str] = ()) -> str:
    """Return the file name of a record: the cases it is limited to, device, date, and whether it is a quick one."""
    slug = re.sub(r"[^a-z0-9]+", "-", record["device"]["name"].lower()).strip("-")[:40].strip("-")
    return "-".join([*sorted(set(names)), slug, record["date"][:10], *(["quick"] if record["quick"] else [])]) + ".json"
