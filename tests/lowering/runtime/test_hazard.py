"""The hazard checker finds missing barriers, and only those."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lowering.errors import GraphError
from lowering.program import Barrier, Dispatch, Program, Region, Repeat, Step
from lowering.runtime.hazard import check_hazards, find_hazards

from . import kernels

COPY = kernels.scale(64)


def _program(*steps: Step, aliases: tuple[tuple[int, int], ...] = ()) -> Program:
    floats = kernels.floats(64)
    return Program("p", (COPY,), steps, (floats, floats), (floats, floats), (), 4096, aliases)


def _copy(source: Region, target: Region, label: str = "") -> Dispatch:
    return Dispatch(0, (source, target), (1, 1, 1), label=label)


def _arena(offset: int, nbytes: int = 256) -> Region:
    return Region("arena", 0, offset, nbytes)


X, Y = Region("input", 0, 0, 256), Region("input", 1, 0, 256)
OUT, OUT_1 = Region("output", 0, 0, 256), Region("output", 1, 0, 256)


def test_read_after_write_without_a_barrier_is_a_hazard() -> None:
    (hazard,) = find_hazards(_program(_copy(X, _arena(0), "first"), _copy(_arena(0), OUT, "second")))
    assert (hazard.first, hazard.second, hazard.kind) == ("first", "second", "read after write")


def test_a_barrier_removes_the_hazard() -> None:
    assert find_hazards(_program(_copy(X, _arena(0)), Barrier(), _copy(_arena(0), OUT))) == []


def test_two_writes_of_the_same_bytes_are_a_hazard() -> None:
    assert len(find_hazards(_program(_copy(X, OUT), _copy(Y, OUT)))) == 1


def test_write_after_read_is_a_hazard() -> None:
    assert len(find_hazards(_program(_copy(_arena(0), OUT), _copy(X, _arena(0))))) == 1


def test_reads_of_the_same_bytes_are_none() -> None:
    assert find_hazards(_program(_copy(X, OUT), _copy(X, OUT_1))) == []


def test_neighbours_do_not_overlap() -> None:
    assert find_hazards(_program(_copy(X, _arena(0)), _copy(Y, _arena(256)))) == []


def test_a_partial_overlap_is_a_hazard() -> None:
    assert len(find_hazards(_program(_copy(X, _arena(0, 512)), _copy(Y, _arena(256))))) == 1


def test_one_dispatch_may_work_in_place() -> None:
    assert find_hazards(_program(_copy(OUT, OUT))) == []


def test_an_aliased_output_is_the_memory_of_its_input() -> None:
    steps = (_copy(X, OUT_1), _copy(Y, OUT))
    assert find_hazards(_program(*steps)) == []
    assert len(find_hazards(_program(*steps, aliases=((0, 0),)))) == 1


def test_loops_are_fences_and_are_checked_inside() -> None:
    inside = Repeat(3, (_copy(X, _arena(0)), _copy(_arena(0), OUT)))
    assert len(find_hazards(_program(_copy(X, OUT), inside))) == 1
    fine = Repeat(3, (_copy(X, _arena(0)), Barrier(), _copy(_arena(0), OUT)))
    assert find_hazards(_program(_copy(X, OUT), fine, _copy(OUT, OUT_1))) == []


def test_a_guard_flag_is_read() -> None:
    program = kernels.while_program(3)
    steps = tuple(step for step in program.steps if not isinstance(step, Barrier))
    assert find_hazards(program) == []
    assert find_hazards(replace(program, steps=steps)) == []  # the While itself is a fence
    flag_writer, condition = steps[1], steps[2].condition[0]  # pyright: ignore[reportAttributeAccessIssue]
    found = find_hazards(replace(program, steps=(flag_writer, condition)))
    assert {hazard.kind for hazard in found} == {"write after write", "read after write"}


def test_check_names_the_dispatches_and_the_bytes() -> None:
    program = _program(_copy(X, _arena(0), "first"), _copy(_arena(0), OUT, "second"))
    with pytest.raises(GraphError, match="first and second: read after write on arena 0 bytes 0 to 256"):
        check_hazards(program)
    clean = kernels.chain_program(64, 3)
    assert check_hazards(clean) is clean
