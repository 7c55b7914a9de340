"""How the platform appears, and what it says where it cannot start."""

from __future__ import annotations

from collections.abc import Callable
from subprocess import CompletedProcess
from typing import Any

CPU_PROGRAM = """
import sys
from lowering import pjrt
pjrt.initialize()
import jax, jax.numpy as jnp
print(jax.devices()[0].platform, float(jnp.ones(3).sum()))
"""
ASK = CPU_PROGRAM + "jax.devices('vulkan')"
NO_DRIVER = {"VK_DRIVER_FILES": "/nonexistent/icd.json"}
NO_EXTENSION = "import sys; sys.modules['lowering.pjrt._native'] = None\n"
Run = Callable[..., CompletedProcess[str]]


def message_of(done: CompletedProcess[str]) -> list[str]:
    """Return the lines from the RuntimeError on."""
    lines = done.stderr.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("RuntimeError"))
    return lines[first:]


def test_absent_driver_is_silent_for_cpu_programs(run_python: Run) -> None:
    done = run_python(CPU_PROGRAM, **NO_DRIVER)
    assert (done.returncode, done.stdout, done.stderr) == (0, "cpu 3.0\n", "")


def test_absent_driver_is_explained_to_who_asks_for_a_device(run_python: Run) -> None:
    lines = message_of(run_python(ASK, **NO_DRIVER))
    assert lines[0] == "RuntimeError: Backend 'vulkan' failed to initialize: Vulkan needs a driver."
    assert [line.split(":")[0] for line in lines[1:4]] == ["  got", "  want", "  fix"]


def test_absent_driver_is_explained_to_who_sets_the_platform(run_python: Run) -> None:
    lines = message_of(run_python(CPU_PROGRAM, JAX_PLATFORMS="vulkan", **NO_DRIVER))
    assert lines[0] == "RuntimeError: Unable to initialize backend 'vulkan': Vulkan needs a driver."
    assert lines[3].startswith("  fix:  install your GPU's driver, or mesa-vulkan-drivers")


def test_absent_extension_is_silent_for_cpu_programs(run_python: Run) -> None:
    done = run_python(NO_EXTENSION + CPU_PROGRAM)
    assert (done.returncode, done.stdout, done.stderr) == (0, "cpu 3.0\n", "")


def test_absent_extension_is_explained_to_who_sets_the_platform(run_python: Run) -> None:
    lines = message_of(run_python(NO_EXTENSION + CPU_PROGRAM, JAX_PLATFORMS="vulkan"))
    assert lines[0].endswith("platform vulkan: the native part of the plugin must be there.")
    assert "pip install --force-reinstall --no-deps qga" in lines[3]
    assert "lowering.lower works without it" in lines[3]


def test_lowering_works_without_the_extension(run_python: Run) -> None:
    source = "from lowering import lower\nimport jax, jax.numpy as jnp\n"
    source += "print('tanh' in lower(jnp.tanh)(jax.ShapeDtypeStruct((3,), 'float32')).as_text('graph'))"
    done = run_python(NO_EXTENSION + source)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_registering_imports_neither_runtime_nor_compiler(run_python: Run) -> None:
    source = "import sys\nfrom lowering import pjrt\npjrt.initialize()\n"
    source += "print([name for name in sys.modules if name.startswith(('lowering.', 'vulkan'))])"
    done = run_python(source)
    assert done.stdout == "['lowering.errors', 'lowering.pjrt.registration', 'lowering.pjrt', 'lowering.compat']\n", (
        done.stderr
    )


def test_first_registration_stays(run_facts: Callable[..., dict[str, Any]]) -> None:
    source = "device = start()\npjrt.initialize()\nfacts['kind'] = jax.devices('vulkan')[0].device_kind"
    assert run_facts(source) == {"kind": "NumPy double"}


def test_platform_starts_without_a_warning(run_program: Run) -> None:
    done = run_program("import warnings; warnings.simplefilter('error'); print(start().platform)")
    assert (done.returncode, done.stdout, done.stderr) == (0, "vulkan\n", "")


def test_platform_variable_makes_it_the_default(run_facts: Callable[..., dict[str, Any]]) -> None:
    source = "device = start()\nfacts['default'] = jax.devices()[0].platform\nfacts['sum'] = float(jnp.ones(3).sum())"
    assert run_facts(source, JAX_PLATFORMS="vulkan") == {"default": "vulkan", "sum": 3.0}
