"""Tiles fit into shared memory, and groups of tiles have nearly equal work."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qga.errors import OptionError
from qga.tiling import DeviceLimits, partition, tile_size


def test_the_least_that_vulkan_allows_holds_32_rows_of_64() -> None:
    assert tile_size(4096, width=64, channels=64) == 32


def test_two_workgroups_share_a_unit() -> None:
    limits = DeviceLimits(workgroup_bytes=49152, unit_bytes=49152)
    assert tile_size(4096, width=64, channels=64, limits=limits) == 32
    assert tile_size(4096, width=64, channels=64, limits=DeviceLimits(49152, 232448)) == 64


def test_half_the_bytes_hold_twice_the_rows() -> None:
    assert tile_size(4096, width=64, channels=64, limits=DeviceLimits(element_bytes=2)) == 64


@given(
    st.integers(1, 5000), st.integers(1, 500), st.integers(0, 500), st.integers(4096, 10**6), st.integers(4096, 10**6)
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_the_tile_is_the_longest_that_fits(keys: int, width: int, channels: int, workgroup: int, unit: int) -> None:
    limits, row = DeviceLimits(workgroup, unit), 4 * (width + channels)
    room = min(workgroup, unit // 2)
    if row > room:
        with pytest.raises(OptionError):
            tile_size(keys, width, channels, limits)
        return
    tile = tile_size(keys, width, channels, limits)
    assert tile & (tile - 1) == 0
    assert tile * row <= room
    assert 2 * tile * row > room or tile >= keys > tile // 2


def test_tile_size_says_what_does_not_fit() -> None:
    with pytest.raises(OptionError, match=r"(?s)^tile_size: at least one key .*got:  keys=10, width=9000.*16384 bytes"):
        tile_size(10, width=9000, channels=1)


@given(st.lists(st.integers(0, 100), min_size=1, max_size=30), st.integers(1, 9))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_groups_are_consecutive_and_nearly_equal(work: list[int], groups: int) -> None:
    group = np.asarray(partition(jnp.asarray(work, jnp.float32), groups))
    assert np.all(np.diff(group) >= 0)
    assert 0 <= group[0] <= group[-1] < groups
    loads = np.bincount(group, weights=work, minlength=groups)
    assert loads.max() <= sum(work) / groups + max(work) + 1e-3


def test_equal_tiles_are_shared_equally_and_others_are_not() -> None:
    assert np.bincount(np.asarray(partition(jnp.ones(12), 4))).tolist() == [3, 3, 3, 3]
    assert partition(jnp.asarray([9.0, 1, 1, 1]), 2).tolist() == [0, 1, 1, 1]


def test_no_work_is_one_group() -> None:
    assert partition(jnp.zeros(3), 2).tolist() == [0, 0, 0]


def test_partition_refuses_no_groups() -> None:
    with pytest.raises(OptionError, match=r"^partition: there is a group\.\n  got:  groups=0"):
        partition(jnp.ones(3), 0)
