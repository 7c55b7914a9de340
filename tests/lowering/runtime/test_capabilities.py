"""What a driver offers and what kernels may use of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lowering.runtime import Device, settings_from_environment
from lowering.runtime.capabilities import capabilities_of
from lowering.runtime.facts import MatrixEntry
from lowering.runtime.features import CORE


@pytest.mark.parametrize(
    ("driver", "major", "subgroup", "has_f64"),
    [
        ("llvmpipe", 26, 16, False),
        ("llvmpipe", 26, 8, True),
        ("llvmpipe", 26, 4, True),
        ("llvmpipe", 22, 16, True),
        ("NVIDIA", 595, 16, True),
    ],
)
def test_f64_is_not_used_where_it_ends_the_process(
    device: Device, driver: str, major: int, subgroup: int, has_f64: bool
) -> None:
    found = device.parts.context.facts
    facts = replace(
        found,
        driver_name=driver,
        raw_driver_version=major << 22,
        features={**found.features, CORE: found.features[CORE] | {"shaderFloat64"}},
        properties={**found.properties, "subgroupSize": subgroup},
    )
    assert capabilities_of(facts).has_f64 is has_f64


def test_without_vendors_only_common_extensions_are_left(device: Device) -> None:
    found = device.parts.context.facts
    matrix = "VkPhysicalDeviceCooperativeMatrixFeaturesKHR"
    flexible = "VkPhysicalDeviceCooperativeMatrix2FeaturesNV"
    facts = replace(
        found,
        extensions=found.extensions | {"VK_KHR_cooperative_matrix", "VK_NV_cooperative_matrix2", "VK_AMD_shader_info"},
        features={
            **found.features, matrix: frozenset({"cooperativeMatrix"}),
            flexible: frozenset({"cooperativeMatrixReductions"}),
        },
        flexible_matrices=(MatrixEntry(16, 16, 16, 0, 0, 1, 1, False, 3, 128),),
    )  # fmt: skip
    common = facts.without_vendors()
    assert capabilities_of(facts).features_nv
    assert not capabilities_of(common).features_nv
    assert not common.flexible_matrices
    assert facts.extensions - common.extensions >= {"VK_NV_cooperative_matrix2", "VK_AMD_shader_info"}
    assert "VK_KHR_cooperative_matrix" in common.extensions
    assert common.features.keys() == facts.features.keys() - {flexible}


@pytest.mark.parametrize(("text", "has_vendors"), [("", True), ("1", True), ("0", False)])
def test_the_environment_leaves_vendors_out(text: str, has_vendors: bool) -> None:
    assert settings_from_environment({"QGA_VENDOR_EXTENSIONS": text}).has_vendors is has_vendors
