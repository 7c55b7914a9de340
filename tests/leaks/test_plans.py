"""The arena of every plan is at most a tenth above what is alive at once."""

from __future__ import annotations

import functools

import pytest

from lowering.compiler import compile_graph
from lowering.program import Program
from shaders.capabilities import Capabilities

from ..lowering.programs import PROGRAMS, graph_of

MOST_ABOVE = 1.1


@functools.cache
def plan(name: str, capabilities: Capabilities, *, donated: bool) -> Program:
    function, arguments = PROGRAMS[name]
    options = {"donate_argnums": 0} if donated else {}
    return compile_graph(graph_of(function, *arguments, **options), capabilities)


@pytest.mark.parametrize("donated", [False, True], ids=["kept", "donated"])
@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.filterwarnings("ignore:Some donated buffers were not usable")
def test_arena_is_near_its_bound(capabilities: Capabilities, name: str, donated: bool) -> None:
    program = plan(name, capabilities, donated=donated)
    assert program.liveness_bound_bytes <= program.arena_bytes <= MOST_ABOVE * program.liveness_bound_bytes
