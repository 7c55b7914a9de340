"""Ask the driver why a device was lost (VK_EXT_device_fault)."""

from __future__ import annotations

from .context import Context
from .loader import interface
from .structs import Struct, text_of


def fault_text(context: Context) -> str:
    """Return the driver's description of the fault and the addresses it names; empty where it says nothing."""
    if "VK_EXT_device_fault" not in context.plan.extensions or not context.functions.has("vkGetDeviceFaultInfoEXT"):
        return ""
    ffi, null = interface(), interface().NULL
    query = context.functions.vkGetDeviceFaultInfoEXT
    counts = Struct("VkDeviceFaultCountsEXT")
    if query(context.handle, counts.pointer, null) < 0:
        return ""
    addresses = ffi.new("VkDeviceFaultAddressInfoEXT[]", max(1, counts.get("addressInfoCount")))
    vendors = ffi.new("VkDeviceFaultVendorInfoEXT[]", max(1, counts.get("vendorInfoCount")))
    counts.set("vendorBinarySize", 0)
    info = Struct("VkDeviceFaultInfoEXT", pAddressInfos=addresses, pVendorInfos=vendors)
    if query(context.handle, counts.pointer, info.pointer) < 0:
        return ""
    found = [text_of(info.get("description"))]
    found += [f"address {addresses[i].reportedAddress:#x}" for i in range(counts.get("addressInfoCount"))]
    found += [text_of(vendors[i].description) for i in range(counts.get("vendorInfoCount"))]
    return "; ".join(text for text in found if text)
