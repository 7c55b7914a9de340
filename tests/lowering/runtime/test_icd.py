"""Drivers found through their manifests."""

from __future__ import annotations

import json
from pathlib import Path

from lowering.runtime.icd import LIBRARIES_WITHOUT_MANIFEST, driver_libraries


def _write(folder: Path, name: str, library: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(json.dumps({"ICD": {"library_path": library}}))
    return path


def _found(environment: dict[str, str]) -> list[str]:
    found = driver_libraries(environment)
    return [name for name in found if name not in LIBRARIES_WITHOUT_MANIFEST]


def test_driver_files_override_the_search(tmp_path: Path) -> None:
    one, other = _write(tmp_path, "a.json", "liba.so"), _write(tmp_path, "b.json", "./libb.so")
    found = _found({"VK_DRIVER_FILES": f"{one}:{other}"})
    assert found == ["liba.so", str(tmp_path / "libb.so")]


def test_manifests_are_searched_in_the_data_folders(tmp_path: Path) -> None:
    _write(tmp_path / "vulkan" / "icd.d", "a.json", "liba.so")
    assert "liba.so" in _found({"HOME": "/nowhere", "XDG_DATA_DIRS": str(tmp_path)})


def test_broken_manifests_are_passed_over(tmp_path: Path) -> None:
    broken, wrong = tmp_path / "broken.json", _write(tmp_path, "wrong.json", 5)
    broken.write_text("{")
    assert _found({"VK_DRIVER_FILES": f"{broken}:{wrong}:{tmp_path / 'missing.json'}"}) == []


def test_a_library_known_without_a_manifest_comes_last(tmp_path: Path) -> None:
    _write(tmp_path / "vulkan" / "icd.d", "a.json", "liba.so")
    found = driver_libraries({"HOME": "/nowhere", "XDG_DATA_DIRS": str(tmp_path)})
    assert found[-2:] == ["liba.so", *LIBRARIES_WITHOUT_MANIFEST]


def test_manifests_named_by_the_environment_are_all_there_is() -> None:
    assert driver_libraries({"VK_DRIVER_FILES": "none"}) == []
