"""The child process: reads names of cases from its input, runs each, writes one line of JSON for each.

A case that takes the process down takes nothing else with it; the parent starts another.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from typing import Any

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
        outcome, detail = judge(name, known[name].primitive, device, reference)
        answer = {"outcome": outcome, "detail": detail[:DETAIL_CHARACTERS], "seconds": time.monotonic() - start}
        print(json.dumps(answer), file=answers)


def judge(name: str, primitive: str, device: Any, reference: Any) -> tuple[str, str]:
    """Run one case on both devices; return its outcome and what to say about it."""
    from . import harnesses, outcomes
    from .tolerance import bound_for, difference

    reason = harnesses.skip_reason(name)
    if reason is not None:
        return outcomes.NO_REFERENCE, reason
    try:
        (want,), depth, inputs = harnesses.run_case(name, [reference])
    except Exception as error:  # whatever JAX raises on its own CPU: nothing to compare with
        return outcomes.NO_REFERENCE, f"{type(error).__name__}: {error}"
    try:
        (got,), _, _ = harnesses.run_case(name, [device])
    except Exception as error:  # the point of the run is to collect every error
        text = f"{type(error).__name__}: {error}"
        outcome = outcomes.outcome_of_error(text)
        return outcome, text if outcome != outcomes.ERROR else traceback.format_exc()[-DETAIL_CHARACTERS:]
    if len(got) != len(want):
        return outcomes.WRONG, f"{len(got)} results, want {len(want)}"
    bound = bound_for(primitive, depth, inputs)
    found = (difference(*pair, bound) for pair in zip(got, want, strict=True))
    worst = next((text for text in found if text is not None), None)
    return (outcomes.PASS, "") if worst is None else (outcomes.WRONG, worst)


if __name__ == "__main__":
    main(sys.argv[1])
