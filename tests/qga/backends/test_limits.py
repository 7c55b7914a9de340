"""Limits come from the system and the device; tiles fit into them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jax
import pytest

from qga import backends
from qga.backends import Limits, limits
from qga.errors import OptionError

H100 = "16x16x16:bf16->f32 16x16x16:f16->f16 16x16x16:f16->f32 16x8x8:f16->f32 16x16x32:i8->i32"


class FakeDevice:
    platform, max_shared_bytes, subgroup_size = "vulkan", 49152, 32
    matrices = H100


def write_cache(folder: Path, index: int, level: str, kind: str, size: str) -> None:
    where = folder / f"index{index}"
    where.mkdir(parents=True)
    for name, text in (("level", level), ("type", kind), ("size", size)):
        (where / name).write_text(text + "\n")


@pytest.mark.parametrize(("size", "expected"), [("512K", 1 << 19), ("2M", 1 << 21), ("3000", 3000)])
def test_cache_of_the_second_level_is_read(tmp_path: Path, size: str, expected: int) -> None:
    write_cache(tmp_path, 0, "1", "Data", "32K")
    write_cache(tmp_path, 1, "2", "Instruction", "64K")
    write_cache(tmp_path, 2, "2", "Unified", size)
    assert limits.cache_of_core(tmp_path) == (expected, str(tmp_path / "index2"))


def test_cache_that_nobody_knows_is_said_to_be_a_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cache(tmp_path, 0, "2", "Unified", "unknown")
    monkeypatch.setattr(os, "sysconf_names", {})
    nbytes, source = limits.cache_of_core(tmp_path)
    assert nbytes == limits.DEFAULT_CACHE_BYTES
    assert source.startswith("default")
    monkeypatch.setattr(os, "sysconf_names", {"SC_LEVEL2_CACHE_SIZE": 1})
    for answer, known in ((1 << 20, 1 << 20), (0, limits.DEFAULT_CACHE_BYTES), (-1, limits.DEFAULT_CACHE_BYTES)):
        monkeypatch.setattr(os, "sysconf", lambda name, answer=answer: answer)
        assert limits.cache_of_core(tmp_path / "nothing")[0] == known


def test_limits_of_a_device_are_its_attributes(vulkan: Any) -> None:
    found = backends.limits_of(vulkan)
    assert (found.workgroup_bytes, found.subgroup) == (vulkan.max_shared_bytes, vulkan.subgroup_size)
    assert len(found.matrices) == len(vulkan.matrices.split())


def test_matrices_are_read_as_they_are_written() -> None:
    found = backends.limits_of(FakeDevice())
    assert found.matrices[3] == backends.Matrix(16, 8, 8, "f16", "f32")
    assert len(found.matrices) == 5
    assert [found.granule(each) for each in ("float16", "bfloat16", "float32")] == [8, 16, 32]


@pytest.mark.parametrize(("width", "dtype", "tile"), [(64, "float16", 128), (64, "float32", 64), (128, "float32", 32)])
def test_tile_fills_shared_memory(monkeypatch: pytest.MonkeyPatch, width: int, dtype: str, tile: int) -> None:
    found = backends.limits_of(FakeDevice())
    tiling = backends.tiles.tiling_of(found, 4096, width, width, dtype)
    assert (tiling.tile, tiling.limit, tiling.is_aligned) == (tile, "memory", True)
    assert tiling.tile_bytes <= found.workgroup_bytes < 2 * tiling.tile_bytes
    assert tiling.tiles * tiling.tile == 4096


@pytest.mark.parametrize("keys", [1, 2, 31, 32, 33, 5000])
def test_tile_of_a_backend_fits_its_memory(backend: backends.Backend, keys: int) -> None:
    tiling = backend.optimize_tiling(keys, width=32, channels=8, dtype="bfloat16")
    assert tiling.tile == backend.compute_optimal_tile_size(keys, width=32, channels=8, dtype="bfloat16")
    assert tiling.tile_bytes == tiling.tile * 80 <= backend.limits.room_bytes
    assert (tiling.tiles - 1) * tiling.tile < keys <= tiling.tiles * tiling.tile
    assert tiling.limit == ("keys" if tiling.tiles == 1 else "memory")


def test_less_memory_means_shorter_tiles() -> None:
    tiles = [
        backends.tiles.fit_tile(Limits(nbytes, 2 * nbytes, 8, (), "test"), 4096, 64, 64, "float32")
        for nbytes in (16384, 32768, 65536)
    ]
    assert tiles == [32, 64, 128]


def test_tile_shorter_than_a_subgroup_is_said_to_be(cpu: backends.Backend) -> None:
    small = Limits(4096, 8192, 32, (), "test")
    assert not backends.tiles.tiling_of(small, 4096, 64, 64, "float32").is_aligned
    with pytest.raises(OptionError, match="must fit into shared memory"):
        backends.tiles.tiling_of(small, 4096, 1024, 1024, "float32")


def test_cpu_has_a_cache() -> None:
    found = backends.limits_of(jax.devices("cpu")[0])
    assert found.room_bytes == found.workgroup_bytes // 2
    assert found.source
