"""How long a tile should be on a device, and how tiles are shared out among workers."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ..errors import OptionError, refuse


@dataclass(frozen=True)
class DeviceLimits:
    """What a device offers to a tile; the defaults are the least that Vulkan allows, on units that hold two.

    Attributes:
        workgroup_bytes: shared memory that one workgroup may use.
        unit_bytes: shared memory of a compute unit, which the workgroups on it divide.
        element_bytes: of one number of a key or value.
    """

    workgroup_bytes: int = 16384
    unit_bytes: int = 32768
    element_bytes: int = 4


def tile_size(keys: int, width: int, channels: int, limits: DeviceLimits | None = None) -> int:
    """Choose the longest tile whose keys and values fit into shared memory twice over.

    The largest power of two B with B (width + channels) element_bytes <= min(workgroup_bytes, unit_bytes / 2), and no
    more than the next power of two above ``keys``. Two workgroups fit a compute unit, so that one computes while the
    other loads; the softmax state is in registers. Runs on the host; not traceable.

    Args:
        keys: length of the axis, at least 1.
        width: of a key, at least 1.
        channels: of a value, at least 0.
        limits: of the device.

    Raises:
        OptionError: a size is out of range, or not even one key and value fit.

    Example:
        >>> tile_size(4096, width=64, channels=64)
        32
    """
    limits = limits or DeviceLimits()
    room = min(limits.workgroup_bytes, limits.unit_bytes // 2)
    row_bytes = (width + channels) * limits.element_bytes
    if keys < 1 or width < 1 or channels < 0 or not 0 < row_bytes <= room:
        refuse(
            OptionError,
            "tile_size: at least one key and its value must fit into shared memory.",
            got=f"keys={keys}, width={width}, channels={channels}, {limits}",
            want=f"positive sizes, and a row of at most {room} bytes",
            fix="split the width over several passes, or choose a device with more shared memory.",
        )
    fitting = 1 << ((room // row_bytes).bit_length() - 1)
    return min(fitting, 1 << (keys - 1).bit_length())


def partition(work: Float[Array, " tiles"], groups: int) -> Int[Array, " tiles"]:
    """Share out consecutive tiles among groups so that all have nearly equal work.

    group of a tile = floor(groups (work before it + half of its own) / all work)

    Args:
        work: of each tile, zero or more.
        groups: how many, at least 1.

    Returns:
        The group of each tile, which never falls from one tile to the next. No group has more than all work / groups
        plus the largest tile's. All tiles are of group 0 where there is no work.

    Raises:
        OptionError: ``groups`` is below 1.

    Example:
        >>> partition(jnp.asarray([3.0, 1.0, 1.0, 1.0]), 2).tolist()
        [0, 1, 1, 1]
    """
    if groups < 1:
        refuse(
            OptionError, "partition: there is a group.", got=f"groups={groups}", want="groups >= 1", fix="raise groups."
        )
    reached = jnp.cumsum(work)
    total = jnp.where(reached[-1] > 0, reached[-1], 1)
    place = jnp.floor(groups * (reached - work / 2) / total).astype(jnp.int32)
    # Rounding of prefix sums may put a tile before its neighbour.
    return lax.cummax(jnp.clip(place, 0, groups - 1))
