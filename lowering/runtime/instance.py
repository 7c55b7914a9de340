"""The Vulkan instance: layers, instance extensions and the driver's messages."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from ..errors import DeviceError, message
from .loader import EntryPoint, Functions, check, constants, interface
from .settings import Settings
from .structs import Struct, enumerate_records, string_array, text_of

LOGGER = logging.getLogger("qga.vulkan")
API_VERSION = (1 << 22) | (3 << 12)
VALIDATION_LAYER = "VK_LAYER_KHRONOS_validation"
VALIDATION_FEATURES = {
    "sync": "VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT",
    "gpu": "VK_VALIDATION_FEATURE_ENABLE_GPU_ASSISTED_EXT",
}
# A layer older than the driver says this of extensions it has never heard of; it says nothing about the program.
LAYER_IS_OLDER = ("structure with unknown VkStructureType", "is not supported by this layer")


@dataclass(frozen=True, slots=True)
class DriverMessage:
    """One message of the driver or a validation layer, whole."""

    severity: str
    identifier: str
    text: str


class Instance:
    """Own one VkInstance and, where asked for, the messenger that collects driver messages."""

    def __init__(self, entry: EntryPoint, settings: Settings) -> None:
        self.messages: list[DriverMessage] = []
        self._globals = Functions(entry.get_instance_function, interface().NULL)
        self._messenger: Any = None
        self._callback: Any = None
        self.extensions = self._choose_extensions(settings)
        layers = self._choose_layers(entry, settings)
        self.handle = self._create(entry, layers, settings)
        self.functions = Functions(entry.get_instance_function, self.handle)
        if settings.validation:
            self._listen()

    def close(self) -> None:
        """Destroy the messenger and the instance; closing twice does nothing."""
        if self.handle is None:
            return
        null = interface().NULL
        if self._messenger is not None:
            self.functions.vkDestroyDebugUtilsMessengerEXT(self.handle, self._messenger, null)
        self.functions.vkDestroyInstance(self.handle, null)
        self.handle = None

    def physical_devices(self) -> list[Any]:
        """Return the handles of all devices; a driver that cannot initialise contributes none."""
        call = self.functions.vkEnumeratePhysicalDevices
        return list(enumerate_records("vkEnumeratePhysicalDevices", call, "VkPhysicalDevice", self.handle))

    def _choose_extensions(self, settings: Settings) -> tuple[str, ...]:
        call = self._globals.vkEnumerateInstanceExtensionProperties
        name = "vkEnumerateInstanceExtensionProperties"
        records = enumerate_records(name, call, "VkExtensionProperties", interface().NULL)
        offered = {text_of(record.extensionName) for record in records}
        wanted = ["VK_KHR_portability_enumeration"]
        if settings.labels or settings.validation:
            wanted.append("VK_EXT_debug_utils")
        return tuple(extension for extension in wanted if extension in offered)

    def _choose_layers(self, entry: EntryPoint, settings: Settings) -> tuple[str, ...]:
        if not settings.validation:
            return ()
        offered: set[str] = set()
        if entry.is_loader:
            call = self._globals.vkEnumerateInstanceLayerProperties
            records = enumerate_records("vkEnumerateInstanceLayerProperties", call, "VkLayerProperties")
            offered = {text_of(record.layerName) for record in records}
        if VALIDATION_LAYER not in offered:
            raise DeviceError(
                message(
                    "QGA_VALIDATION needs the Khronos validation layer and the Vulkan loader.",
                    got=f"{entry.source} offers {', '.join(sorted(offered)) or 'no layers'}",
                    want=VALIDATION_LAYER,
                    fix="install vulkan-validationlayers, or unset QGA_VALIDATION.",
                )
            )
        return (VALIDATION_LAYER,)

    def _create(self, entry: EntryPoint, layers: tuple[str, ...], settings: Settings) -> Any:
        ffi, values = interface(), constants()
        application = Struct("VkApplicationInfo", pApplicationName="qga", pEngineName="qga", apiVersion=API_VERSION)
        layer_names, extension_names = string_array(layers), string_array(self.extensions)
        fields: dict[str, Any] = {}
        if settings.validation in VALIDATION_FEATURES:
            feature = getattr(values, VALIDATION_FEATURES[settings.validation])
            enabled = ffi.new("VkValidationFeatureEnableEXT[]", [feature])
            fields["pNext"] = Struct(
                "VkValidationFeaturesEXT", enabledValidationFeatureCount=1, pEnabledValidationFeatures=enabled
            )
        if "VK_KHR_portability_enumeration" in self.extensions:
            fields["flags"] = values.VK_INSTANCE_CREATE_ENUMERATE_PORTABILITY_BIT_KHR
        info = Struct(
            "VkInstanceCreateInfo",
            pApplicationInfo=application,
            enabledLayerCount=layer_names.count,
            ppEnabledLayerNames=layer_names,
            enabledExtensionCount=extension_names.count,
            ppEnabledExtensionNames=extension_names,
            **fields,
        )
        handle = ffi.new("VkInstance*")
        result = self._globals.vkCreateInstance(info.pointer, ffi.NULL, handle)
        if result == values.VK_ERROR_INCOMPATIBLE_DRIVER:
            raise DeviceError(
                message(
                    "Vulkan needs a driver.",
                    got=f"{entry.source} found none that starts",
                    want="a driver of Vulkan 1.3",
                    fix="install your GPU's driver, or mesa-vulkan-drivers for a driver that runs on the CPU.",
                )
            )
        check("vkCreateInstance", result)
        return handle[0]

    def _listen(self) -> None:
        """Collect warnings and errors, and log each at once."""
        ffi, values = interface(), constants()
        error_bit = values.VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT
        # A list that the callback closes over, not the instance: the messenger must not keep the instance alive.
        messages = self.messages

        @ffi.callback("PFN_vkDebugUtilsMessengerCallbackEXT")
        def receive(severity: int, kinds: int, data: Any, user: Any) -> int:
            del kinds, user
            text = text_of(data.pMessage)
            if any(phrase in text for phrase in LAYER_IS_OLDER):
                LOGGER.debug("%s", text)
                return 0
            identifier = text_of(data.pMessageIdName) if data.pMessageIdName else ""
            messages.append(DriverMessage("error" if severity & error_bit else "warning", identifier, text))
            LOGGER.warning("%s", text)
            return 0

        self._callback = receive
        severities = values.VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT | error_bit
        kinds = (
            values.VK_DEBUG_UTILS_MESSAGE_TYPE_GENERAL_BIT_EXT
            | values.VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT
            | values.VK_DEBUG_UTILS_MESSAGE_TYPE_PERFORMANCE_BIT_EXT
        )
        info = Struct(
            "VkDebugUtilsMessengerCreateInfoEXT", messageSeverity=severities, messageType=kinds, pfnUserCallback=receive
        )
        handle = ffi.new("VkDebugUtilsMessengerEXT*")
        create = self.functions.vkCreateDebugUtilsMessengerEXT
        check("vkCreateDebugUtilsMessengerEXT", create(self.handle, info.pointer, ffi.NULL, handle))
        self._messenger = handle[0]
