"""What a user reads where a process cannot start its work, and what survives damage: drivers, caches, interrupts."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .reading import ROOT, last_error, run_python

NO_DRIVER = {"VK_DRIVER_FILES": "/nonexistent/icd.json"}
HEADER = "import lowering.pjrt; lowering.pjrt.initialize()\nimport jax, jax.numpy as jnp\n"
SUM = HEADER + "print(float(jax.jit(lambda a: jnp.sin(a).sum())(jnp.ones(5))))\n"
STAGED = "import jax, jax.numpy as jnp, lowering\nshape = jax.ShapeDtypeStruct((3,), jnp.float32)\n"
COMPILE = STAGED + "lowering.lower(jnp.sin)(shape).compile()\n"


def test_no_driver_is_explained_to_who_sets_the_platform() -> None:
    read = last_error(run_python(SUM, JAX_PLATFORMS="vulkan", **NO_DRIVER))
    assert read["rule"] == "RuntimeError: Unable to initialize backend 'vulkan': Vulkan needs a driver."
    assert "mesa-vulkan-drivers" in read["fix"]


def test_no_driver_is_explained_to_who_lowers() -> None:
    read = last_error(run_python(COMPILE, **NO_DRIVER))
    assert read["rule"] == "lowering.errors.DeviceError: Vulkan needs a driver."
    assert "mesa-vulkan-drivers" in read["fix"]


def test_no_driver_is_explained_to_who_loads_a_program(tmp_path: Path) -> None:
    save = STAGED + "import sys\nlowering.lower(jnp.sin)(shape).save(sys.argv[1])\n"
    load = "import sys, lowering\nlowering.load(sys.argv[1])\n"
    file = str(tmp_path / "program")
    saved = run_python(save, file)
    if saved.returncode != 0 and "Vulkan needs a driver" in saved.stderr:
        pytest.skip("no driver to save a program for")
    assert saved.returncode == 0, saved.stderr
    assert (
        last_error(run_python(load, file, **NO_DRIVER))["rule"] == "lowering.errors.DeviceError: Vulkan needs a driver."
    )


def test_no_driver_leaves_the_stages_before_the_device() -> None:
    source = STAGED + "print('sine' in lowering.lower(jnp.sin)(shape).as_text('graph'))\n"
    done = run_python(source, **NO_DRIVER)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_unknown_device_lists_those_that_are_there() -> None:
    read = last_error(run_python(COMPILE, QGA_VULKAN_DEVICE="no such card"))
    assert read["rule"] == "lowering.errors.DeviceError: QGA_VULKAN_DEVICE must name a device that is there."
    assert read["got"] == "'no such card'"
    assert read["want"].startswith("0: ")


def test_unknown_setting_is_refused() -> None:
    read = last_error(run_python(COMPILE, QGA_VALIDATION="yes please"))
    assert "'sync', 'gpu'" in read["want"]


def test_missing_extension_is_explained() -> None:
    source = "import sys; sys.modules['lowering.pjrt._native'] = None\n" + SUM
    read = last_error(run_python(source, JAX_PLATFORMS="vulkan"))
    assert read["rule"].endswith("platform vulkan: the native part of the plugin must be there.")
    assert "install a C compiler and Python's headers" in read["fix"]


def test_long_error_of_a_client_arrives_whole() -> None:
    """Texts pass jaxlib uncut, however long, and say first what happened."""
    source = HEADER + (
        "import lowering.pjrt.platform as platform\n"
        "def broken(self): raise ValueError('x' * 5000 + ' the end')\n"
        "platform.Platform.create_client = broken\njax.devices('vulkan')\n"
    )
    done = run_python(source)
    assert "ValueError: " + "x" * 5000 + " the end" in done.stderr
    assert "platform vulkan: " in done.stderr


def _damage(folder: Path) -> int:
    """Overwrite the middle of every file with noise, and cut every second one; return how many there are."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    for number, file in enumerate(files):
        data = bytearray(file.read_bytes())
        middle = len(data) // 2
        data[middle : middle + 64] = os.urandom(len(data[middle : middle + 64]))
        file.write_bytes(data[: middle + 8] if number % 2 else data)
    return len(files)


@pytest.mark.parametrize("kind", ["programs", "pipelines"])
def test_damaged_cache_is_ignored_and_written_anew(tmp_path: Path, kind: str) -> None:
    options = {"JAX_PLATFORMS": "vulkan", "QGA_CACHE_DIR": str(tmp_path)}
    first = run_python(SUM, **options)
    if first.returncode != 0 and "Vulkan needs a driver" in first.stderr:
        pytest.skip("no driver")
    assert first.returncode == 0, first.stderr
    assert _damage(tmp_path / kind) > 0
    damaged = {file: file.read_bytes() for file in (tmp_path / kind).rglob("*") if file.is_file()}
    again = run_python(SUM, **options)
    assert (again.returncode, again.stdout, again.stderr) == (0, first.stdout, "")
    assert all(file.read_bytes() != data for file, data in damaged.items())


@pytest.mark.parametrize("content", ["a file in its place", "a folder without permission"])
def test_cache_that_cannot_be_written_is_done_without(tmp_path: Path, content: str) -> None:
    place = tmp_path / "cache"
    if content == "a file in its place":
        place.write_text("")
    else:
        place.mkdir(mode=0o500)
    done = run_python(SUM, JAX_PLATFORMS="vulkan", QGA_CACHE_DIR=str(place))
    assert (done.returncode, done.stderr) == (0, "")


def test_damaged_program_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "program"
    file.write_bytes(b"not a program")
    read = last_error(run_python("import sys, lowering\nlowering.load(sys.argv[1])\n", str(file)))
    assert read["rule"].startswith("lowering.errors.GraphError: ")


@pytest.mark.slow
def test_interrupted_run_says_how_to_go_on_and_does(tmp_path: Path) -> None:
    text, out = tmp_path / "text.txt", tmp_path / "out"
    text.write_text("the quick brown fox jumps over the lazy dog. " * 60)
    arguments = ["run", str(text), "--backend", "cpu", "--out", str(out)]
    process = _start(*arguments, "--steps", "100000")
    _wait_for_steps(process, out)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    after = re.search(r"interrupted after step (\d+); go on with:\n  (.+)", said)
    assert after is not None, said
    assert f"--resume {out}" in after[2]
    assert "Traceback" not in said
    resumed = _start(*arguments, "--steps", str(int(after[1]) + 3), "--resume", str(out))
    _, said = resumed.communicate(timeout=240)
    assert resumed.returncode == 0, said
    assert (out / "report.html").exists()


def _start(*arguments: str) -> subprocess.Popen[str]:
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "qga.app", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    )


def _wait_for_steps(process: subprocess.Popen[str], out: Path) -> None:
    """Wait until the first checkpoint is there, or the process ends."""
    deadline = time.monotonic() + 200
    while not list(out.glob("checkpoint/*.safetensors")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.2)
