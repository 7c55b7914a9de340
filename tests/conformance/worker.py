"""The child process: reads names of cases from its input, runs each, writes one line of JSON for each.

A case that takes the process down takes nothing else with it; the parent starts another.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Arrays = list[np.ndarray]

# What a line of the record keeps of an error.
DETAIL_CHARACTERS = 2000


def main(platform: str) -> None:
    """Answer until the input ends. Answers go to the original standard output; whatever libraries print, elsewhere."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    import jax

    from . import harnesses

    device, reference = jax.devices(platform)[0], jax.devices("cpu")[0]
    print(json.dumps({"ready": device.device_kind, "jax": jax.__version__}), file=answers)
    known = {case.name: case for case in harnesses.all_cases()}
    for line in sys.stdin:
        name = line.strip()
        start = time.monotonic()
        verdict = judge(name, known[name].primitive, device, reference)
        answer = asdict(verdict) | {"detail": verdict.detail[:DETAIL_CHARACTERS], "seconds": time.monotonic() - start}
        print(json.dumps(answer), file=answers)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of a case, what to say about it, and how far the results lie apart."""

    outcome: str
    detail: str = ""
    roundings: float = 0.0


def judge(name: str, primitive: str, device: Any, reference: Any) -> Verdict:
    """Run one case on both devices and compare."""
    from . import harnesses, outcomes

    reason = harnesses.skip_reason(name)
    if reason is not None:
        return Verdict(outcomes.NO_REFERENCE, reason)
    try:
        (want,), depth, inputs = harnesses.run_case(name, [reference])
    except Exception as error:  # whatever JAX raises on its own CPU: nothing to compare with
        return Verdict(outcomes.NO_REFERENCE, f"{type(error).__name__}: {error}")
    try:
        (got,), _, _ = harnesses.run_case(name, [device])
    except Exception as error:  # the point of the run is to collect every error
        text = f"{type(error).__name__}: {error}"
        outcome = outcomes.outcome_of_error(text)
        return Verdict(outcome, text if outcome != outcomes.ERROR else traceback.format_exc()[-DETAIL_CHARACTERS:])
    if len(got) != len(want):
        return Verdict(outcomes.WRONG, f"{len(got)} results, want {len(want)}")
    return compare(primitive, depth, inputs, got, want)


def compare(primitive: str, depth: int, inputs: Arrays, got: Arrays, want: Arrays) -> Verdict:
    """Compare results with JAX's CPU; where they are apart, with a more precise answer if the primitive has one."""
    from . import outcomes, truth
    from .tolerance import bound_for, difference, roundings_used

    bound = bound_for(primitive, depth, inputs)
    pairs = list(zip(got, want, strict=True))
    roundings = max((roundings_used(*pair, bound) for pair in pairs), default=0.0)
    worst = next((text for pair in pairs if (text := difference(*pair, bound)) is not None), None)
    if worst is None:
        return Verdict(outcomes.PASS, "", roundings)
    true = truth.result(primitive, inputs, want)
    if true is None or difference(got[0], true, bound) is not None:
        return Verdict(outcomes.WRONG, worst, roundings)
    ours, theirs = (roundings_used(result, true, bound) for result in (got[0], want[0]))
    said = f"{truth.REASONS[primitive]}; from the truth: this platform {ours:.2g}, JAX's CPU {theirs:.3g} roundings"
    return Verdict(outcomes.PASS, said, ours)


if __name__ == "__main__":
    main(sys.argv[1])
