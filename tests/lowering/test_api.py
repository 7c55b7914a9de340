"""From a function to a device in stages: texts, files, the cache, and what is said to wrong arguments."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.extend.mlir
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.mlir.dialects import stablehlo

import lowering
from lowering import api
from lowering.api import STAGES, compile_module, lower
from lowering.cache import DiskCache
from lowering.errors import GraphError, InputError, UnsupportedError
from lowering.executable import Executable
from lowering.program import Program
from lowering.runtime import Device

from .plan.support import machine
from .programs import lowered as module_of
from .programs import normal

X, Y = normal(4, 6), normal(4, 6, seed=1)
LAVAPIPE = machine("lavapipe22")


def centred(x: Any, y: Any) -> Any:
    return x - x.mean(1, keepdims=True), (x * y).sum()


def module_bytes(function: Any, *arguments: Any) -> bytes:
    module = module_of(function, *arguments)
    return jax.extend.mlir.serialize_portable_artifact(module, stablehlo.get_current_version())


# --- stages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("stablehlo", "stablehlo.reduce"),
        ("graph", "reduce("),
        ("schedule", "schedule=<rows"),
        ("spirv", "OpEntryPoint"),
    ],
)
def test_as_text_shows_each_stage(stage: str, expected: str) -> None:
    assert expected in lower(centred)(X, Y).as_text(stage, LAVAPIPE)


def test_as_text_refuses_another_stage() -> None:
    with pytest.raises(InputError) as caught:
        lower(centred)(X, Y).as_text("ptx")
    assert str(caught.value) == (
        "as_text: the stage must be one the compiler has.\n"
        "  got:  'ptx'\n"
        f"  want: {', '.join(STAGES)}\n"
        "  fix:  name one of these stages."
    )


def test_lower_takes_shapes_instead_of_arrays() -> None:
    shape = jax.ShapeDtypeStruct((3,), jnp.float32)
    assert "f32[3]" in lower(jnp.sin)(shape).as_text("graph")


def test_lower_takes_jitted_functions_and_options() -> None:
    scaled = lambda x, n: x * n  # noqa: E731
    plain = lower(scaled, static_argnums=1)(X, 3).as_text("graph")
    assert plain == lower(jax.jit(scaled, static_argnums=1))(X, 3).as_text("graph")


def test_options_reach_a_function_that_is_jitted_already() -> None:
    donating = lower(jax.jit(lambda x: x * 2), donate_argnums=0)(X)
    assert donating.program(LAVAPIPE).aliases == ((0, 0),)


def test_unused_arguments_are_still_arguments() -> None:
    program = lower(lambda x, y: x * 2)(X, Y).program(LAVAPIPE)
    assert len(program.inputs) == 2


def test_cost_counts_the_dispatches() -> None:
    assert lower(jnp.sin)(X).cost(LAVAPIPE)["dispatches"] == 1


def test_lowering_refuses_unknown_operations_with_their_lines() -> None:
    with pytest.raises(UnsupportedError, match=r"(?s)got:  operation sort.*test_api\.py"):
        lower(lambda x: jnp.sort(x))(X).program(LAVAPIPE)


def test_compiling_refuses_dtypes_that_the_device_lacks(capabilities: Any) -> None:
    bare = replace(capabilities, has_i64=False, has_f64=False, storage_16=False)
    with pytest.raises(UnsupportedError) as caught:
        lower(lambda x: x.astype(jnp.float16).sum(0))(X).program(bare)
    text = str(caught.value)
    assert "f16" in text
    assert "test_api.py" in text
    assert capabilities.device_name in text


# --- executables ----------------------------------------------------------------------------------------------------


def test_compile_computes(device: Device) -> None:
    first, second = lower(centred)(X, Y).compile(device)(X, Y)
    np.testing.assert_allclose(first, X - X.mean(1, keepdims=True), atol=1e-6)
    np.testing.assert_allclose(second, (X * Y).sum(), rtol=1e-5)


def test_a_single_result_comes_alone(device: Device) -> None:
    assert isinstance(lower(jnp.sin)(X).compile(device)(X), np.ndarray)


def test_arrays_need_not_be_contiguous(device: Device) -> None:
    wide = np.asfortranarray(np.repeat(X, 2, axis=1))
    np.testing.assert_array_equal(lower(lambda x: x + 1)(X).compile(device)(wide[:, ::2]), X + 1)


def test_numbers_are_arrays_of_no_dimension(device: Device) -> None:
    executable = lower(lambda n: n + 1)(np.float32(1)).compile(device)
    assert executable(np.float32(4)) == 5


@pytest.mark.parametrize(
    ("given", "got"),
    [
        ((X,), "f32[4,6]"),
        ((X, Y, Y), "f32[4,6], f32[4,6], f32[4,6]"),
        ((X, Y.T), "f32[4,6], f32[6,4]"),
        ((X, Y.astype(np.float64)), "f32[4,6], f64[4,6]"),
        ((X, 1.0), "f32[4,6], f64[]"),
        ((), "no arguments"),
    ],
)
def test_wrong_arguments_are_refused_by_type(given: tuple[Any, ...], got: str, device: Device) -> None:
    with pytest.raises(InputError) as caught:
        lower(centred)(X, Y).compile(device)(*given)
    assert str(caught.value) == (
        "jit_centred: arguments must have the shapes and dtypes it was compiled for.\n"
        f"  got:  {got}\n"
        "  want: f32[4,6], f32[4,6]\n"
        "  fix:  convert the arguments, or compile for these shapes."
    )


def test_an_executable_knows_its_types(device: Device) -> None:
    executable = lower(centred, donate_argnums=0)(X, Y).compile(device)
    assert [kind.shape for kind in executable.input_types] == [(4, 6), (4, 6)]
    assert [kind.dtype for kind in executable.output_types] == ["f32", "f32"]
    assert executable.aliases == ((0, 0),)
    assert executable.name == "jit_centred"
    assert executable.cost()["argument bytes"] == 192


# --- files ----------------------------------------------------------------------------------------------------------

RUN_FILE = """
import sys
import numpy as np
import lowering
program = lowering.load(sys.argv[1])
x = np.load(sys.argv[2])
np.save(sys.argv[3], program(x))
loaded = [name for name in ("jax", "jaxlib", "lowering.stablehlo", "lowering.codegen") if name in sys.modules]
program.device.close()
sys.exit(f"imported {loaded}" if loaded else 0)
"""


@pytest.mark.vulkan_device
def test_a_saved_program_runs_without_jax(tmp_path: Path, device: Device) -> None:
    lower(jax.nn.softmax)(X).save(tmp_path / "program", device.capabilities)
    np.save(tmp_path / "x.npy", X)
    command = [sys.executable, "-c", RUN_FILE, *(str(tmp_path / name) for name in ("program", "x.npy", "y.npy"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), jax.nn.softmax(X), rtol=1e-5)


def test_an_executable_saves_what_it_runs(tmp_path: Path, device: Device) -> None:
    executable = lower(centred)(X, Y).compile(device)
    executable.save(tmp_path / "program")
    again = lowering.load(tmp_path / "program", device)
    for got, want in zip(again(X, Y), executable(X, Y), strict=True):
        np.testing.assert_array_equal(got, want)


def test_load_refuses_a_file_that_is_no_program(tmp_path: Path, device: Device) -> None:
    (tmp_path / "program").write_bytes(b"nothing")
    with pytest.raises(GraphError, match="load: a program must come from a file that `save` wrote"):
        lowering.load(tmp_path / "program", device)


def test_public_names_are_imported_on_demand() -> None:
    for name in lowering.__all__:
        assert getattr(lowering, name).__module__.startswith("lowering.")
    with pytest.raises(AttributeError, match="module 'lowering' has no attribute 'lift'"):
        _ = lowering.lift


# --- the cache of programs ------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> DiskCache:
    return DiskCache("programs", folder=tmp_path)


def entries(store: DiskCache) -> list[Path]:
    return sorted(path for path in store.folder.rglob("*") if path.is_file())


def program_of(module: bytes, device: Device, store: DiskCache) -> Program:
    executable = compile_module(module, device, store=store)
    assert isinstance(executable, Executable)
    return executable.program


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Count the graphs that are really compiled."""
    compiled: list[str] = []
    original = api.compiler.compile_graph

    def compile_graph(graph: Any, capabilities: Any, **options: Any) -> Any:
        compiled.append(graph.name)
        return original(graph, capabilities, **options)

    monkeypatch.setattr(api.compiler, "compile_graph", compile_graph)
    return compiled


def test_a_module_is_compiled_once(store: DiskCache, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = counted(monkeypatch)
    module = module_bytes(centred, X, Y)
    first, second = (program_of(module, device, store) for _ in range(2))
    assert len(compiled) == 1
    assert first == second


def test_a_corrupt_entry_is_compiled_anew(store: DiskCache, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    module = module_bytes(centred, X, Y)
    program = program_of(module, device, store)
    (entry,) = entries(store)
    entry.write_bytes(entry.read_bytes()[:-3])
    compiled = counted(monkeypatch)
    assert program_of(module, device, store) == program
    assert len(compiled) == 1
    assert program_of(module, device, store) == program
    assert len(compiled) == 1


def test_an_entry_of_another_format_is_compiled_anew(
    store: DiskCache, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = module_bytes(centred, X, Y)
    monkeypatch.setattr(api, "encode", lambda program: b"QGAPROG0 of a former version")
    compile_module(module, device, store=store)
    compiled = counted(monkeypatch)
    compile_module(module, device, store=store)
    assert len(compiled) == 1


def test_another_compiler_makes_another_entry(
    store: DiskCache, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = module_bytes(centred, X, Y)
    compile_module(module, device, store=store)
    monkeypatch.setattr(api, "_compiler_digest", lambda: b"another compiler")
    compile_module(module, device, store=store)
    assert len(entries(store)) == 2


def test_the_digest_covers_code_and_tuning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rooms = tmp_path / "lowering", tmp_path / "shaders"
    for room in rooms:
        room.mkdir()
    monkeypatch.setattr(api, "__file__", str(tmp_path / "lowering" / "api.py"))
    found: set[bytes] = set()
    for place, text in (
        ("lowering/a.py", "1"),
        ("lowering/a.py", "2"),
        ("shaders/t.toml", "1"),
        ("shaders/t.toml", "2"),
    ):
        (tmp_path / place).write_text(text)
        api._compiler_digest.cache_clear()
        found.add(api._compiler_digest())
    api._compiler_digest.cache_clear()
    assert len(found) == 4


def test_another_module_or_device_makes_another_entry(store: DiskCache, device: Device) -> None:
    compile_module(module_bytes(centred, X, Y), device, store=store)
    compile_module(module_bytes(centred, X.T, Y.T), device, store=store)
    assert len(entries(store)) == 2


# --- nested calls ---------------------------------------------------------------------------------------------------


def scaled(parameters: dict[str, Any], x: Any, *, scale: Any = 1.0) -> dict[str, Any]:
    return {"product": parameters["weights"] @ x * scale, "bias": parameters["bias"]}


PARAMETERS = {"weights": np.ones((3, 6), np.float32), "bias": np.arange(3, dtype=np.float32)}


def test_a_compiled_function_is_called_as_the_function_was(device: Device) -> None:
    compiled = lower(scaled)(PARAMETERS, X[0], scale=2.0).compile(device)
    results = compiled(PARAMETERS, X[0], scale=3.0)
    np.testing.assert_allclose(results["product"], np.full(3, 3 * X[0].sum()), rtol=1e-5)
    np.testing.assert_array_equal(results["bias"], PARAMETERS["bias"])


def test_arguments_that_jit_dropped_may_be_passed(device: Device) -> None:
    compiled = lower(jax.jit(lambda unused, x: x + 1))(Y, X).compile(device)
    np.testing.assert_array_equal(compiled(Y, X), X + 1)


def test_differently_nested_arguments_are_refused(device: Device) -> None:
    compiled = lower(scaled)(PARAMETERS, X[0]).compile(device)
    with pytest.raises(InputError) as caught:
        compiled([PARAMETERS["bias"], PARAMETERS["weights"]], X[0])
    text = str(caught.value)
    assert text.startswith("jit_scaled: arguments must be nested as those it was compiled for.")
    assert "want: PyTreeDef((({'bias': *, 'weights': *}, *), {}))" in text
