"""What a tuner may measure: rows that apply and whole sweeps, all of which the device can run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from shaders.capabilities import Capabilities
from shaders.library.matmul import MatmulProblem, candidates, choose, misfit
from shaders.library.matmul.candidates import ALTERNATIVES, sweep_rows
from shaders.library.matmul.choose import KEYS
from shaders.spirv.validate import is_available, validate
from shaders.tuning import read_rows
from shaders.tuning.rows import FAMILIES
from tests.shaders.library.matmul.support import Case, make_kernel, product

FIXTURES = Path(__file__).parents[2] / "capabilities"
H100, LAVAPIPE = (Capabilities.from_text((FIXTURES / f"{name}.json").read_text()) for name in ("h100", "lavapipe22"))
PROBLEMS = {
    "square": (256, 256, 256), "ragged": (65, 67, 129), "few rows": (3, 4096, 512), "one row": (1, 4096, 4096),
    "few columns": (4096, 4, 512), "head": (512, 64, 512),
}  # fmt: skip


def test_sweep_rows_are_every_combination() -> None:
    rows = list(sweep_rows({"kernel": "tiled", "depth": [8, 16], "tile": [[4, 4], [8, 8]], "least_rows": 3}))
    assert [row["tile"] for row in rows] == [[4, 4, 8], [8, 8, 8], [4, 4, 16], [8, 8, 16]]
    assert all(row["kernel"] == "tiled" and row["least_rows"] == 3 for row in rows)


@pytest.mark.parametrize("family", FAMILIES)
def test_sweeps_say_what_rows_may_say(family: str) -> None:
    sweeps = read_rows(family, "sweep")
    assert sweeps
    for sweep in sweeps:
        assert sweep.keys() <= KEYS | set(ALTERNATIVES)
        assert all(isinstance(sweep[name], list) for name in ALTERNATIVES if name in sweep)


@pytest.mark.parametrize("dtype", ["f32", "f16", "i8", "f64"])
@pytest.mark.parametrize("shape", PROBLEMS.values(), ids=PROBLEMS)
def test_candidates_fit_differ_and_hold_the_default(
    capabilities: Capabilities, shape: tuple[int, int, int], dtype: str
) -> None:
    problem = product(*shape, dtype)
    found = candidates(problem, capabilities)
    assert len({str(tiles) for tiles in found}) == len(found) >= 3
    assert choose(problem, capabilities) in found
    assert all(misfit(problem, tiles, capabilities) is None for tiles in found)


def test_a_smaller_device_has_fewer_candidates() -> None:
    problem = product(256, 256, 256, "f16")
    small = replace(H100, max_shared_bytes=16384)
    assert 0 < len(candidates(problem, small)) < len(candidates(problem, H100))


@pytest.mark.parametrize(("depth", "kernels"), [(65535, {"registers", "vector"}), (65536, {"vector"})])
def test_no_loop_goes_round_more_often_than_the_driver_lets_it(depth: int, kernels: set[str]) -> None:
    found = candidates(product(4, 64, depth), LAVAPIPE)
    assert {tiles.kernel for tiles in found} == kernels


def test_candidates_depend_on_how_operands_lie() -> None:
    problem = product(1, 4096, 4096)
    assert candidates(problem, H100) != candidates(problem, H100, rhs_column_contiguous=False)


EMITTED = [
    (name, dtype, first)
    for name in PROBLEMS
    for dtype, step in (("f16", 16), ("f32", 8), ("i8", 16))
    for first in range(step)
]


@pytest.mark.parametrize(
    ("name", "dtype", "first"),
    [pytest.param(*row, marks=[] if row[2] == 0 else pytest.mark.exhaustive) for row in EMITTED],
)
def test_candidates_make_valid_code(name: str, dtype: str, first: int) -> None:
    problem: MatmulProblem = product(*PROBLEMS[name], dtype)
    for tiles in candidates(problem, H100)[first :: 8 if dtype == "f32" else 16]:
        kernel = make_kernel(Case(problem, vectors=name == "square"), tiles, capabilities=H100)
        assert kernel.shared_bytes <= H100.max_shared_bytes
        if is_available():
            validate(kernel.words)
