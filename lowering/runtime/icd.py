"""Find the libraries of installed Vulkan drivers, for machines that have a driver but no Vulkan loader."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

# Containers often carry NVIDIA's library without a manifest; this name is the one its manifest would hold.
LIBRARIES_WITHOUT_MANIFEST = ("libGLX_nvidia.so.0",)
MANIFEST_VARIABLES = ("VK_DRIVER_FILES", "VK_ICD_FILENAMES")


def driver_libraries(environment: Mapping[str, str] | None = None) -> list[str]:
    """List the libraries that ICD manifests name, in the loader's search order, then names known without a manifest.

    Where the environment names the manifests, they are all there is, as for the loader.

    Source: Vulkan-Loader, docs/LoaderDriverInterface.md, "Driver Discovery on Linux".
    """
    source = os.environ if environment is None else environment
    found: list[str] = []
    for path in _manifests(source):
        library = _library_of(path)
        if library and library not in found:
            found.append(library)
    if any(source.get(name) for name in MANIFEST_VARIABLES):
        return found
    return found + [name for name in LIBRARIES_WITHOUT_MANIFEST if name not in found]


def _manifests(environment: Mapping[str, str]) -> list[Path]:
    for name in MANIFEST_VARIABLES:
        if environment.get(name):
            return [Path(part) for part in environment[name].split(os.pathsep) if part]
    home = Path(environment.get("HOME", "/"))
    roots = [
        environment.get("XDG_CONFIG_HOME") or str(home / ".config"),
        *(environment.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep),
        "/etc",
        environment.get("XDG_DATA_HOME") or str(home / ".local/share"),
        *(environment.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share").split(os.pathsep),
    ]
    paths: list[Path] = []
    for root in dict.fromkeys(roots):
        paths.extend(sorted((Path(root) / "vulkan" / "icd.d").glob("*.json")))
    return paths


def _library_of(manifest: Path) -> str | None:
    """Return the library a manifest names; a broken manifest names none, as the loader sees it."""
    try:
        library = json.loads(manifest.read_text())["ICD"]["library_path"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not isinstance(library, str):
        return None
    # A path with a slash is relative to the manifest; a bare name goes through the system's library search.
    return str((manifest.parent / library).resolve()) if "/" in library else library
