"""What a driver offers and what kernels may use of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lowering.runtime import Device
from lowering.runtime.capabilities import capabilities_of
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
