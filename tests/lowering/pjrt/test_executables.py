"""Programs: running, donation, analysis, serialization, export."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

PROGRAM = """
import warnings
warnings.simplefilter("error")
from jax.experimental import serialize_executable
from jax.sharding import Mesh, NamedSharding, PartitionSpec
device = start()
put = lambda *shape: jax.device_put(np.ones(shape, np.float32), device)
f = jax.jit(lambda a: jnp.tanh(a) + 1)
x = put(3)
value = [float(v) for v in np.tanh(np.ones(3, np.float32)) + 1]
close = lambda got: bool(np.allclose(np.asarray(got), value, rtol=1e-6))
facts["jit"] = close(f(x))
facts["grad"] = bool(np.allclose(jax.grad(lambda a: jnp.tanh(a).sum())(x), 1 - np.tanh(1) ** 2, rtol=1e-5))
facts["loop"] = np.asarray(jax.jit(lambda a: jax.lax.fori_loop(0, 5, lambda i, c: c * 2, a))(x)).tolist()
facts["no result"] = str(jax.jit(lambda a: ())(x))
with jax.default_device(device):
    facts["no argument"] = np.asarray(jax.jit(lambda: jnp.arange(3))()).tolist()
compiled = f.lower(x).compile()
facts["cost"] = compiled.cost_analysis()
memory = compiled.memory_analysis()
facts["memory"] = [getattr(memory, f"{what}_size_in_bytes") for what in ("argument", "output", "alias", "temp")]
facts["text"] = compiled.as_text()
def fingerprint(constant):
    made = jax.jit(lambda a: jnp.tanh(a) + constant).lower(x).compile()
    return made.runtime_executable().fingerprint.decode()
facts["fingerprint"], facts["fingerprint again"], facts["fingerprint other"] = map(fingerprint, (1, 1, 2))
loaded = serialize_executable.deserialize_and_load(
    *serialize_executable.serialize(compiled), backend="vulkan", execution_devices=[device]
)
facts["loaded"] = close(loaded(x))
mesh = NamedSharding(Mesh(np.array([device]), ("i",)), PartitionSpec("i"))
facts["mesh of one"] = np.asarray(jax.jit(lambda a: a + 1, in_shardings=mesh)(np.ones(4, np.float32))).tolist()
g = jax.jit(lambda a, b: (a * 2, b.sum()), donate_argnums=0)
a = put(3)
before = engines[0].device.live
result = g(a, x)
facts["donated is deleted"] = a.is_deleted()
facts["kept is alive"] = not x.is_deleted()
facts["donated result"] = np.asarray(result[0]).tolist()
facts["buffers added by donation"] = engines[0].device.live - before
facts["use after donation"] = outcome(lambda: a + 1)
facts["not donated"] = jax.jit(lambda a: a * 2)(x) is not None and not x.is_deleted()
facts["twice in one call"] = outcome(lambda: jax.jit(lambda a, b: a + b, donate_argnums=0)(x, x))
facts["callback"] = outcome(lambda: jax.jit(lambda a: jax.pure_callback(lambda v: v, x, a))(x))
facts["eigh"] = outcome(lambda: jnp.linalg.eigh(put(3, 3)))
facts["missing op"] = outcome(lambda: jnp.sort(x))
from jax import export
exported = export.export(f, platforms=["vulkan"])(x)
facts["exported"] = close(jax.jit(exported.call)(x))
try:
    import flatbuffers
    facts["exported and read"] = close(jax.jit(export.deserialize(exported.serialize()).call)(x))
except ImportError:
    facts["exported and read"] = "no flatbuffers"
"""


@pytest.fixture(scope="module")
def facts(run_facts: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    return run_facts(PROGRAM)


@pytest.mark.parametrize("what", ["jit", "grad", "loaded", "exported", "not donated", "kept is alive"])
def test_program_gives_the_values_of_numpy(facts: dict[str, Any], what: str) -> None:
    assert facts[what] is True


def test_loop_runs(facts: dict[str, Any]) -> None:
    assert facts["loop"] == [32, 32, 32]


def test_program_without_result_or_argument_runs(facts: dict[str, Any]) -> None:
    assert facts["no result"] == "()"
    assert facts["no argument"] == [0, 1, 2]


def test_mesh_of_one_device_is_identity(facts: dict[str, Any]) -> None:
    assert facts["mesh of one"] == [2, 2, 2, 2]


def test_export_survives_serialization(facts: dict[str, Any]) -> None:
    if facts["exported and read"] == "no flatbuffers":
        pytest.skip("jax.export writes files only where flatbuffers is installed")
    assert facts["exported and read"] is True


def test_cost_analysis_is_the_compilers(facts: dict[str, Any]) -> None:
    assert facts["cost"] == {"flops": 12.0, "bytes accessed": 34.0, "temporary bytes": 56.0}


def test_memory_analysis_counts_arguments_outputs_and_temporaries(facts: dict[str, Any]) -> None:
    assert facts["memory"] == [12, 12, 0, 56]


def test_compiled_text_shows_the_module(facts: dict[str, Any]) -> None:
    assert "tanh" in facts["text"]


def test_fingerprint_follows_the_program(facts: dict[str, Any]) -> None:
    assert facts["fingerprint"] == facts["fingerprint again"]
    assert facts["fingerprint"] != facts["fingerprint other"]


def test_donation_deletes_the_argument(facts: dict[str, Any]) -> None:
    assert facts["donated is deleted"] is True
    assert "deleted" in facts["use after donation"]


def test_donation_takes_over_the_memory(facts: dict[str, Any]) -> None:
    assert facts["donated result"] == [2, 2, 2]
    assert facts["buffers added by donation"] == 1


def test_donating_an_argument_used_twice_is_refused(facts: dict[str, Any]) -> None:
    lines = facts["twice in one call"].splitlines()
    assert lines[0].endswith("INVALID_ARGUMENT: platform vulkan: a donated array must be passed once.")
    assert lines[1].startswith("  got:  one array in several of the arguments [0, 1] of jit")


@pytest.mark.parametrize("name", ["callback", "eigh"])
def test_what_jax_would_refuse_is_refused_by_the_engine(facts: dict[str, Any], name: str) -> None:
    assert facts[name].startswith("JaxRuntimeError: UNIMPLEMENTED: double: every operation must be supported.")
    assert "custom_call" in facts[name]


def test_missing_operation_keeps_its_four_lines(facts: dict[str, Any]) -> None:
    lines = facts["missing op"].splitlines()
    assert lines[0] == "JaxRuntimeError: UNIMPLEMENTED: double: every operation must be supported."
    assert [line.split(":")[0] for line in lines[1:]] == ["  got", "  want", "  fix"]
