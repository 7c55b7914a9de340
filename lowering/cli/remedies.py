"""What to do where no Vulkan device is found: the packages of each distribution, and what the machine gives away."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# By the ID or ID_LIKE of /etc/os-release: the command that installs Mesa's drivers (software driver included).
PACKAGES = {
    "debian": "sudo apt-get install mesa-vulkan-drivers libvulkan1",
    "ubuntu": "sudo apt-get install mesa-vulkan-drivers libvulkan1",
    "fedora": "sudo dnf install mesa-vulkan-drivers vulkan-loader",
    "rhel": "sudo dnf install mesa-vulkan-drivers vulkan-loader",
    "arch": "sudo pacman -S vulkan-icd-loader vulkan-swrast",
    "suse": "sudo zypper install libvulkan1 libvulkan_lvp",
    "alpine": "sudo apk add vulkan-loader mesa-vulkan-swrast",
}
MACOS = "brew install vulkan-loader molten-vk"


def driver_remedy(release: str | None = None, system: str = sys.platform) -> str:
    """Return how to get a driver on this system; `release` is the text of /etc/os-release."""
    if system == "darwin":
        return f"To get a driver: {MACOS}"
    names = distribution_names(_read("/etc/os-release") if release is None else release)
    command = next((PACKAGES[name] for name in names if name in PACKAGES), None)
    if command is None:
        return (
            "To get a driver: install your GPU's Vulkan driver, or Mesa's drivers with lavapipe, and the Vulkan loader."
        )
    return f"To get a driver that runs on the CPU and, for AMD and Intel, on the GPU:\n  {command}"


def distribution_names(release: str) -> list[str]:
    """Return the distribution's own id, then those it says it is like."""
    fields = dict(line.split("=", 1) for line in release.splitlines() if "=" in line)
    text = f"{fields.get('ID', '')} {fields.get('ID_LIKE', '')}"
    return text.replace('"', "").replace("'", "").split()


def observations(device_folder: Path = Path("/dev"), environment: dict[str, str] | None = None) -> list[str]:
    """Say what this machine gives away about why no device shows."""
    variables = os.environ if environment is None else environment
    found = []
    for name in ("VK_DRIVER_FILES", "VK_ICD_FILENAMES"):
        missing = [part for part in variables.get(name, "").split(os.pathsep) if part and not Path(part).exists()]
        if missing:
            found.append(f"{name} names files that are not there: {', '.join(missing)}")
    if (device_folder / "nvidiactl").exists():
        found.append(
            "An NVIDIA card is here without its Vulkan driver; in a container, start it with "
            "NVIDIA_DRIVER_CAPABILITIES=all (graphics is what carries Vulkan)."
        )
    renderers = sorted((device_folder / "dri").glob("renderD*")) if (device_folder / "dri").is_dir() else []
    closed = [str(node) for node in renderers if not os.access(node, os.R_OK | os.W_OK)]
    if closed:
        found.append(f"No permission for {', '.join(closed)}: add yourself to the group `render` and log in again.")
    return found


def _read(name: str) -> str:
    try:
        return Path(name).read_text()
    except OSError:
        return ""
