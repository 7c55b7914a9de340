from __future__ import annotations

from pathlib import Path

import pytest

from lowering.cli.remedies import distribution_names, driver_remedy, observations


@pytest.mark.parametrize(
    ("release", "word"),
    [
        ("ID=debian", "apt-get install mesa-vulkan-drivers"),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"', "apt-get"),
        ('ID="opensuse-tumbleweed"\nID_LIKE="opensuse suse"', "zypper"),
        ("ID=fedora", "dnf"),
        ("ID=arch", "pacman"),
        ("ID=somethingelse", "your GPU's Vulkan driver"),
        ("", "your GPU's Vulkan driver"),
    ],
)
def test_driver_remedy_names_the_command_of_the_distribution(release: str, word: str) -> None:
    assert word in driver_remedy(release, "linux")


def test_driver_remedy_knows_macos() -> None:
    assert "brew" in driver_remedy("", "darwin")


def test_distribution_names_puts_the_own_name_first() -> None:
    assert distribution_names('ID=ubuntu\nID_LIKE=debian\nNAME="Ubuntu"') == ["ubuntu", "debian"]


def test_observations_find_a_variable_that_points_nowhere(tmp_path: Path) -> None:
    here = tmp_path / "here.json"
    here.touch()
    (line,) = observations(tmp_path, {"VK_DRIVER_FILES": f"{here}:{tmp_path / 'gone.json'}"})
    assert "gone.json" in line
    assert "here.json" not in line


def test_observations_find_an_nvidia_card_without_its_driver(tmp_path: Path) -> None:
    (tmp_path / "nvidiactl").touch()
    assert "NVIDIA_DRIVER_CAPABILITIES" in observations(tmp_path, {})[0]


def test_observations_of_a_plain_machine_are_empty(tmp_path: Path) -> None:
    assert observations(tmp_path, {}) == []
