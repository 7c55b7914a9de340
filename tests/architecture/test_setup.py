"""`.ci/setup` on machines that are not this one: each test makes a PATH of the programs of its case, and no others."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLAIN = ("bash", "cat", "dirname", "env", "head", "id", "rm", "seq", "sha256sum", "cut", "touch")


class Machine:
    """A folder of programs that stands for a machine's PATH, and what its apt-get was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "apt.log"
        for name in PLAIN:
            found = shutil.which(name)
            assert found is not None, name
            (folder / name).symlink_to(found)

    def add(self, name: str, script: str) -> None:
        """Put a program on the machine."""
        file = self.folder / name
        file.unlink(missing_ok=True)
        file.write_text(f"#!{self.folder}/bash\n{script}\n")
        file.chmod(0o755)

    def add_apt(self, status: int = 0) -> None:
        """Put an apt-get there that notes what it is asked and ends with `status`."""
        self.add("apt-get", f'echo "$*" >>{self.log}\nexit {status}')

    def run(self, call: str) -> tuple[int, str, str]:
        """Call a function of the set-up; return its status, what it said, and what apt-get was asked."""
        result = subprocess.run(
            [str(self.folder / "bash"), "-c", f"source {ROOT}/.ci/setup; set +e; python=python3; {call}"],
            env={"PATH": str(self.folder)}, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return result.returncode, result.stderr, self.log.read_text() if self.log.exists() else ""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    made.add("id", "echo 0")
    return made


def test_existing_driver_is_used(machine: Machine) -> None:
    machine.add_apt()
    machine.add("python3", "exit 0")
    assert machine.run("set_up_driver") == (0, "", "")


def test_missing_driver_is_installed_as_root(machine: Machine) -> None:
    machine.add_apt()
    machine.add("python3", f"[ -f {machine.log} ]")
    status, said, asked = machine.run("set_up_driver")
    assert status == 0
    assert "mesa-vulkan-drivers libvulkan1" in asked
    assert "no Vulkan driver" not in said


def test_missing_driver_without_root_names_the_command(machine: Machine) -> None:
    machine.add_apt()
    machine.add("id", "echo 1000")
    machine.add("python3", "exit 1")
    status, said, asked = machine.run("set_up_driver")
    assert status == 0
    assert "run: sudo apt-get install mesa-vulkan-drivers libvulkan1" in said
    assert "everything on the CPU works" in said
    assert asked == ""


def test_missing_driver_without_apt_names_the_packages(machine: Machine) -> None:
    machine.add("python3", "exit 1")
    status, said, _ = machine.run("set_up_driver")
    assert status == 0
    assert "on Debian or Ubuntu it is in: mesa-vulkan-drivers libvulkan1" in said


def test_sudo_is_used_only_where_it_asks_nothing(machine: Machine) -> None:
    machine.add_apt()
    machine.add("id", "echo 1000")
    machine.add("sudo", 'shift; "$@"')
    machine.add("true", "exit 0")
    machine.add("python3", f"[ -f {machine.log} ]")
    assert "mesa-vulkan-drivers" in machine.run("set_up_driver")[2]
    machine.log.unlink()
    machine.add("sudo", "exit 1")
    assert machine.run("set_up_driver")[2] == ""


def test_failing_apt_says_what_to_install(machine: Machine) -> None:
    machine.add_apt(status=100)
    machine.add("python3", "exit 1")
    status, said, asked = machine.run("set_up_driver")
    assert status == 0
    assert "could not install mesa-vulkan-drivers libvulkan1" in said
    assert "update" in asked


def test_existing_compiler_is_used(machine: Machine) -> None:
    machine.add_apt()
    machine.add("cc", "exit 0")
    machine.add("python3", "exit 0")
    assert machine.run("set_up_compiler") == (0, "", "")


def test_missing_compiler_leaves_the_platform_off(machine: Machine) -> None:
    machine.add("python3", "echo 11")
    status, said, _ = machine.run("set_up_compiler")
    assert status == 0
    assert "gcc libc6-dev libpython3.11-dev" in said
    assert "stays off" in said


def test_old_python_is_refused_with_the_fix(machine: Machine) -> None:
    machine.add("python3", "exit 1")
    status, said, _ = machine.run("find_python")
    assert status == 1
    assert "no Python from 3.11 to 3.14 found" in said
    assert "apt-get install python3 python3-venv" in said


def test_newer_python_beside_an_old_one_is_found(machine: Machine) -> None:
    machine.add("python3", "exit 1")
    machine.add("python3.12", "exit 0")
    assert machine.run("find_python")[0] == 0


def test_missing_venv_module_without_root_names_the_command(machine: Machine, tmp_path: Path) -> None:
    machine.add_apt()
    machine.add("id", "echo 1000")
    machine.add("python3", '[ "$2" = "import ensurepip, venv" ] && exit 1; echo 11')
    status, said, _ = machine.run(f"venv={tmp_path}/venv; make_venv")
    assert status == 1
    assert "run: sudo apt-get install python3.11-venv" in said
