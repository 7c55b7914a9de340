"""The features and extensions the project knows, and which of them every device must have."""

from __future__ import annotations

from collections.abc import Mapping

CORE = "VkPhysicalDeviceFeatures"
VULKAN_11 = "VkPhysicalDeviceVulkan11Features"
VULKAN_12 = "VkPhysicalDeviceVulkan12Features"
VULKAN_13 = "VkPhysicalDeviceVulkan13Features"

BASELINE_VERSION = (1, 3, 0)
BASELINE: Mapping[str, tuple[str, ...]] = {
    VULKAN_12: ("bufferDeviceAddress", "timelineSemaphore", "vulkanMemoryModel", "hostQueryReset"),
    VULKAN_13: ("synchronization2", "maintenance4", "subgroupSizeControl"),
}

# Turned on wherever offered. Robust access stays off: it costs speed and hides defects.
WANTED: Mapping[str, tuple[str, ...]] = {
    CORE: ("shaderFloat64", "shaderInt64", "shaderInt16"),
    VULKAN_11: (
        "storageBuffer16BitAccess",
        "uniformAndStorageBuffer16BitAccess",
        "storagePushConstant16",
        "variablePointersStorageBuffer",
        "variablePointers",
    ),
    VULKAN_12: (
        *BASELINE[VULKAN_12],
        "storageBuffer8BitAccess",
        "uniformAndStorageBuffer8BitAccess",
        "storagePushConstant8",
        "shaderBufferInt64Atomics",
        "shaderSharedInt64Atomics",
        "shaderFloat16",
        "shaderInt8",
        "scalarBlockLayout",
        "uniformBufferStandardLayout",
        "shaderSubgroupExtendedTypes",
        "vulkanMemoryModelDeviceScope",
    ),
    VULKAN_13: (
        *BASELINE[VULKAN_13],
        "computeFullSubgroups",
        "pipelineCreationCacheControl",
        "shaderZeroInitializeWorkgroupMemory",
        "shaderIntegerDotProduct",
    ),
}

# Feature structures that come with an extension, and what is turned on of each.
EXTENSION_FEATURES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "VK_KHR_cooperative_matrix": ("VkPhysicalDeviceCooperativeMatrixFeaturesKHR", ("cooperativeMatrix",)),
    "VK_NV_cooperative_matrix2": (
        "VkPhysicalDeviceCooperativeMatrix2FeaturesNV",
        (
            "cooperativeMatrixWorkgroupScope",
            "cooperativeMatrixFlexibleDimensions",
            "cooperativeMatrixReductions",
            "cooperativeMatrixConversions",
            "cooperativeMatrixPerElementOperations",
            "cooperativeMatrixTensorAddressing",
            "cooperativeMatrixBlockLoads",
        ),
    ),
    "VK_KHR_shader_bfloat16": (
        "VkPhysicalDeviceShaderBfloat16FeaturesKHR",
        ("shaderBFloat16Type", "shaderBFloat16DotProduct", "shaderBFloat16CooperativeMatrix"),
    ),
    "VK_EXT_shader_float8": (
        "VkPhysicalDeviceShaderFloat8FeaturesEXT",
        ("shaderFloat8", "shaderFloat8CooperativeMatrix"),
    ),
    "VK_KHR_shader_float_controls2": ("VkPhysicalDeviceShaderFloatControls2FeaturesKHR", ("shaderFloatControls2",)),
    "VK_EXT_shader_atomic_float": (
        "VkPhysicalDeviceShaderAtomicFloatFeaturesEXT",
        (
            "shaderBufferFloat32Atomics",
            "shaderBufferFloat32AtomicAdd",
            "shaderBufferFloat64Atomics",
            "shaderBufferFloat64AtomicAdd",
            "shaderSharedFloat32Atomics",
            "shaderSharedFloat32AtomicAdd",
            "shaderSharedFloat64Atomics",
            "shaderSharedFloat64AtomicAdd",
        ),
    ),
    "VK_EXT_shader_atomic_float2": (
        "VkPhysicalDeviceShaderAtomicFloat2FeaturesEXT",
        (
            "shaderBufferFloat16AtomicAdd",
            "shaderBufferFloat16AtomicMinMax",
            "shaderBufferFloat32AtomicMinMax",
            "shaderSharedFloat16AtomicAdd",
            "shaderSharedFloat32AtomicMinMax",
        ),
    ),
    "VK_KHR_workgroup_memory_explicit_layout": (
        "VkPhysicalDeviceWorkgroupMemoryExplicitLayoutFeaturesKHR",
        (
            "workgroupMemoryExplicitLayout",
            "workgroupMemoryExplicitLayoutScalarBlockLayout",
            "workgroupMemoryExplicitLayout8BitAccess",
            "workgroupMemoryExplicitLayout16BitAccess",
        ),
    ),
    "VK_KHR_shader_subgroup_rotate": (
        "VkPhysicalDeviceShaderSubgroupRotateFeaturesKHR",
        ("shaderSubgroupRotate", "shaderSubgroupRotateClustered"),
    ),
    "VK_KHR_shader_subgroup_uniform_control_flow": (
        "VkPhysicalDeviceShaderSubgroupUniformControlFlowFeaturesKHR",
        ("shaderSubgroupUniformControlFlow",),
    ),
    "VK_KHR_shader_maximal_reconvergence": (
        "VkPhysicalDeviceShaderMaximalReconvergenceFeaturesKHR",
        ("shaderMaximalReconvergence",),
    ),
    "VK_EXT_device_fault": ("VkPhysicalDeviceFaultFeaturesEXT", ("deviceFault",)),
}

# Extensions without features of their own. A device that lists portability_subset must be opened with it.
PLAIN_EXTENSIONS = ("VK_EXT_external_memory_host", "VK_EXT_memory_budget", "VK_KHR_portability_subset")

# An extension that may be turned on only together with another.
NEEDS: Mapping[str, str] = {"VK_NV_cooperative_matrix2": "VK_KHR_cooperative_matrix"}


def feature_structs(extensions: frozenset[str]) -> tuple[str, ...]:
    """Return the feature structures to query on a device with these extensions, the core ones first."""
    found = [struct for name, (struct, _) in EXTENSION_FEATURES.items() if name in extensions]
    return (VULKAN_11, VULKAN_12, VULKAN_13, *found)
