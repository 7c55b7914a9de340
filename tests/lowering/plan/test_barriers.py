"""Every program has the barriers it needs, and none of those between dispatches is there for nothing."""

from __future__ import annotations

import pytest

from lowering.runtime.hazard import check_hazards, find_hazards

from ..running import Variant
from .support import MACHINES, PLANNED, planned, without_each_barrier


@pytest.mark.parametrize("on", MACHINES)
@pytest.mark.parametrize(("name", "variant"), PLANNED)
def test_programs_have_no_hazard(name: str, variant: Variant, on: str) -> None:
    check_hazards(planned(name, variant, on))


@pytest.mark.parametrize(("name", "variant"), PLANNED)
def test_every_removed_barrier_is_a_hazard(name: str, variant: Variant) -> None:
    for number, program in enumerate(without_each_barrier(planned(name, variant))):
        assert find_hazards(program), f"barrier {number} guards nothing"


def test_the_corpus_has_many_barriers() -> None:
    count = sum(1 for name, variant in PLANNED for _ in without_each_barrier(planned(name, variant)))
    assert count > 100
