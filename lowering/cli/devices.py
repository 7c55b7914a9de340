"""`qga devices`: the Vulkan devices of this machine, which one is used and why, what is missing and the fix."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import Any

from shaders.capabilities import Capabilities

from ..errors import DeviceError
from ..runtime.capabilities import capabilities_of
from ..runtime.opening import Candidate, close_candidates, find_candidates, without_validation
from ..runtime.select import choose_device
from ..runtime.settings import settings_from_environment
from .remedies import driver_remedy, observations

EXAMPLES = """\
The device is chosen by kind (discrete, integrated, virtual, CPU) among those that have every feature of the baseline.
QGA_VULKAN_DEVICE chooses another: its index in this list, a part of its name, or its UUID.

examples:
  qga devices
  QGA_VULKAN_DEVICE=1 qga devices              what the second device would mean
  QGA_VULKAN_DEVICE=llvmpipe qga run           run on the software driver although there is a GPU
  qga devices --capabilities > my_gpu.json     for `qga inspect --capabilities` on a machine without that GPU

The exit status is 0 when there is a usable device, else 1.
"""

GIB = 1 << 30


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "devices", help="list Vulkan devices, what is missing and the fix", description=__doc__, epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--long", action="store_true", help="also list extensions")
    parser.add_argument("--capabilities", action="store_true", help="print the used device's capabilities as JSON only")


def execute(arguments: argparse.Namespace) -> int:
    """Print the list; 1 when nothing on it can be used."""
    settings = settings_from_environment()
    try:
        found = find_candidates(without_validation(settings))
    except DeviceError as error:
        print(error)
        return _nothing()
    try:
        if not found:
            print("A Vulkan loader or driver is here, but no device shows.")
            return _nothing()
        return _report(found, settings.selector, arguments)
    finally:
        close_candidates(found)


def _report(found: list[Candidate], selector: str, arguments: argparse.Namespace) -> int:
    chosen, refusal = _choice(found, selector)
    if arguments.capabilities and chosen is not None:
        print(capabilities_of(found[chosen].facts).to_text(), end="")
        return 0
    for index, candidate in enumerate(found):
        print(describe(candidate, mark=_reason(found, selector) if index == chosen else "", is_long=arguments.long))
    print(platform_line())
    if refusal:
        print(f"\n{refusal}\n\n{driver_remedy()}")
    return 1 if refusal else 0


def _choice(found: list[Candidate], selector: str) -> tuple[int | None, str]:
    """Return the index that would be used, or the text of the error that says why there is none."""
    try:
        chosen = choose_device([candidate.record for candidate in found], selector)
    except DeviceError as error:
        return None, str(error)
    missing = f"{chosen.name} lacks {', '.join(chosen.missing)}." if chosen.missing else ""
    return chosen.index, missing


def _reason(found: list[Candidate], selector: str) -> str:
    usable = [candidate for candidate in found if not candidate.record.missing]
    if selector:
        return f"used: QGA_VULKAN_DEVICE={selector}"
    return "used: the only usable device" if len(usable) == 1 else "used: the best kind of device here"


def _nothing() -> int:
    for line in observations():
        print(line)
    print(f"\n{driver_remedy()}\n\nWithout a device all that runs on the CPU works: `qga run --backend cpu`, for one.")
    return 1


def describe(candidate: Candidate, *, mark: str = "", is_long: bool = False) -> str:
    """Return what a person wants to know about one device, in a few lines; `mark` says why it is used."""
    record, able = candidate.record, capabilities_of(candidate.facts)
    verdict = f"cannot be used, missing: {', '.join(record.missing)}" if record.missing else "has the baseline"
    driver = f"{record.driver_name} {record.driver_version}, Vulkan {record.api_version}, through {record.source}"
    shared = f"{able.max_invocations} invocations and {able.max_shared_bytes // 1024} KiB a workgroup"
    lines = [
        f"{record.index}  {record.name}{'   <- ' + mark if mark else ''}",
        f"   {record.device_type}; {driver}; {verdict}",
        f"   memory: {record.memory_bytes / GIB:.1f} GiB; {shared}; {subgroup_text(able)}",
        f"   numbers: {numbers_text(able)}",
        f"   cooperative matrices: {matrix_text(able)}",
        f"   uuid: {record.uuid}",
    ]
    if is_long:
        lines.append(f"   extensions: {' '.join(sorted(candidate.facts.extensions))}")
    return "\n".join(lines)


def numbers_text(able: Capabilities) -> str:
    """Return the number formats that kernels compute in, and those they cannot."""
    offered = {
        "f16": able.has_f16, "f64": able.has_f64, "i8": able.has_i8, "i16": able.has_i16, "i64": able.has_i64,
        "8-bit buffers": able.storage_8, "16-bit buffers": able.storage_16, "bf16 matrices": able.has_bf16_matrix,
    }  # fmt: skip
    has = ", ".join(["f32", "i32", *(name for name, is_offered in offered.items() if is_offered)])
    lacks = ", ".join(name for name, is_offered in offered.items() if not is_offered)
    return f"{has}; not: {lacks}" if lacks else has


def subgroup_text(able: Capabilities) -> str:
    """Return the sizes of subgroups that a kernel can ask for."""
    low, high = able.min_subgroup_size, able.max_subgroup_size
    return f"subgroups of {able.subgroup_size}" + ("" if low == high else f" ({low} to {high})")


def matrix_text(able: Capabilities) -> str:
    """Return the products that matrix units offer, in short."""
    kinds = sorted({f"{row.m}x{row.n}x{row.k} {row.a} -> {row.result}" for row in able.matrices})
    flexible = f"; of flexible size: {len(able.matrices_nv)} kinds" if able.matrices_nv else ""
    return (", ".join(kinds) or "none") + flexible


def platform_line() -> str:
    """Say whether JAX's platform `vulkan` can start, which needs the compiled part of the plugin."""
    if importlib.util.find_spec("lowering.pjrt._native") is not None:
        return "JAX platform vulkan: ready, set JAX_PLATFORMS=vulkan"
    source = Path(__file__).parents[1] / "pjrt" / "native.c"
    fix = (
        "install a C compiler and Python's headers, then install qga again" if source.exists() else "install qga again"
    )
    return f"JAX platform vulkan: off, its compiled part is missing; {fix} (lowering.lower works without it)"
