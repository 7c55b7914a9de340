"""Plans and choices from records, without a device."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lowering.errors import DeviceError, InputError
from lowering.runtime.device_plan import missing_baseline, plan_device
from lowering.runtime.facts import DeviceFacts, MemoryHeap, MemoryType, QueueFamily
from lowering.runtime.features import BASELINE, CORE, VULKAN_12
from lowering.runtime.select import DeviceRecord, choose_device
from lowering.runtime.settings import Settings, settings_from_environment

LOCAL, VISIBLE, CACHED = 1, 2 | 4, 8


def _facts(**changes: object) -> DeviceFacts:
    """A discrete card: video memory, host memory, and a window of video memory the host sees."""
    facts = DeviceFacts(
        name="card",
        device_type="discrete",
        vendor_id=1,
        device_id=2,
        driver_name="driver",
        driver_version="1.2.3",
        api_version=(1, 3, 200),
        uuid="u",
        cache_uuid="c",
        raw_driver_version=7,
        extensions=frozenset(),
        features={struct: frozenset(names) for struct, names in BASELINE.items()},
        limits={},
        families=(QueueFamily(3, 1, 64), QueueFamily(2, 4, 64), QueueFamily(4, 1, 0)),
        memory_types=(
            MemoryType(LOCAL, 0),
            MemoryType(VISIBLE, 1),
            MemoryType(VISIBLE | CACHED, 1),
            MemoryType(LOCAL | VISIBLE, 2),
        ),
        heaps=(MemoryHeap(8 << 30, True), MemoryHeap(16 << 30, False), MemoryHeap(1 << 28, True)),
    )
    return replace(facts, **changes)  # pyright: ignore[reportArgumentType]


def test_plan_of_a_discrete_card_stages() -> None:
    plan = plan_device(_facts())
    assert (plan.array_type, plan.upload_type, plan.download_type, plan.table_type) == (0, 1, 2, 3)
    assert not plan.is_direct


def test_plan_prefers_a_compute_family_without_graphics() -> None:
    assert plan_device(_facts()).family == 1


def test_plan_of_a_unified_device_is_direct() -> None:
    types = (MemoryType(LOCAL | VISIBLE, 0), MemoryType(LOCAL | VISIBLE | CACHED, 0))
    plan = plan_device(_facts(device_type="integrated", memory_types=types, heaps=(MemoryHeap(1 << 34, True),)))
    assert plan.is_direct
    assert plan.array_type == 1


def test_plan_never_picks_uncached_memory() -> None:
    types = (MemoryType(LOCAL | VISIBLE | 0x40 | 0x80, 0), MemoryType(LOCAL | VISIBLE, 0))
    plan = plan_device(_facts(device_type="cpu", memory_types=types, heaps=(MemoryHeap(1 << 34, True),)))
    assert plan.array_type == 1


def test_plan_turns_on_what_is_offered_and_nothing_else() -> None:
    features = {**_facts().features, CORE: frozenset({"shaderFloat64", "robustBufferAccess"})}
    assert plan_device(_facts(features=features)).features[CORE] == ("shaderFloat64",)


def test_plan_takes_an_extension_only_with_the_one_it_needs() -> None:
    alone = frozenset({"VK_NV_cooperative_matrix2"})
    assert plan_device(_facts(extensions=alone)).extensions == ()
    both = alone | {"VK_KHR_cooperative_matrix"}
    assert plan_device(_facts(extensions=both)).extensions == tuple(sorted(both))


def test_missing_baseline_names_everything() -> None:
    features = {**_facts().features, VULKAN_12: frozenset({"timelineSemaphore"})}
    facts = _facts(api_version=(1, 2, 0), features=features, families=(QueueFamily(4, 1, 0),))
    missing = missing_baseline(facts)
    assert missing[0] == "Vulkan 1.3"
    assert {"bufferDeviceAddress", "vulkanMemoryModel", "a compute queue"} <= set(missing)
    assert "timelineSemaphore" not in missing
    with pytest.raises(DeviceError, match=r"without Vulkan 1\.3, bufferDeviceAddress"):
        plan_device(facts)


def _record(index: int, name: str, kind: str, missing: tuple[str, ...] = ()) -> DeviceRecord:
    return DeviceRecord(index, name, f"uuid-{index}", kind, "driver", "1", "1.3.0", 1 << 30, missing, "loader")


RECORDS = [
    _record(0, "Software", "cpu"),
    _record(1, "Old Card", "discrete", ("maintenance4",)),
    _record(2, "New Card", "discrete"),
    _record(3, "Chip", "integrated"),
]


@pytest.mark.parametrize(
    ("selector", "want"), [("", 2), ("0", 0), ("chip", 3), ("card", 2), ("uuid-1", 1), ("UUID-3", 3)]
)
def test_choose_device_by_rank_index_name_and_uuid(selector: str, want: int) -> None:
    assert choose_device(RECORDS, selector).index == want


def test_choose_device_lists_what_is_there() -> None:
    with pytest.raises(DeviceError, match="3: Chip"):
        choose_device(RECORDS, "radeon")


def test_choose_device_without_any() -> None:
    with pytest.raises(DeviceError, match="no device"):
        choose_device([])


def test_choose_device_names_what_all_lack() -> None:
    with pytest.raises(DeviceError, match="Old Card lacks maintenance4"):
        choose_device(RECORDS[1:2])


def test_settings_come_from_the_environment() -> None:
    environment = {"QGA_VULKAN_DEVICE": " 1 ", "QGA_VALIDATION": "sync", "QGA_VULKAN_LOADER": "direct"}
    settings = settings_from_environment(environment)
    assert settings == Settings(selector="1", validation="sync", labels=True, loader="direct")
    assert settings_from_environment({}) == Settings()


def test_settings_refuse_unknown_values() -> None:
    with pytest.raises(InputError, match="QGA_VALIDATION"):
        settings_from_environment({"QGA_VALIDATION": "maybe"})
