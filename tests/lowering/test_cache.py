"""The disk cache keeps what it is given, notices damage and stays within its size."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lowering.cache import DiskCache, cache_folder


@pytest.fixture
def cache(tmp_path: Path) -> DiskCache:
    return DiskCache("test", folder=tmp_path)


def _files(cache: DiskCache) -> list[Path]:
    return [path for path in cache.folder.rglob("*") if path.is_file()]


def test_get_returns_what_was_put(cache: DiskCache) -> None:
    cache.put("key", b"value")
    assert cache.get("key") == b"value"
    assert cache.get(b"other") is None


def test_put_replaces(cache: DiskCache) -> None:
    cache.put("key", b"one")
    cache.put("key", b"two")
    assert cache.get("key") == b"two"
    assert len(_files(cache)) == 1


@pytest.mark.parametrize("damage", [b"", b"garbage", None])
def test_a_broken_entry_is_ignored_and_can_be_written_again(cache: DiskCache, damage: bytes | None) -> None:
    cache.put("key", b"value")
    (file,) = _files(cache)
    file.write_bytes(file.read_bytes()[:-1] if damage is None else damage)
    assert cache.get("key") is None
    cache.put("key", b"value")
    assert cache.get("key") == b"value"


def test_shrink_deletes_what_was_unused_for_longest(tmp_path: Path) -> None:
    cache = DiskCache("test", folder=tmp_path, limit_bytes=250)
    for age, key in enumerate(["new", "middle", "old"]):
        cache.put(key, bytes(50))
        for file in _files(cache):
            if file.stat().st_mtime > 2000:
                os.utime(file, (1000 - age, 1000 - age))
    cache.shrink()
    assert cache.get("old") is None
    assert cache.get("new") == bytes(50)


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    cache = DiskCache("test", folder=tmp_path / "file")
    cache.put("key", b"value")
    assert cache.get("key") is None


def test_cache_folder_follows_the_environment() -> None:
    assert cache_folder({"QGA_CACHE_DIR": "/a"}) == Path("/a")
    assert cache_folder({"XDG_CACHE_HOME": "/b"}) == Path("/b/qga")
    assert cache_folder({"HOME": "/c"}) == Path("/c/.cache/qga")
