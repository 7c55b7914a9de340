"""What a user installs: three packages with their type marks, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel as a user without a compiler would: what it holds must not depend on this machine."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT, env=os.environ | {"CC": "no-such-compiler", "QGA_REQUIRE_NATIVE": "0"}, check=True,
        capture_output=True,
    )  # fmt: skip
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def names(wheel: Path) -> list[str]:
    return zipfile.ZipFile(wheel).namelist()


def test_wheel_without_a_compiler_is_pure(wheel: Path) -> None:
    assert wheel.name == "qga-0.1.0-py3-none-any.whl"


def test_wheel_holds_the_three_packages(names: list[str]) -> None:
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"qga", "lowering", "shaders"}


@pytest.mark.parametrize("package", ["qga", "lowering", "shaders"])
def test_wheel_marks_each_package_as_typed(names: list[str], package: str) -> None:
    assert f"{package}/py.typed" in names


def test_wheel_holds_every_module_of_the_tree(names: list[str]) -> None:
    tree = {
        str(file.relative_to(ROOT)) for room in ("qga", "lowering", "shaders") for file in (ROOT / room).rglob("*.py")
    }
    assert tree - set(names) == set()


def test_wheel_holds_no_tests_no_binaries_no_kernels(names: list[str]) -> None:
    assert [name for name in names if name.endswith((".so", ".spv", ".pyc")) or "test" in name.split("/")[0]] == []


def test_wheel_names_the_command_and_the_plugin(wheel: Path) -> None:
    text = zipfile.ZipFile(wheel).read("qga-0.1.0.dist-info/entry_points.txt").decode()
    assert "[console_scripts]\nqga = qga.app.main:main" in text
    assert "[jax_plugins]\nvulkan = lowering.pjrt" in text


def test_wheel_carries_the_licence(wheel: Path) -> None:
    assert b"Apache License" in zipfile.ZipFile(wheel).read("qga-0.1.0.dist-info/licenses/LICENSE")


def test_required_extension_without_a_compiler_is_an_error(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, env=os.environ | {"CC": "no-such-compiler", "QGA_REQUIRE_NATIVE": "1"}, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode != 0
    assert "no C compiler" in result.stderr


def test_wheel_with_a_compiler_holds_the_extension(tmp_path: Path) -> None:
    sys.path.insert(0, str(ROOT))
    try:
        import hatch_build
    finally:
        sys.path.remove(str(ROOT))
    reason = hatch_build.missing_requirement()
    if reason is not None:
        pytest.skip(reason)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, env=os.environ | {"QGA_REQUIRE_NATIVE": "1"}, check=True, capture_output=True,
    )  # fmt: skip
    (file,) = tmp_path.glob("qga-0.1.0-cp311-abi3-*.whl")
    assert "lowering/pjrt/_native.abi3.so" in zipfile.ZipFile(file).namelist()
