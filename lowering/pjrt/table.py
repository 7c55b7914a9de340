"""The table of slots: which function answers which entry of the PJRT C API."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from jaxlib.mlir.dialects import stablehlo

from . import _native as native
from . import arrays, client, executables, spec
from .client import Client
from .failures import describe
from .values import NamedValues

Handler = Callable[..., Any]

# Slots whose argument is a handle that jaxlib gives back.
RELEASERS = ("Buffer_Destroy", "Executable_Destroy", "LoadedExecutable_Destroy")

# Slots answered from words that lie in the handle, by number; a handle's last word is always zero.
ZERO = 7
GETTERS = {
    # News of other processes under `jax.distributed`: jaxlib ends the process where it gets an error, at exit as well.
    "Client_UpdateGlobalProcessInfo": (),
    "Buffer_Device": (0,),
    "Buffer_Memory": (1,),
    "Buffer_ElementType": (2,),
    "Buffer_Dimensions": (3, 4),
    "Buffer_UnpaddedDimensions": (3, 4),
    "Buffer_OnDeviceSizeInBytes": (5,),
    "Buffer_IsDeleted": (arrays.DELETED,),
    "Buffer_IsOnCpu": (ZERO,),
    "Buffer_DynamicDimensionIndices": (ZERO, ZERO),
    "Memory_Kind": (0, 1),
    "Executable_NumReplicas": (0,),
    "Executable_NumPartitions": (0,),
    "Executable_NumOutputs": (1,),
    "LoadedExecutable_IsDeleted": (executables.DELETED,),
}

# Parameters of a handler are fields of the slot's argument structure, by name.
HANDLERS: dict[str, Handler] = {
    "Client_Destroy": client.close,
    "Client_PlatformName": client.platform_name,
    "Client_ProcessIndex": client.zero,
    "Client_PlatformVersion": client.platform_version,
    "Client_TopologyDescription": client.topology,
    "Client_Devices": client.devices,
    "Client_AddressableDevices": client.devices,
    "Client_LookupDevice": client.lookup_device,
    "Client_LookupAddressableDevice": client.lookup_addressable_device,
    "Client_AddressableMemories": client.memories,
    "Client_DefaultDeviceAssignment": client.assign_devices,
    "Client_Compile": executables.compile_program,
    "Client_BufferFromHostBuffer": arrays.from_host,
    "DeviceDescription_Id": client.zero,
    "DeviceDescription_ProcessIndex": client.zero,
    "DeviceDescription_Attributes": client.description_attributes,
    "DeviceDescription_Kind": client.device_kind,
    "DeviceDescription_DebugString": client.device_text,
    "DeviceDescription_ToString": client.device_text,
    "Device_GetDescription": client.description,
    "Device_IsAddressable": client.one,
    "Device_LocalHardwareId": client.zero,
    "Device_AddressableMemories": client.device_memories,
    "Device_DefaultMemory": client.default_memory,
    "Device_MemoryStats": client.memory_statistics,
    "Device_GetAttributes": client.device_attributes,
    "Memory_Id": client.zero,
    "Memory_Kind_Id": client.zero,
    "Memory_DebugString": client.memory_text,
    "Memory_ToString": client.memory_text,
    "Memory_AddressableByDevices": client.memory_devices,
    "TopologyDescription_Destroy": client.nothing,
    "TopologyDescription_PlatformName": client.topology_name,
    "TopologyDescription_PlatformVersion": client.topology_version,
    "TopologyDescription_GetDeviceDescriptions": client.topology_devices,
    "TopologyDescription_Attributes": client.topology_attributes,
    "TopologyDescription_Fingerprint": client.topology_fingerprint,
    "Executable_Name": executables.name,
    "Executable_SizeOfGeneratedCodeInBytes": client.zero,
    "Executable_GetCostAnalysis": executables.cost_analysis,
    "Executable_OutputMemoryKinds": executables.output_memory_kinds,
    "Executable_ParameterMemoryKinds": executables.parameter_memory_kinds,
    "Executable_OutputElementTypes": executables.output_element_types,
    "Executable_OutputDimensions": executables.output_dimensions,
    "Executable_OptimizedProgram": executables.optimized_program,
    "Executable_Serialize": executables.serialize,
    "Executable_GetCompileOptions": executables.compile_options,
    "Executable_GetCompiledMemoryStats": executables.memory_statistics,
    "Executable_Fingerprint": executables.fingerprint,
    "Executable_DeserializeAndLoad": executables.deserialize,
    "LoadedExecutable_GetExecutable": executables.executable_handle,
    "LoadedExecutable_AddressableDevices": executables.devices,
    "LoadedExecutable_AddressableDeviceLogicalIds": executables.logical_ids,
    "LoadedExecutable_GetDeviceAssignment": executables.device_assignment,
    "LoadedExecutable_Delete": executables.delete,
    "LoadedExecutable_Fingerprint": executables.fingerprint,
    "LoadedExecutable_Execute": executables.run,
    "Buffer_GetMemoryLayout": arrays.layout,
    "Buffer_Delete": arrays.delete,
    "Buffer_CopyToDevice": arrays.copy_to_device,
    "Buffer_CopyToMemory": arrays.copy_to_device,
    "Buffer_ToHostBuffer": arrays.to_host,
    "Buffer_CopyRawToHost": arrays.to_host_raw,
    "Buffer_ReadyEvent": arrays.ready_event,
    "Buffer_UnsafePointer": arrays.device_address,
    "Buffer_OpaqueDeviceMemoryDataPointer": arrays.device_address,
}


def build(create_client: Callable[[], Client]) -> object:
    """Fill the table and return it as the capsule that jaxlib loads.

    Args:
        create_client: what `Client_Create` calls.
    """
    attributes = NamedValues(
        {
            "stablehlo_current_version": _version(stablehlo.get_current_version()),
            "stablehlo_minimum_version": _version(stablehlo.get_minimum_version()),
            "xla_version": 2,
        }
    )
    capsule = native.install(spec.SLOTS, spec.MAJOR, spec.MINOR, describe)
    handlers = HANDLERS | {
        "Plugin_Attributes": lambda: attributes.pair,
        "Client_Create": lambda: create_client().handle,
    }
    for slot, handler in handlers.items():
        native.handler(spec.SLOTS.index(slot), handler, *signature(slot, handler))
    for slot, answers in GETTERS.items():
        native.getter(spec.SLOTS.index(slot), [(number, "u") for number in answers], signature(slot, None)[1])
    for slot in RELEASERS:
        native.releaser(spec.SLOTS.index(slot))
    return capsule


def signature(slot: str, handler: Handler | None) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
    """Return (offset, code) of the fields that a handler takes, in its order, and of those that the slot answers.

    Raises:
        KeyError: a parameter of the handler is not a field of the slot's arguments.
    """
    fields = {field.name: field for field in spec.fields(spec.ARGUMENTS[slot])}
    names = inspect.signature(handler).parameters if handler is not None else ()
    inputs = [(fields[name].offset, fields[name].code) for name in names]
    outputs = [(field.offset, field.code) for field in fields.values() if field.answered]
    return inputs, outputs


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))
