"""`qga devices`: the Vulkan devices of this machine, which one is used and why, what is missing and the fix."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import Any

from ..errors import DeviceError
from ..runtime.device_plan import missing_baseline
from ..runtime.facts import DeviceFacts
from ..runtime.features import CORE, VULKAN_11, VULKAN_12
from ..runtime.selection import choose_device, list_devices
from ..runtime.settings import settings_from_environment
from .remedies import driver_remedy, observations

EXAMPLES = """\
The device is chosen by kind (discrete, integrated, virtual, CPU), among those that have every feature of the baseline.
QGA_VULKAN_DEVICE chooses another: its index in this list, a part of its name, or its UUID.

examples:
  qga devices
  QGA_VULKAN_DEVICE=1 qga devices            what the second device would mean
  QGA_VULKAN_DEVICE=llvmpipe qga run         run on the software driver although there is a GPU

The exit status is 0 when there is a usable device, else 1.
"""

GIB = 1 << 30


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "devices", help="list Vulkan devices, what is missing and the fix", description=__doc__, epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--long", action="store_true", help="also list extensions and every matrix shape")


def execute(arguments: argparse.Namespace) -> int:
    """Print the list; 1 when nothing on it can be used."""
    try:
        found = list_devices(settings_from_environment())
    except DeviceError as error:
        print(error)
        return _nothing()
    if not found:
        print("The Vulkan loader is here, but no driver shows a device.")
        return _nothing()
    chosen, refusal = _choice(found)
    for index, facts in enumerate(found):
        print(describe(index, facts, is_chosen=index == chosen, is_long=arguments.long))
    print(platform_line())
    if refusal:
        print(f"\n{refusal}\n\n{driver_remedy()}")
    return 1 if refusal else 0


def _choice(found: list[DeviceFacts]) -> tuple[int | None, str]:
    """Return the index that would be used, or the text of the error that says why there is none."""
    try:
        return choose_device(found, settings_from_environment().selector), ""
    except DeviceError as error:
        return None, str(error)


def _nothing() -> int:
    for line in observations():
        print(line)
    print(
        f"\n{driver_remedy()}\n\nWithout a device everything on the CPU works; `qga run --backend cpu` is one example."
    )
    return 1


def describe(index: int, facts: DeviceFacts, *, is_chosen: bool, is_long: bool = False) -> str:
    """Return what a person wants to know about one device, in a few lines."""
    missing = missing_baseline(facts)
    mark = "  <- used" if is_chosen else ""
    verdict = f"cannot be used, missing: {', '.join(missing)}" if missing else "has the baseline"
    lines = [
        f"{index}  {facts.name}{mark}",
        f"   {facts.device_type}; {facts.driver_name} {facts.driver_version}; Vulkan {version_text(facts)}; {verdict}",
        f"   memory: {facts.device_bytes / GIB:.1f} GiB; workgroup: {limits_text(facts)}",
        f"   numbers: {numbers_text(facts)}",
        f"   subgroups: {subgroup_text(facts)}; cooperative matrices: {matrix_text(facts)}",
        f"   uuid: {facts.uuid}",
    ]
    if is_long:
        lines.append(f"   extensions: {' '.join(sorted(facts.extensions))}")
    return "\n".join(lines)


def version_text(facts: DeviceFacts) -> str:
    """Return the version of Vulkan a device speaks."""
    return ".".join(map(str, facts.api_version))


def limits_text(facts: DeviceFacts) -> str:
    """Return the limits of one workgroup."""
    shared = facts.limits.get("maxComputeSharedMemorySize", 0) // 1024
    return f"{facts.limits.get('maxComputeWorkGroupInvocations', '?')} invocations, {shared} KiB shared"


def numbers_text(facts: DeviceFacts) -> str:
    """Return the number formats kernels can compute in; bf16 is always stored as 16 bits and computed in f32."""
    questions = {
        "f16": (VULKAN_12, "shaderFloat16"),
        "f64": (CORE, "shaderFloat64"),
        "i8": (VULKAN_12, "shaderInt8"),
        "i16": (CORE, "shaderInt16"),
        "i64": (CORE, "shaderInt64"),
        "16-bit storage": (VULKAN_11, "storageBuffer16BitAccess"),
        "8-bit storage": (VULKAN_12, "storageBuffer8BitAccess"),
        "bf16": ("VkPhysicalDeviceShaderBfloat16FeaturesKHR", "shaderBFloat16Type"),
    }
    has = [name for name, question in questions.items() if facts.has(*question)]
    lacks = [name for name in questions if name not in has]
    return f"f32 i32 {' '.join(has)}" + (f"; not {', '.join(lacks)}" if lacks else "")


def subgroup_text(facts: DeviceFacts) -> str:
    """Return the sizes of subgroups a kernel can ask for."""
    usual = facts.properties.get("subgroupSize", 0)
    low, high = facts.properties.get("minSubgroupSize", usual), facts.properties.get("maxSubgroupSize", usual)
    return f"{usual}" if low == high else f"{usual} ({low} to {high})"


def matrix_text(facts: DeviceFacts) -> str:
    """Return the shapes of cooperative matrices, without the types."""
    shapes = sorted({f"{entry.m}x{entry.n}x{entry.k}" for entry in facts.matrices})
    second = f", {len(facts.flexible_matrices)} flexible kinds" if facts.flexible_matrices else ""
    return (", ".join(shapes) or "none") + second


def platform_line() -> str:
    """Say whether JAX's platform `vulkan` can start, which needs the compiled part of the plugin."""
    if importlib.util.find_spec("lowering.pjrt._native") is not None:
        return "JAX platform vulkan: ready; set JAX_PLATFORMS=vulkan"
    source = Path(__file__).parents[1] / "pjrt" / "native.c"
    fix = "install a C compiler and Python's headers, then install qga again" if source.exists() else "reinstall qga"
    return f"JAX platform vulkan: off, its compiled part is missing; {fix}. lowering.lower works without it"
