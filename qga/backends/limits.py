"""What a device offers to a tile: caches of a CPU, shared memory, subgroups and matrix units of a GPU."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..tiling import DeviceLimits

# Where the system does not say: the least second-level cache of a core that processors have had since 2008.
DEFAULT_CACHE_BYTES = 256 * 1024
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
# How the plugin writes a product of matrix units: m x n x k, dtype of what is multiplied and of the result.
_MATRIX = re.compile(r"(\d+)x(\d+)x(\d+):(\w+)->(\w+)")
_SHORT_NAMES = {"float16": "f16", "bfloat16": "bf16", "float32": "f32", "float64": "f64"}


@dataclass(frozen=True)
class Matrix:
    """A product that matrix units do at a time: [m, k] @ [k, n].

    Attributes:
        m: rows of the first factor.
        n: columns of the second.
        k: what is summed over.
        dtype: of the factors, as ``f16``.
        result: dtype of the product.
    """

    m: int
    n: int
    k: int
    dtype: str
    result: str


@dataclass(frozen=True)
class Limits:
    """What limits a tile on a device.

    Attributes:
        workgroup_bytes: fast memory that one tile may use: shared memory of a workgroup, or the second-level cache of a
            core.
        unit_bytes: fast memory that two tiles share, one being loaded while the other is used. A Vulkan device does
            not tell; units that hold two workgroups are assumed, as ``DeviceLimits`` does.
        subgroup: lanes that run together; 1 on the CPU, whose compiler decides.
        matrices: products that a subgroup's matrix units do.
        source: where the numbers are from.
    """

    workgroup_bytes: int
    unit_bytes: int
    subgroup: int
    matrices: tuple[Matrix, ...]
    source: str

    @property
    def room_bytes(self) -> int:
        """Fast memory that one tile of two may take."""
        return min(self.workgroup_bytes, self.unit_bytes // 2)

    def for_elements(self, element_bytes: int) -> DeviceLimits:
        """Return the limits of tiles of numbers of this size, for ``qga.tiling.tile_size``."""
        return DeviceLimits(self.workgroup_bytes, self.unit_bytes, element_bytes)

    def granule(self, dtype: str) -> int:
        """Return how many rows of a dtype the device takes at a time: of its smallest matrix, or of a subgroup."""
        name = _SHORT_NAMES.get(dtype)
        return min((matrix.n for matrix in self.matrices if matrix.dtype == name), default=self.subgroup)


def limits_of(device: Any) -> Limits:
    """Ask a device, or the system for its CPU, what limits a tile.

    Args:
        device: of platform ``cpu`` or ``vulkan``.

    Example:
        >>> import jax
        >>> limits_of(jax.devices("cpu")[0]).workgroup_bytes >= DEFAULT_CACHE_BYTES // 8
        True
    """
    if device.platform == "cpu":
        cache_bytes, source = cache_of_core()
        return Limits(cache_bytes, cache_bytes, 1, (), source)
    shared_bytes = int(device.max_shared_bytes)
    return Limits(
        shared_bytes, 2 * shared_bytes, int(device.subgroup_size), _matrices(device.matrices), "device attributes"
    )


def cache_of_core(caches: Path = _CACHES) -> tuple[int, str]:
    """Find the bytes of the second-level cache of the first core, and who says so.

    Linux describes caches in files; where it does not, the C library may know; else it is ``DEFAULT_CACHE_BYTES``.

    Args:
        caches: folder of the files.
    """
    for folder in sorted(caches.glob("index*")):
        level, kind, size = (_read(folder / name) for name in ("level", "type", "size"))
        found = re.fullmatch(r"(\d+)([KMG]?)", size)
        if level == "2" and kind in ("Data", "Unified") and found:
            return int(found[1]) * _UNITS[found[2]], str(folder)
    name = "SC_LEVEL2_CACHE_SIZE"
    known = os.sysconf(name) if name in os.sysconf_names else 0
    return (known, f"sysconf {name}") if known > 0 else (DEFAULT_CACHE_BYTES, "default: the system does not say")


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def _matrices(text: str) -> tuple[Matrix, ...]:
    return tuple(Matrix(int(m), int(n), int(k), dtype, result) for m, n, k, dtype, result in _MATRIX.findall(text))
