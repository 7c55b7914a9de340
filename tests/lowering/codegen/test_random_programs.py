"""Random graphs through the whole compiler: the device computes what NumPy computes, donated or not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from lowering import reference
from lowering.compiler import compile_graph, optimise
from lowering.graph import Graph
from lowering.runtime import Device
from lowering.runtime.hazard import check_hazards
from shaders.capabilities import Capabilities

from ..running import STYLES, Style, run, styled
from .random_programs import arguments, graphs

# Sums of at most 24 numbers below ten, and a few elementary functions after each other.
ALLOWED = 1e-4
QUIET = (
    HealthCheck.too_slow,
    HealthCheck.function_scoped_fixture,
    HealthCheck.data_too_large,
    HealthCheck.filter_too_much,
)
SETTINGS = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=QUIET)


@pytest.mark.parametrize("style", STYLES)
@SETTINGS
@given(graph=graphs())
def test_device_computes_what_numpy_computes(graph: Graph, style: Style, device: Device) -> None:
    program = check_hazards(compile_graph(graph, styled(device.capabilities, style)))
    want = reference.run(graph, *arguments())
    for donate in (False, True) if program.aliases else (False,):
        for got, expected in zip(run(device, program, arguments(), donate=donate), want, strict=True):
            np.testing.assert_allclose(got, expected, rtol=ALLOWED, atol=ALLOWED)


@pytest.mark.parametrize("style", STYLES)
@settings(SETTINGS, max_examples=100)
@given(graph=graphs())
def test_fusion_keeps_the_meaning(graph: Graph, style: Style, lavapipe: Capabilities) -> None:
    fused = optimise(graph, styled(lavapipe, style))
    for got, want in zip(reference.run(fused, *arguments()), reference.run(graph, *arguments()), strict=True):
        np.testing.assert_allclose(got, want, rtol=ALLOWED, atol=ALLOWED)


@pytest.mark.parametrize("style", STYLES)
@settings(SETTINGS, max_examples=100)
@given(graph=graphs())
def test_programs_have_no_hazard_and_respect_their_inputs(graph: Graph, style: Style, lavapipe: Capabilities) -> None:
    program = check_hazards(compile_graph(graph, styled(lavapipe, style)))
    # Blocks of 256 bytes weigh more in programs this small than in any other.
    assert program.arena_bytes <= 1.1 * program.liveness_bound_bytes + 1024
    assert set(program.aliases) <= set(graph.aliases)
