from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lowering.cli.devices import describe, matrix_text, numbers_text, subgroup_text
from lowering.runtime import Device
from lowering.runtime.opening import close_candidates, find_candidates
from lowering.runtime.settings import Settings
from qga.app.main import main
from shaders.capabilities import Capabilities


def run_devices(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own: a loader reads its environment once."""
    return subprocess.run(
        [sys.executable, "-m", "qga.app", "devices", *arguments], env=os.environ | environment, capture_output=True,
        text=True, check=False,
    )  # fmt: skip


def test_devices_marks_the_one_that_is_used(device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices"]) == 0
    printed = capsys.readouterr().out
    (line,) = [line for line in printed.splitlines() if "<- used" in line]
    assert device.record.name in line
    assert "JAX platform vulkan" in printed


def test_devices_prints_capabilities_that_can_be_read_back(device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", "--capabilities"]) == 0
    assert Capabilities.from_text(capsys.readouterr().out) == device.capabilities


def test_devices_describes_extensions_when_asked(device: Device) -> None:
    found = find_candidates(Settings(selector=device.record.uuid))
    try:
        assert "VK_KHR_" in describe(found[device.record.index], is_long=True)
        assert "VK_KHR_" not in describe(found[device.record.index])
    finally:
        close_candidates(found)


def test_devices_without_a_driver_says_how_to_get_one(tmp_path: Path) -> None:
    result = run_devices(VK_DRIVER_FILES=str(tmp_path / "none.json"))
    assert result.returncode == 1
    assert "Vulkan needs a driver." in result.stdout
    assert "names files that are not there" in result.stdout
    assert "To get a driver" in result.stdout


@pytest.mark.usefixtures("device")
def test_devices_with_a_wrong_selector_lists_what_there_is() -> None:
    result = run_devices(QGA_VULKAN_DEVICE="no such card")
    assert result.returncode == 1
    assert "QGA_VULKAN_DEVICE must name a device that is there" in result.stdout
    assert "0  " in result.stdout


def test_texts_of_capabilities_name_what_is_missing(capabilities: Capabilities) -> None:
    assert numbers_text(capabilities).startswith("f32, i32")
    assert str(capabilities.subgroup_size) in subgroup_text(capabilities)
    assert (matrix_text(capabilities) == "none") == (not capabilities.matrices and not capabilities.matrices_nv)


def test_inspect_plans_for_a_device_that_is_not_here(
    capabilities: Capabilities, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "capabilities.json"
    file.write_text(capabilities.to_text())
    assert json.loads(file.read_text())["device_name"] == capabilities.device_name
    options = ["--shapes", "f32[64,64]", "--capabilities", str(file), "--cost"]
    assert main(["inspect", "jax.nn:softmax", *options]) == 0
    assert "dispatches: " in capsys.readouterr().out
