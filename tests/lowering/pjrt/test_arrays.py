"""Arrays in and out: dtypes, shapes, strides, copies, deletion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lowering.dtypes import NUMPY

PROGRAM = """
jax.config.update("jax_enable_x64", True)
import ml_dtypes
from lowering.dtypes import NUMPY
from lowering.pjrt import _native
device = start()
def returns(array):
    back = np.asarray(jax.device_put(array, device))
    return bool(back.dtype == array.dtype and back.shape == array.shape and (back == array).all())
for name, dtype in NUMPY.items():
    facts["dtype " + name] = returns(np.arange(-3, 9).astype(dtype).reshape(3, 4))
base = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
hosts = {
    "scalar": np.float32(3), "empty": np.ones((0,), np.float32), "empty inside": np.ones((3, 0, 2), np.int8),
    "reversed": base[::-1], "reversed and skipped": base[:, ::-1, ::2], "transposed": base.T,
    "column-major": np.asfortranarray(base), "broadcast": np.broadcast_to(np.int32(7), (2, 3)),
    "one element": np.ones((1, 1)),
}
for name, host in hosts.items():
    facts[name] = returns(np.asarray(host))
host = np.arange(4.0)
x = jax.device_put(host, device)
host[:] = 9
facts["host memory is read at once"] = np.asarray(x).tolist()
facts["f8"] = outcome(lambda: jax.device_put(np.ones(3, ml_dtypes.float8_e4m3fn), device))
copied = jax.device_put(x, device, may_alias=False)
facts["copy has memory of its own"] = copied.unsafe_buffer_pointer() != x.unsafe_buffer_pointer()
facts["copy is equal"] = np.asarray(copied).tolist() == np.asarray(x).tolist()
facts["to cpu"] = str(jax.device_put(x, jax.devices("cpu")[0]).devices())
facts["from cpu"] = str(jax.device_put(jnp.ones(3), device).devices())
facts["layout"] = str(jax.device_put(base, device).format.layout)
facts["size on device"] = x.on_device_size_in_bytes()
x.delete()
facts["deleted"] = x.is_deleted()
facts["use after delete"] = outcome(lambda: np.asarray(x))
large = jax.device_put(np.arange(1 << 20, dtype=np.float32).reshape(1024, 1024), device)
facts["large"] = bool((np.asarray(large) == np.arange(1 << 20).reshape(1024, 1024)).all())
large.copy_to_host_async()
large.delete()
del x, copied, large
deadline = time.time() + 5
while engines[0].device.live and time.time() < deadline:
    time.sleep(0.01)
facts["live after idling"] = engines[0].device.live
facts["statistics"] = device.memory_stats()
facts["kind"], facts["text"] = device.device_kind, str(device)
facts["attributes"] = device.maker, device.subgroup_size, hasattr(device, "size_of_subgroups")
facts["version"] = device.client.platform_version
facts["default"] = jax.devices()[0].platform
facts["memory"] = device.default_memory().kind
"""


@pytest.fixture(scope="module")
def facts(run_facts: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    return run_facts(PROGRAM)


@pytest.mark.parametrize("dtype", NUMPY)
def test_put_and_get_keep_every_dtype(facts: dict[str, Any], dtype: str) -> None:
    assert facts[f"dtype {dtype}"] is True


@pytest.mark.parametrize(
    "host",
    [
        "scalar",
        "empty",
        "empty inside",
        "reversed",
        "reversed and skipped",
        "transposed",
        "column-major",
        "broadcast",
        "one element",
        "large",
        "copy is equal",
        "copy has memory of its own",
    ],
)
def test_put_and_get_keep_every_host_array(facts: dict[str, Any], host: str) -> None:
    assert facts[host] is True


def test_put_reads_host_memory_before_it_returns(facts: dict[str, Any]) -> None:
    assert facts["host memory is read at once"] == [0, 1, 2, 3]


def test_put_of_unknown_dtype_says_what_is_known(facts: dict[str, Any]) -> None:
    assert facts["f8"].splitlines() == [
        "JaxRuntimeError: UNIMPLEMENTED: platform vulkan: every array must have a dtype that the compiler knows.",
        "  got:  f8E4M3FN[3]",
        "  want: bool, i8, i16, i32, i64, u8, u16, u32, u64, f16, f32, f64, bf16, c64, c128",
        "  fix:  convert the array with astype before it goes to the device.",
    ]


def test_arrays_move_between_platforms(facts: dict[str, Any]) -> None:
    assert "Cpu" in facts["to cpu"]
    assert "Vulkan" in facts["from cpu"]


def test_layout_is_row_major(facts: dict[str, Any]) -> None:
    assert "major_to_minor=(0, 1, 2), tiling=()" in facts["layout"]


def test_size_is_known(facts: dict[str, Any]) -> None:
    assert facts["size on device"] == 32


def test_deleted_array_refuses_use(facts: dict[str, Any]) -> None:
    assert facts["deleted"] is True
    assert "deleted" in facts["use after delete"]


def test_memory_is_freed_while_nothing_calls(facts: dict[str, Any]) -> None:
    assert facts["live after idling"] == 0


def test_device_names_itself(facts: dict[str, Any]) -> None:
    assert facts["kind"] == "NumPy double"
    assert facts["text"] == "VulkanDevice(id=0, NumPy double)"
    assert facts["version"].endswith("numpy double 1")
    assert facts["memory"] == "device"


def test_attributes_of_the_engine_are_those_of_the_device(facts: dict[str, Any]) -> None:
    assert facts["attributes"] == ["tests", 7, False]


def test_statistics_reach_the_user(facts: dict[str, Any]) -> None:
    assert facts["statistics"]["bytes_in_use"] == 0
    assert facts["statistics"]["peak_bytes_in_use"] == 4096
    assert facts["statistics"]["bytes_limit"] == 1 << 32


def test_cpu_stays_the_default(facts: dict[str, Any]) -> None:
    assert facts["default"] == "cpu"
