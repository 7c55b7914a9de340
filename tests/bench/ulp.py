"""Print the error of every elementary function on the selected device as the table of docs/numerics.md.

Run as `python -m tests.bench.ulp [COUNT]`; COUNT arguments are drawn from each of several ranges (default 100000).
"""

from __future__ import annotations

import sys

from lowering.runtime import Device
from tests.shaders.functions.accuracy import CASES, EXP_BY_EXP2, HAS_EXTENDED, measure


def table(device: Device, count: int) -> list[str]:
    """Return the lines of the table: largest and mean error in units in the last place, and where the largest is."""
    lines = ["| function | dtype | largest | mean | at | arguments |", "| --- | --- | --- | --- | --- | --- |"]
    with_f64 = device.capabilities.has_f64 and HAS_EXTENDED
    for dtype in ("f32", "f64") if with_f64 else ("f32",):
        for case in (*CASES, EXP_BY_EXP2) if dtype == "f32" else CASES:
            found = measure(device, case, dtype, count)
            where = ", ".join(f"{number:.9g}" for number in found.worst)
            lines.append(
                f"| `{case.name}` | {dtype} | {found.largest:.2f} | {found.mean:.2f} | {where} | {found.count:,} |"
            )
    return lines


def main() -> None:
    """Open the device that QGA_VULKAN_DEVICE selects and print its table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with Device.open() as device:
        print(f"{device.name}\n")
        print("\n".join(table(device, count)))


if __name__ == "__main__":
    main()
