"""Turn a device's facts into the capabilities that kernels are planned with."""

from __future__ import annotations

from typing import Any, cast

from shaders.capabilities import Capabilities, DeviceType, FlexibleMatrix, MatrixShape

from .facts import DeviceFacts, MatrixEntry
from .features import CORE, VULKAN_11, VULKAN_12

# VkComponentTypeKHR and VkScopeKHR by number (vk.xml 1.4.366); rows with other numbers are left out.
COMPONENT_TYPES = {
    0: "f16",
    1: "f32",
    2: "f64",
    3: "i8",
    4: "i16",
    5: "i32",
    6: "i64",
    7: "u8",
    8: "u16",
    9: "u32",
    10: "u64",
    1000141000: "bf16",
}
SCOPES = {2: "workgroup", 3: "subgroup"}
# VkSubgroupFeatureFlagBits.
SUBGROUP_OPERATIONS = {
    0x1: "basic",
    0x2: "vote",
    0x4: "arithmetic",
    0x8: "ballot",
    0x10: "shuffle",
    0x20: "shuffle_relative",
    0x40: "clustered",
    0x80: "quad",
}
# Mesa 26's lavapipe lists matrices of 8 x 8 x 8 at every width, but has code for subgroups of 8 only. At 4 it leaves
# the feature off. At 16 it offers it, and a lane holds 4 elements where its compiler walks 16: a pipeline with a
# product or a constant matrix ends the process with a segmentation fault (26.1.6), whatever the size of the workgroup
# and whether full subgroups or their size are required; loads and stores alone do not.
LAVAPIPE_MATRIX_SUBGROUP = 8
# At LP_NATIVE_VECTOR_WIDTH=512, subgroups of 16, Mesa 26's lavapipe overruns an array of 16 places when it joins two
# halves of 32 bits ("stack smashing detected", 26.1.6; 25.0.7 and 22.3.6 do not). It does so for each mask of 64 bits
# by a constant of which one half is all zeros or all ones, and a sign bit is one: most functions of f64 need it. Of the
# operations on 64-bit integers only `and`, `or` and `xor` with such a constant are concerned, so that those stay.
LAVAPIPE_WIDE_SUBGROUP = 16
LAVAPIPE_WIDE_SINCE = 26
# Capabilities that are one feature of the device.
SWITCHES = {
    "has_f16": (VULKAN_12, "shaderFloat16"),
    "has_bf16_matrix": ("VkPhysicalDeviceShaderBfloat16FeaturesKHR", "shaderBFloat16CooperativeMatrix"),
    "has_f64": (CORE, "shaderFloat64"),
    "has_i64": (CORE, "shaderInt64"),
    "has_i8": (VULKAN_12, "shaderInt8"),
    "has_i16": (CORE, "shaderInt16"),
    "storage_8": (VULKAN_12, "storageBuffer8BitAccess"),
    "storage_16": (VULKAN_11, "storageBuffer16BitAccess"),
    "atomic_f32_add": ("VkPhysicalDeviceShaderAtomicFloatFeaturesEXT", "shaderBufferFloat32AtomicAdd"),
    "atomic_i64": (VULKAN_12, "shaderBufferInt64Atomics"),
    "float_controls2": ("VkPhysicalDeviceShaderFloatControls2FeaturesKHR", "shaderFloatControls2"),
}
_MATRIX_2 = "VkPhysicalDeviceCooperativeMatrix2FeaturesNV"
FEATURES_NV = {
    "cooperativeMatrixWorkgroupScope": "workgroup_scope",
    "cooperativeMatrixFlexibleDimensions": "flexible_dimensions",
    "cooperativeMatrixReductions": "reductions",
    "cooperativeMatrixConversions": "conversions",
    "cooperativeMatrixPerElementOperations": "per_element",
    "cooperativeMatrixTensorAddressing": "tensor_addressing",
    "cooperativeMatrixBlockLoads": "block_loads",
}
_FLOAT_CONTROLS = {
    "shaderSignedZeroInfNanPreserve": "signed_zero_inf_nan_preserve",
    "shaderDenormPreserve": "denorm_preserve",
    "shaderDenormFlushToZero": "denorm_flush_to_zero",
    "shaderRoundingModeRTE": "rounding_rte",
    "shaderRoundingModeRTZ": "rounding_rtz",
}


def capabilities_of(facts: DeviceFacts) -> Capabilities:
    """Return what kernels may use on a device; all of it is turned on when the device is opened."""
    limits, properties = facts.limits, facts.properties
    has_import = "VK_EXT_external_memory_host" in facts.extensions
    return Capabilities(
        device_name=facts.name,
        driver_name=facts.driver_name,
        driver_version=facts.driver_version,
        vendor_id=facts.vendor_id,
        device_id=facts.device_id,
        device_type=cast(DeviceType, facts.device_type),
        subgroup_size=properties["subgroupSize"],
        min_subgroup_size=properties["minSubgroupSize"],
        max_subgroup_size=properties["maxSubgroupSize"],
        subgroup_operations=_subgroup_operations(facts),
        **_switches(facts),
        max_shared_bytes=limits["maxComputeSharedMemorySize"],
        max_invocations=limits["maxComputeWorkGroupInvocations"],
        max_groups=limits["maxComputeWorkGroupCount"],
        max_buffer_bytes=limits["maxStorageBufferRange"],
        max_push_bytes=limits["maxPushConstantsSize"],
        matrices=tuple(row for row in map(_matrix, _usable(facts, facts.matrices)) if row is not None),
        matrices_nv=tuple(row for row in map(_flexible, _usable(facts, facts.flexible_matrices)) if row is not None),
        features_nv=frozenset(name for key, name in FEATURES_NV.items() if facts.has(_MATRIX_2, key)),
        float_controls=_float_controls(facts),
        timestamp_period_ns=limits["timestampPeriod"],
        unified_memory=facts.device_type in ("cpu", "integrated"),
        host_import_alignment=properties["minImportedHostPointerAlignment"] if has_import else None,
    )


def _switches(facts: DeviceFacts) -> dict[str, bool]:
    found = {name: facts.has(struct, feature) for name, (struct, feature) in SWITCHES.items()}
    return {**found, "has_f64": found["has_f64"] and not _breaks_on_f64(facts)}


def _breaks_on_f64(facts: DeviceFacts) -> bool:
    """Tell lavapipe at a width where computing in f64 ends the process."""
    is_wide = facts.properties["subgroupSize"] == LAVAPIPE_WIDE_SUBGROUP
    return facts.driver_name == "llvmpipe" and is_wide and facts.raw_driver_version >> 22 >= LAVAPIPE_WIDE_SINCE


def _float_controls(facts: DeviceFacts) -> frozenset[str]:
    return frozenset(
        f"{name}_{bits}"
        for key, name in _FLOAT_CONTROLS.items()
        for bits in (16, 32, 64)
        if facts.properties.get(f"{key}Float{bits}")
    )


def _subgroup_operations(facts: DeviceFacts) -> frozenset[str]:
    bits: int = facts.properties["subgroupSupportedOperations"]
    found = {name for bit, name in SUBGROUP_OPERATIONS.items() if bits & bit}
    if facts.has("VkPhysicalDeviceShaderSubgroupRotateFeaturesKHR", "shaderSubgroupRotate"):
        found.add("rotate")
    return frozenset(found)


def _usable(facts: DeviceFacts, rows: tuple[MatrixEntry, ...]) -> tuple[MatrixEntry, ...]:
    """Drop rows that need a feature the device does not offer, such as bf16 or workgroup scope."""
    if not facts.has("VkPhysicalDeviceCooperativeMatrixFeaturesKHR", "cooperativeMatrix"):
        return ()
    if facts.device_type == "cpu" and facts.properties["subgroupSize"] != LAVAPIPE_MATRIX_SUBGROUP:
        return ()
    return rows


def _names(row: MatrixEntry) -> dict[str, Any] | None:
    types = [COMPONENT_TYPES.get(kind) for kind in (row.a, row.b, row.c, row.result)]
    scope = SCOPES.get(row.scope)
    if None in types or scope is None:
        return None
    a, b, c, result = types
    return {"a": a, "b": b, "c": c, "result": result, "scope": scope, "saturating": row.saturating}


def _matrix(row: MatrixEntry) -> MatrixShape | None:
    names = _names(row)
    return None if names is None else MatrixShape(row.m, row.n, row.k, **names)


def _flexible(row: MatrixEntry) -> FlexibleMatrix | None:
    names = _names(row)
    if names is None:
        return None
    return FlexibleMatrix(row.m, row.n, row.k, invocations=row.invocations, **names)
