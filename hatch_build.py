"""Build hook: compiles the one C file of the plugin into `lowering.pjrt._native`, where a compiler is present.

The extension uses Python's limited API, so one wheel serves every Python from 3.11 on. It is optional: without a
compiler or without Python's headers the wheel is pure, `lowering` works, and the platform `vulkan` refuses with a
message that says so. Set `QGA_REQUIRE_NATIVE=1` to make a missing extension an error (the set-up script does).
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path("lowering/pjrt/native.c")
MODULE = Path("lowering/pjrt/_native.abi3.so")
# The oldest Python the wheel supports, as Py_LIMITED_API wants it.
LIMITED_API = "0x030B0000"


class NativeBuildHook(BuildHookInterface):
    """Adds the compiled extension to the wheel, or in place for an editable install."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before the wheel is packed; leave the wheel pure when that is not possible."""
        root = Path(self.root)
        # The default text of `qga run` where there is no checkout. Not a table of pyproject.toml: an editable install
        # would copy it too, and leave a second folder `qga` beside the link to the real one.
        if version != "editable":
            build_data["force_include"][str(root / "docs" / "theory")] = "qga/app/text"
        if not (root / SOURCE).is_file():
            return
        reason = missing_requirement()
        if reason is not None:
            refuse(reason)
            return
        if version == "editable":
            target = root / MODULE
        else:
            self.folder = tempfile.TemporaryDirectory(prefix="qga-native-")
            target = Path(self.folder.name) / MODULE.name
        failure = compile_extension(root / SOURCE, target)
        if failure is not None:
            refuse(failure)
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"cp311-abi3-{platform_tag()}"
        if version != "editable":
            build_data["force_include"][str(target)] = str(MODULE)


def missing_requirement() -> str | None:
    """Say what keeps the extension from being built, or None when everything is there."""
    if sys.platform not in ("linux", "darwin"):
        return f"the extension is built on Linux and macOS only, this is {sys.platform}"
    if not compiler():
        return "no C compiler: set CC, or install one (Debian: apt-get install gcc libc6-dev)"
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.is_file():
        return f"{header} is missing (Debian: apt-get install python3-dev)"
    return None


def compiler() -> list[str]:
    """Return the command of the C compiler, empty when there is none."""
    asked = shlex.split(os.environ.get("CC", ""))
    candidates = [asked] if asked else [["cc"], ["gcc"], ["clang"]]
    return next((command for command in candidates if shutil.which(command[0])), [])


def compile_extension(source: Path, target: Path) -> str | None:
    """Compile `source` to the shared object `target`; return what the compiler said when it fails."""
    shared = ["-bundle", "-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-shared"]
    command = [
        *compiler(), "-std=c11", "-O2", "-Wall", "-Wextra", "-fPIC", "-fvisibility=hidden", *shared,
        f"-DPy_LIMITED_API={LIMITED_API}", f"-I{sysconfig.get_path('include')}", str(source), "-o",
    ]  # fmt: skip
    fresh = target.with_suffix(".new")
    result = subprocess.run([*command, str(fresh)], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        fresh.unlink(missing_ok=True)
        return f"{shlex.join(command)} failed:\n{result.stderr}"
    # A running program may hold the old file open: replace it, never write into it.
    fresh.replace(target)
    return None


def platform_tag() -> str:
    """Return the wheel tag of this machine, for example `linux_x86_64`."""
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")


def refuse(reason: str) -> None:
    """Report that the wheel goes without the extension, or fail where it is required."""
    text = f"qga: built without lowering.pjrt._native, so without the platform `vulkan` of JAX: {reason}"
    if os.environ.get("QGA_REQUIRE_NATIVE") == "1":
        raise RuntimeError(text)
    print(text, file=sys.stderr)
