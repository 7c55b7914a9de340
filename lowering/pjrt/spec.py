"""Layout of the PJRT C API, version 0.114: the order of its slots and the fields of the structures we touch.

Names, order and machine types only, taken from the public header `pjrt_c_api.h`. A structure is a line of `name:code`
items after the two fields that every structure starts with (its size, a pointer to extensions); `>` marks what a slot
answers. Codes of machine types:

    p pointer   z size_t   u uint64   l int64   i int or enum   b bool   h pointer to one of our handles
"""

from __future__ import annotations

from dataclasses import dataclass

MAJOR, MINOR = 0, 114

WIDTHS = {"p": 8, "z": 8, "u": 8, "l": 8, "i": 4, "b": 1, "h": 8}
# struct_size and extension_start.
HEADER_BYTES = 16


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a structure: where it lies, its machine type, and whether the slot answers it."""

    name: str
    offset: int
    code: str
    answered: bool


def fields(text: str) -> tuple[Field, ...]:
    """Lay out a structure as C does: every field at a multiple of its own size."""
    result = []
    offset = HEADER_BYTES
    for item in text.split():
        name, code = item.removeprefix(">").split(":")
        width = WIDTHS[code]
        offset = -(-offset // width) * width
        result.append(Field(name, offset, code, item.startswith(">")))
        offset += width
    return tuple(result)


# Order of the functions in PJRT_Api.
SLOTS = tuple(
    """
    Error_Destroy Error_Message Error_GetCode Plugin_Initialize Plugin_Attributes Event_Destroy Event_IsReady
    Event_Error Event_Await Event_OnReady Client_Create Client_Destroy Client_PlatformName Client_ProcessIndex
    Client_PlatformVersion Client_Devices Client_AddressableDevices Client_LookupDevice
    Client_LookupAddressableDevice Client_AddressableMemories Client_Compile Client_DefaultDeviceAssignment
    Client_BufferFromHostBuffer DeviceDescription_Id DeviceDescription_ProcessIndex DeviceDescription_Attributes
    DeviceDescription_Kind DeviceDescription_DebugString DeviceDescription_ToString Device_GetDescription
    Device_IsAddressable Device_LocalHardwareId Device_AddressableMemories Device_DefaultMemory Device_MemoryStats
    Memory_Id Memory_Kind Memory_DebugString Memory_ToString Memory_AddressableByDevices Executable_Destroy
    Executable_Name Executable_NumReplicas Executable_NumPartitions Executable_NumOutputs
    Executable_SizeOfGeneratedCodeInBytes Executable_GetCostAnalysis Executable_OutputMemoryKinds
    Executable_OptimizedProgram Executable_Serialize LoadedExecutable_Destroy LoadedExecutable_GetExecutable
    LoadedExecutable_AddressableDevices LoadedExecutable_Delete LoadedExecutable_IsDeleted LoadedExecutable_Execute
    Executable_DeserializeAndLoad LoadedExecutable_Fingerprint Buffer_Destroy Buffer_ElementType Buffer_Dimensions
    Buffer_UnpaddedDimensions Buffer_DynamicDimensionIndices Buffer_GetMemoryLayout Buffer_OnDeviceSizeInBytes
    Buffer_Device Buffer_Memory Buffer_Delete Buffer_IsDeleted Buffer_CopyToDevice Buffer_ToHostBuffer
    Buffer_IsOnCpu Buffer_ReadyEvent Buffer_UnsafePointer Buffer_IncreaseExternalReferenceCount
    Buffer_DecreaseExternalReferenceCount Buffer_OpaqueDeviceMemoryDataPointer CopyToDeviceStream_Destroy
    CopyToDeviceStream_AddChunk CopyToDeviceStream_TotalBytes CopyToDeviceStream_GranuleSize
    CopyToDeviceStream_CurrentBytes TopologyDescription_Create TopologyDescription_Destroy
    TopologyDescription_PlatformName TopologyDescription_PlatformVersion TopologyDescription_GetDeviceDescriptions
    TopologyDescription_Serialize TopologyDescription_Attributes Compile Executable_OutputElementTypes
    Executable_OutputDimensions Buffer_CopyToMemory Client_CreateViewOfDeviceBuffer Executable_Fingerprint
    Client_TopologyDescription Executable_GetCompiledMemoryStats Memory_Kind_Id ExecuteContext_Create
    ExecuteContext_Destroy Buffer_CopyRawToHost AsyncHostToDeviceTransferManager_Destroy
    AsyncHostToDeviceTransferManager_TransferData Client_CreateBuffersForAsyncHostToDevice
    AsyncHostToDeviceTransferManager_RetrieveBuffer AsyncHostToDeviceTransferManager_Device
    AsyncHostToDeviceTransferManager_BufferCount AsyncHostToDeviceTransferManager_BufferSize
    AsyncHostToDeviceTransferManager_SetBufferError AsyncHostToDeviceTransferManager_AddMetadata Client_DmaMap
    Client_DmaUnmap Client_CreateUninitializedBuffer Client_UpdateGlobalProcessInfo TopologyDescription_Deserialize
    Client_CreateAliasBuffer Client_FulfillAliasBuffer LoadedExecutable_GetDeviceAssignment
    Client_CreateErrorBuffer AsyncHostToDeviceTransferManager_TransferLiteral Buffer_CopyRawToHostFuture
    Device_PoisonExecution Device_CreateAsyncTrackingEvent AsyncTrackingEvent_Destroy Executable_GetCompileOptions
    Buffer_DonateWithControlDependency Event_Create Event_Set Device_GetAttributes Client_Load
    LoadedExecutable_AddressableDeviceLogicalIds Buffer_Bitcast Error_ForEachPayload
    TopologyDescription_Fingerprint Executable_ParameterMemoryKinds Device_ClearMemoryStats
    TopologyDescription_MakeCanonicalShapeForMemorySpace TopologyDescription_GetMemorySpaceKindIds
    """.split()
)

# Arguments of the slots that we answer; every other slot answers UNIMPLEMENTED.
ARGUMENTS = {
    "Plugin_Attributes": ">attributes:p >num_attributes:z",
    "Client_Create": (
        "create_options:p num_options:z kv_get_callback:p kv_get_user_arg:p kv_put_callback:p kv_put_user_arg:p "
        ">client:p kv_try_get_callback:p kv_try_get_user_arg:p"
    ),
    "Client_Destroy": "client:h",
    "Client_PlatformName": "client:h >platform_name:p >platform_name_size:z",
    "Client_ProcessIndex": "client:h >process_index:i",
    "Client_PlatformVersion": "client:h >platform_version:p >platform_version_size:z",
    "Client_Devices": "client:h >devices:p >num_devices:z",
    "Client_AddressableDevices": "client:h >addressable_devices:p >num_addressable_devices:z",
    "Client_UpdateGlobalProcessInfo": "client:h processes:p count:z",
    "Client_LookupDevice": "client:h id:i >device:p",
    "Client_LookupAddressableDevice": "client:h local_hardware_id:i >addressable_device:p",
    "Client_AddressableMemories": "client:h >addressable_memories:p >num_addressable_memories:z",
    "Client_Compile": "client:h program:p compile_options:p compile_options_size:z >executable:p",
    "Client_DefaultDeviceAssignment": (
        "client:h num_replicas:i num_partitions:i default_assignment_size:z default_assignment:p"
    ),
    "Client_BufferFromHostBuffer": (
        "client:h data:p type:i dims:p num_dims:z byte_strides:p num_byte_strides:z host_buffer_semantics:i "
        "device:h memory:h device_layout:p >done_with_host_buffer:p >buffer:p"
    ),
    "DeviceDescription_Id": "device_description:h >id:i",
    "DeviceDescription_ProcessIndex": "device_description:h >process_index:i",
    "DeviceDescription_Attributes": "device_description:h >num_attributes:z >attributes:p",
    "DeviceDescription_Kind": "device_description:h >device_kind:p >device_kind_size:z",
    "DeviceDescription_DebugString": "device_description:h >debug_string:p >debug_string_size:z",
    "DeviceDescription_ToString": "device_description:h >to_string:p >to_string_size:z",
    "Device_GetDescription": "device:h >device_description:p",
    "Device_IsAddressable": "device:h >is_addressable:b",
    "Device_LocalHardwareId": "device:h >local_hardware_id:i",
    "Device_AddressableMemories": "device:h >memories:p >num_memories:z",
    "Device_DefaultMemory": "device:h >memory:p",
    "Device_MemoryStats": (
        "device:h >bytes_in_use:l >peak_bytes_in_use:l >peak_bytes_in_use_is_set:b >num_allocs:l "
        ">num_allocs_is_set:b >largest_alloc_size:l >largest_alloc_size_is_set:b >bytes_limit:l "
        ">bytes_limit_is_set:b >bytes_reserved:l >bytes_reserved_is_set:b >peak_bytes_reserved:l "
        ">peak_bytes_reserved_is_set:b >bytes_reservable_limit:l >bytes_reservable_limit_is_set:b "
        ">largest_free_block_bytes:l >largest_free_block_bytes_is_set:b >pool_bytes:l >pool_bytes_is_set:b "
        ">peak_pool_bytes:l >peak_pool_bytes_is_set:b >peak_allocated_bytes:l >peak_allocated_bytes_is_set:b"
    ),
    "Memory_Id": "memory:h >id:i",
    "Memory_Kind": "memory:h >kind:p >kind_size:z",
    "Memory_DebugString": "memory:h >debug_string:p >debug_string_size:z",
    "Memory_ToString": "memory:h >to_string:p >to_string_size:z",
    "Memory_AddressableByDevices": "memory:h >devices:p >num_devices:z",
    "Executable_Destroy": "executable:h",
    "Executable_Name": "executable:h >executable_name:p >executable_name_size:z",
    "Executable_NumReplicas": "executable:h >num_replicas:z",
    "Executable_NumPartitions": "executable:h >num_partitions:z",
    "Executable_NumOutputs": "executable:h >num_outputs:z",
    "Executable_SizeOfGeneratedCodeInBytes": "executable:h >size_in_bytes:l",
    "Executable_GetCostAnalysis": "executable:h >num_properties:z >properties:p",
    "Executable_OutputMemoryKinds": "executable:h >num_outputs:z >memory_kinds:p >memory_kind_sizes:p",
    "Executable_OptimizedProgram": "executable:h program:p",
    "Executable_Serialize": (
        "executable:h >serialized_bytes:p >serialized_bytes_size:z >serialized_executable:p "
        ">serialized_executable_deleter:p"
    ),
    "LoadedExecutable_Destroy": "executable:h",
    "LoadedExecutable_GetExecutable": "loaded_executable:h >executable:p",
    "LoadedExecutable_AddressableDevices": "executable:h >addressable_devices:p >num_addressable_devices:z",
    "LoadedExecutable_Delete": "executable:h",
    "LoadedExecutable_IsDeleted": "executable:h >is_deleted:b",
    "LoadedExecutable_Execute": (
        "executable:h options:p argument_lists:p num_devices:z num_args:z output_lists:p "
        "device_complete_events:p execute_device:h"
    ),
    "Executable_DeserializeAndLoad": (
        "client:h serialized_executable:p serialized_executable_size:z >loaded_executable:p "
        "overridden_serialized_compile_options:p overridden_serialized_compile_options_size:z load_options:p"
    ),
    "LoadedExecutable_Fingerprint": "executable:h >executable_fingerprint:p >executable_fingerprint_size:z",
    "Buffer_Destroy": "buffer:h",
    "Buffer_ElementType": "buffer:h >type:i",
    "Buffer_Dimensions": "buffer:h >dims:p >num_dims:z",
    "Buffer_UnpaddedDimensions": "buffer:h >unpadded_dims:p >num_dims:z",
    "Buffer_DynamicDimensionIndices": "buffer:h >dynamic_dim_indices:p >num_dynamic_dims:z",
    "Buffer_GetMemoryLayout": (
        "buffer:h >layout_size:z >layout_extension:p >tiling_size:z >tiling_extension:p >minor_to_major:p "
        ">minor_to_major_size:z >tile_dims:p >tile_dim_sizes:p >num_tiles:z >layout_type:i"
    ),
    "Buffer_OnDeviceSizeInBytes": "buffer:h >on_device_size_in_bytes:z",
    "Buffer_Device": "buffer:h >device:p",
    "Buffer_Memory": "buffer:h >memory:p",
    "Buffer_Delete": "buffer:h",
    "Buffer_IsDeleted": "buffer:h >is_deleted:b",
    "Buffer_CopyToDevice": "buffer:h dst_device:h >dst_buffer:p",
    "Buffer_ToHostBuffer": "src:h host_layout:p dst:p >dst_size:z >event:p",
    "Buffer_IsOnCpu": "buffer:h >is_on_cpu:b",
    "Buffer_ReadyEvent": "buffer:h >event:p",
    "Buffer_UnsafePointer": "buffer:h >buffer_pointer:u",
    "Buffer_OpaqueDeviceMemoryDataPointer": "buffer:h >device_memory_ptr:p",
    "TopologyDescription_Destroy": "topology:h",
    "TopologyDescription_PlatformName": "topology:h >platform_name:p >platform_name_size:z",
    "TopologyDescription_PlatformVersion": "topology:h >platform_version:p >platform_version_size:z",
    "TopologyDescription_GetDeviceDescriptions": "topology:h >descriptions:p >num_descriptions:z",
    "TopologyDescription_Attributes": "topology:h >attributes:p >num_attributes:z",
    "Executable_OutputElementTypes": "executable:h >output_types:p >num_output_types:z",
    "Executable_OutputDimensions": "executable:h >num_outputs:z >dims:p >dim_sizes:p",
    "Buffer_CopyToMemory": "buffer:h dst_memory:h >dst_buffer:p",
    "Executable_Fingerprint": "executable:h >executable_fingerprint:p >executable_fingerprint_size:z",
    "Client_TopologyDescription": "client:h >topology:p",
    "Executable_GetCompiledMemoryStats": (
        "executable:h >generated_code_size_in_bytes:l >argument_size_in_bytes:l >output_size_in_bytes:l "
        ">alias_size_in_bytes:l >temp_size_in_bytes:l >host_generated_code_size_in_bytes:l "
        ">host_argument_size_in_bytes:l >host_output_size_in_bytes:l >host_alias_size_in_bytes:l "
        ">host_temp_size_in_bytes:l >peak_memory_in_bytes:l >total_size_in_bytes:l >total_allocation_bytes:l "
        ">indefinite_allocations:l >peak_unpadded_heap_bytes:l"
    ),
    "Memory_Kind_Id": "memory:h >kind_id:i",
    "Buffer_CopyRawToHost": "buffer:h dst:p offset:l transfer_size:l >event:p",
    "LoadedExecutable_GetDeviceAssignment": (
        "executable:h >serialized_bytes:p >serialized_bytes_size:z >serialized_device_assignment:p "
        ">serialized_device_assignment_deleter:p"
    ),
    "Executable_GetCompileOptions": (
        "executable:h >serialized_bytes:p >serialized_bytes_size:z >serialized_compile_options:p "
        ">serialized_compile_options_deleter:p"
    ),
    "Device_GetAttributes": "device:h >attributes:p >num_attributes:z >device_attributes:p >attributes_deleter:p",
    "LoadedExecutable_AddressableDeviceLogicalIds": (
        "executable:h >addressable_device_logical_ids:p >num_addressable_device_logical_ids:z"
    ),
    "TopologyDescription_Fingerprint": "topology:h >fingerprint:u",
    "Executable_ParameterMemoryKinds": "executable:h >num_parameters:z >memory_kinds:p >memory_kind_sizes:p",
}

# Structures that arguments point to.
STRUCTURES = {
    "Program": "code:p code_size:z format:p format_size:z",
    "ExecuteOptions": (
        "send_callbacks:p recv_callbacks:p num_send_ops:z num_recv_ops:z launch_id:i "
        "non_donatable_input_indices:p num_non_donatable_input_indices:z context:p call_location:p num_tasks:z "
        "task_ids:p incarnation_ids:p multi_slice_config:p use_major_to_minor_data_layout_for_callbacks:b "
        "hlo_output_callbacks:p num_hlo_output_callbacks:z"
    ),
    "Buffer_MemoryLayout": (
        "tiling_size:z tiling_extension:p minor_to_major:p minor_to_major_size:z tile_dims:p tile_dim_sizes:p "
        "num_tiles:z type:i"
    ),
    "Buffer_MemoryLayout_Strides": "strides_size:z strides_extension:p byte_strides:p num_byte_strides:z",
}
