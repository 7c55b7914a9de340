"""A store of bytes on disk: atomic writes, checked reads, bounded size. A broken entry is ignored and written anew."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

# Entry: magic with format version, SHA-256 of the content, content.
_MAGIC = b"qgacache1\n"
_DIGEST_BYTES = 32
DEFAULT_LIMIT_BYTES = 1 << 30
# Counting the folder's size means listing it, so it is done once for this many bytes written.
_CHECK_EVERY_BYTES = 16 << 20


def cache_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Return QGA_CACHE_DIR, else `qga` in XDG_CACHE_HOME, else ~/.cache/qga."""
    source = os.environ if environment is None else environment
    if source.get("QGA_CACHE_DIR"):
        return Path(source["QGA_CACHE_DIR"])
    base = source.get("XDG_CACHE_HOME") or str(Path(source.get("HOME") or "~").expanduser() / ".cache")
    return Path(base) / "qga"


class DiskCache:
    """Entries of one kind, each a file named by the hash of its key.

    A cache never fails its user: in a folder that cannot be read or written `get` finds nothing and `put` does nothing.

    Args:
        kind: name of the subfolder, such as "programs" or "pipelines".
        folder: parent folder; `cache_folder()` by default.
        limit_bytes: size of all entries of this kind; beyond it those unused for longest are deleted.
    """

    def __init__(self, kind: str, *, folder: Path | None = None, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self.folder = (cache_folder() if folder is None else folder) / kind
        self.limit_bytes = limit_bytes
        self._unchecked_bytes = 0

    def get(self, key: str | bytes) -> bytes | None:
        """Return the bytes stored under a key, or None where there are none or the entry is broken."""
        path = self._path(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        start = len(_MAGIC) + _DIGEST_BYTES
        value = content[start:]
        if content[:start] != _MAGIC + hashlib.sha256(value).digest():
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        # The time of the last use decides what goes first; a read-only folder just keeps its order.
        with contextlib.suppress(OSError):
            os.utime(path)
        return value

    def put(self, key: str | bytes, value: bytes) -> None:
        """Store bytes under a key; other processes see the whole entry or the one before."""
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._write(path, value)
        except OSError:
            return
        self._unchecked_bytes += len(value)
        if self._unchecked_bytes >= min(_CHECK_EVERY_BYTES, self.limit_bytes // 4):
            self._unchecked_bytes = 0
            self.shrink()

    def shrink(self) -> None:
        """Delete the entries unused for longest until the rest fits the limit."""
        entries: list[tuple[float, int, Path]] = []
        for path in self.folder.glob("*/*"):
            with contextlib.suppress(OSError):
                status = path.stat()
                entries.append((status.st_mtime, status.st_size, path))
        excess = sum(size for _, size, _ in entries) - self.limit_bytes
        for _, size, path in sorted(entries):
            if excess <= 0:
                return
            with contextlib.suppress(OSError):
                path.unlink()
            excess -= size

    def _path(self, key: str | bytes) -> Path:
        digest = hashlib.sha256(key.encode() if isinstance(key, str) else key).hexdigest()
        return self.folder / digest[:2] / digest[2:]

    def _write(self, path: Path, value: bytes) -> None:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(_MAGIC + hashlib.sha256(value).digest() + value)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
