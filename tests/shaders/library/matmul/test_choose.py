"""Schedules are a pure function of problem and device: one golden a device, and properties over random problems."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shaders import ShaderError
from shaders.capabilities import Capabilities
from shaders.library.matmul import MatmulProblem, choose, groups, misfit, workgroup
from shaders.library.matmul.choose import KEYS
from shaders.library.matmul.tiles import KERNELS, split_depth
from shaders.tuning import device_family, read_rows
from shaders.tuning.rows import FAMILIES
from tests.shaders.library.matmul.support import ACCUMULATORS, Case, make_kernel, product, tiled

FIXTURES = Path(__file__).parents[2] / "capabilities"
DEVICES = ["lavapipe22", "lavapipe26", "h100"]
SHAPES = [
    (1, 1, 1), (1, 1, 65536), (1, 4096, 4096), (4096, 1, 4096), (3, 5, 7), (8, 8, 8), (8, 4096, 4096), (32, 32, 32),
    (65, 65, 65), (128, 128, 128), (512, 512, 512), (1024, 16, 1024), (2048, 2048, 64), (4096, 4096, 4096),
    (64, 64, 65536),
]  # fmt: skip
DTYPES = ["f32", "f16", "i8", "f64", "c128"]


def capabilities(name: str) -> Capabilities:
    """Return the record of a device; "least" is a GPU of another vendor with no more than Vulkan promises."""
    if name == "least":
        h100 = capabilities("h100")
        sizes = {"subgroup_size": 64, "min_subgroup_size": 64, "max_subgroup_size": 64}
        return replace(h100, vendor_id=0, matrices=(), max_shared_bytes=16384, max_invocations=128, **sizes)
    return Capabilities.from_text((FIXTURES / f"{name}.json").read_text())


@pytest.mark.parametrize("name", DEVICES)
def test_choose(name: str, golden: Callable[..., None]) -> None:
    lines = []
    for dtype in DTYPES:
        for shape in SHAPES:
            problem = product(*shape, dtype)
            tiles = choose(problem, capabilities(name), may_split=True)
            lines.append(f"{dtype:5}{'x'.join(map(str, shape)):16}{tiles}; groups {groups(problem, tiles)[0]}")
    golden("\n".join(lines))


def test_choose_of_few_rows_depends_on_the_layout(golden: Callable[..., None]) -> None:
    lines = []
    for lhs, rhs in ((True, True), (True, False), (False, True), (False, False)):
        lines.append(f"lhs by {'rows' if lhs else 'columns'}, rhs by {'rows' if rhs else 'columns'}")
        for shape in ((1, 4096, 4096), (4096, 1, 4096), (4, 4096, 4096)):
            tiles = choose(product(*shape), capabilities("h100"), lhs_depth_contiguous=lhs, rhs_column_contiguous=rhs)
            lines.append(f"  {'x'.join(map(str, shape)):16}{tiles}")
    golden("\n".join(lines))


sizes = st.integers(1, 5000)
problems = st.builds(
    lambda rows, columns, depth, batch, dtype: MatmulProblem(
        batch, rows, columns, depth, dtype, dtype, str(ACCUMULATORS.get(dtype, dtype)), dtype
    ),
    sizes, sizes, sizes, st.integers(1, 9), st.sampled_from(DTYPES),
)  # fmt: skip


@pytest.mark.parametrize("name", [*DEVICES, "least"])
@given(problem=problems, lhs=st.booleans(), rhs=st.booleans())
@settings(max_examples=100, deadline=None)
def test_chosen_schedule_fits(name: str, problem: MatmulProblem, lhs: bool, rhs: bool) -> None:
    device = capabilities(name)
    tiles = choose(problem, device, lhs_depth_contiguous=lhs, rhs_column_contiguous=rhs, may_split=True)
    assert misfit(problem, tiles, device) is None
    assert workgroup(tiles)[0] <= device.max_invocations
    assert (tiles.splits - 1) * split_depth(problem, tiles) < problem.depth


def test_choose_splits_only_when_allowed() -> None:
    problem = product(64, 64, 65536)
    assert choose(problem, capabilities("h100")).splits == 1
    assert choose(problem, capabilities("h100"), may_split=True).splits > 1


def test_choose_leaves_matrix_units_alone_where_the_driver_has_none() -> None:
    device = capabilities("h100")
    assert choose(product(512, 512, 512, "f16"), device).kernel == "matrix"
    assert choose(product(512, 512, 512, "f16"), replace(device, matrices=())).kernel == "tiled"


def test_choose_takes_smaller_tiles_where_shared_memory_is_short() -> None:
    device = replace(capabilities("h100"), max_shared_bytes=16384)
    assert choose(product(2048, 2048, 2048), device).rows < choose(product(2048, 2048, 2048), capabilities("h100")).rows


def test_choose_without_a_fitting_row_names_every_reason() -> None:
    device = replace(capabilities("h100"), max_shared_bytes=1024, matrices=())
    with pytest.raises(ShaderError, match="of at most 1024") as raised:
        choose(product(64, 64, 64), device)
    assert [line.split(":")[0].strip() for line in str(raised.value).splitlines()[1:]] == ["got", "want", "fix"]


def test_emit_refuses_a_schedule_that_does_not_fit() -> None:
    device = replace(capabilities("h100"), max_shared_bytes=1024)
    with pytest.raises(ShaderError, match="bytes of shared memory of at most 1024"):
        make_kernel(Case(product(8, 8, 8)), tiled((128, 128, 16), (8, 8)), capabilities=device)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_say_only_what_is_understood(family: str) -> None:
    rows = read_rows(family, "matmul")
    assert rows
    assert all(row.keys() <= KEYS and row["kernel"] in KERNELS for row in rows)


def test_read_rows_of_an_unknown_family_is_an_error() -> None:
    with pytest.raises(ShaderError, match="known families"):
        read_rows("abacus", "matmul")


def test_device_family_follows_type_and_vendor() -> None:
    families = [device_family(capabilities(name)) for name in DEVICES]
    assert families == ["lavapipe", "lavapipe", "nvidia"]
    assert device_family(replace(capabilities("h100"), vendor_id=0x1002)) == "default"
