"""Keep what a tuner found: one small JSON file for each device and driver, in the folder of the caches."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import tempfile
import warnings
from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shaders.capabilities import Capabilities

from ..cache import cache_folder
from ..choices import NO_CHOICES, Choices
from ..errors import InputError, message
from ..runtime.settings import uses_tuning

FORMAT = 1
"""Of the file; one of another format is ignored."""

IDENTITY = ("device_name", "vendor_id", "device_id", "driver_name", "driver_version")
"""What a device and its driver are known by, beside all that they can do: a result counts for no other."""
DIGITS = 8
"""Hexadecimal digits that tell what a device can do, and files apart."""


@dataclass(frozen=True, slots=True)
class Winner:
    """A schedule that beat the compiler's own.

    Attributes:
        schedule: as text; one of the candidates of its class.
        default_us: device time of one launch with the compiler's own schedule, microseconds.
        tuned_us: the same with this one.
    """

    schedule: str
    default_us: float
    tuned_us: float


def choices_of(capabilities: Capabilities, environment: Mapping[str, str] | None = None) -> Choices:
    """Return what was found for a device; nothing where QGA_TUNING is 0.

    Args:
        capabilities: of the device.
        environment: instead of that of the process.
    """
    source = os.environ if environment is None else environment
    if not uses_tuning(source):
        return NO_CHOICES
    winners = read(capabilities, cache_folder(source))
    return Choices({name: winner.schedule for name, winner in winners.items()}) if winners else NO_CHOICES


def path_of(capabilities: Capabilities, folder: Path) -> Path:
    """Return the file of a device in the folder of the caches."""
    digest = hashlib.sha256(json.dumps(_identity(capabilities)).encode()).hexdigest()[:DIGITS]
    slug = re.sub(r"[^a-z0-9]+", "-", capabilities.device_name.lower()).strip("-")[:40]
    return folder / "tuning" / f"{slug}-{digest}.json"


def read(capabilities: Capabilities, folder: Path) -> dict[str, Winner]:
    """Return what was found for a device, by shape class; nothing, with a warning, where the file makes no sense."""
    path = path_of(capabilities, folder)
    try:
        text = path.read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        return _ignored(path, str(error))
    try:
        return _winners(json.loads(text), capabilities)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        return _ignored(path, f"{type(error).__name__}: {error}")


def keep(capabilities: Capabilities, folder: Path, found: Mapping[str, Winner | None]) -> Path:
    """Merge results into a device's file, which is replaced as a whole; None takes an entry out.

    Raises:
        InputError: the folder cannot be written.
    """
    path = path_of(capabilities, folder)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone_in(path.parent):
            merged = {**read(capabilities, folder), **found}
            rows = {name: asdict(winner) for name, winner in sorted(merged.items()) if winner is not None}
            content = {"format": FORMAT, "device": _identity(capabilities), "winners": rows}
            _replace(path, json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise _not_written(path.parent, error) from error
    return path


def forget(capabilities: Capabilities, folder: Path) -> None:
    """Delete what is kept for a device.

    Raises:
        InputError: the folder cannot be written.
    """
    path = path_of(capabilities, folder)
    try:
        path.unlink()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise _not_written(path.parent, error) from error


def _identity(capabilities: Capabilities) -> dict[str, Any]:
    # Settings may hide what a device can do: what wins without matrix units says nothing about how it is with them.
    digest = hashlib.sha256(capabilities.to_text().encode()).hexdigest()[:DIGITS]
    return {name: getattr(capabilities, name) for name in IDENTITY} | {"capabilities": digest}


def _winners(content: dict[str, Any], capabilities: Capabilities) -> dict[str, Winner]:
    if content["format"] != FORMAT:
        raise ValueError(f"format {content['format']!r}, not {FORMAT}")
    if content["device"] != _identity(capabilities):
        raise ValueError("results of another device")
    for name, row in content["winners"].items():
        if not isinstance(row["schedule"], str):
            raise TypeError("a schedule that is no text")
        if not all(isinstance(row[time], int | float) for time in ("default_us", "tuned_us")):
            raise TypeError("a time that is no number")
        # Keys of cached programs are made of these texts: half a surrogate pair, which JSON may hold, has no bytes.
        _ = f"{name}{row['schedule']}".encode()
    return {name: Winner(**row) for name, row in content["winners"].items()}


def _ignored(path: Path, why: str) -> dict[str, Winner]:
    text = message(
        "Results of tuning that cannot be read are not used.",
        got=f"{path}: {why}",
        want=f"a file of format {FORMAT} that `qga tune` wrote for this device and driver",
        fix="run `qga tune` again, or delete the file.",
    )
    warnings.warn(text, stacklevel=2)
    return {}


def _not_written(folder: Path, error: OSError) -> InputError:
    return InputError(
        message(
            "tune: results are kept in the folder of the caches.",
            got=str(error),
            want=f"a folder {folder} that can be written",
            fix="set QGA_CACHE_DIR to one that can.",
        )
    )


@contextlib.contextmanager
def _alone_in(folder: Path) -> Generator[None]:
    """Keep other processes waiting while a file is read and written: what they add in between would be lost."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # File systems without locks have the file as a whole all the same.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, text: str) -> None:
    """Write a file so that others see the whole of it or the one before."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            _ = file.write(text)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
