"""What became of each public kernel on a device, and the table in Markdown that docs/kernels.md holds."""

from __future__ import annotations

import collections
from collections.abc import Iterable
from dataclasses import dataclass

from tests.pallas.public import VENDOR

RUNS, REFUSED, WRONG, FAILS = "runs", "refused", "wrong", "fails"
"""Within its bound; refused by an error of the compiler; beyond its bound; everything else."""
FINE = (RUNS, REFUSED)
# The error that says a program is refused, on the platform.
UNIMPLEMENTED = "UNIMPLEMENTED: "

BACKWARD = ".backward"
# What each kernel computes; those that end in `.backward` are gradients.
WHAT: dict[str, str] = {
    "gpu.attention.mha": "attention over heads",
    "gpu.attention.mha_causal": "attention to earlier keys",
    "gpu.attention.mha_segments": "attention inside segments",
    "gpu.decode_attention.mqa": "one query a head, one key head, keys of given lengths",
    "gpu.decode_attention.gqa": "one query a head, key heads for groups",
    "gpu.paged_attention": "one query a head, keys by a table of pages",
    "gpu.layer_norm": "layer norm of rows",
    "gpu.rms_norm": "rows divided by their root mean square",
    "gpu.softmax": "softmax of rows",
    "tpu.example_kernel": "twice an array",
    "tpu.matmul": "matrix product, depth along the grid",
    "tpu.megablox.gmm": "product of groups of rows, each with its own matrix",
    "tpu.megablox.tgmm": "products of runs of columns and rows",
    "tpu.flash_attention": "attention over heads",
    "tpu.flash_attention_causal": "attention to earlier keys",
    "tpu.flash_attention_biased": "attention with a bias, inside segments",
    "tpu.splash_attention": "attention by a mask of blocks",
    "tpu.splash_attention_causal": "attention to earlier keys by a mask of blocks",
    "tpu.splash_attention_local": "attention to a window of keys, one key head",
    "tpu.random.threefry": "random bits, Threefry",
    "tpu.random.philox": "random bits, Philox",
}


@dataclass(frozen=True)
class Outcome:
    """One row on one device.

    Args:
        name: of the row.
        outcome: RUNS, REFUSED, WRONG or FAILS.
        detail: the error, or the difference; empty where it runs.
        first: processor seconds of the first call, which compiles.
        again: seconds of the second.
        share: the largest error over its bound; 0 where results are exactly the formula's.
    """

    name: str
    outcome: str
    detail: str = ""
    first: float = 0.0
    again: float = 0.0
    share: float = 0.0


def outcome_of_error(name: str, text: str) -> Outcome:
    """Tell a refusal, which says what is asked for too much, from a failure."""
    return Outcome(name, REFUSED if UNIMPLEMENTED in text else FAILS, text)


def what(name: str) -> str:
    """Say what a row computes."""
    told = WHAT[name.removesuffix(BACKWARD)]
    return f"gradient of {told}" if name.endswith(BACKWARD) else told


def markdown(outcomes: Iterable[Outcome]) -> str:
    """Write the table of the kernels, then that of the modules for one vendor's machines."""
    kernels = _table(
        ("kernel", "computes", "outcome", "compile, s", "run, s", "error / bound"),
        "lllrrr",
        (_row(each) for each in outcomes),
    )
    vendor = _table(
        ("module", "in its source", "which is"),
        "lll",
        ((f"`{name}`", f"`{word}`", meaning) for name, (word, meaning) in sorted(VENDOR.items())),
    )
    return f"{kernels}\n\n{vendor}"


def counts(outcomes: Iterable[Outcome]) -> str:
    """Say in one line how many rows came to which end."""
    found = collections.Counter(each.outcome for each in outcomes)
    return f"{found.total()} kernels: {', '.join(f'{number} {outcome}' for outcome, number in found.most_common())}"


def short(detail: str) -> str:
    """Return the rule of an error and what was got, in one line."""
    lines = [line.strip() for line in detail.replace(UNIMPLEMENTED, "").splitlines() if line.strip()]
    got = next((line.removeprefix("got:").strip() for line in lines if line.startswith("got:")), "")
    return f"{lines[0]} Got {got}" if got else lines[0] if lines else ""


def _row(outcome: Outcome) -> tuple[str, ...]:
    name = f"`{outcome.name}`"
    if outcome.outcome != RUNS:
        return (name, what(outcome.name), f"{outcome.outcome}: {_cell(short(outcome.detail))}", "", "", "")
    share = f"{outcome.share:.1g}" if outcome.share else "exact"
    return (name, what(outcome.name), RUNS, f"{outcome.first:.1f}", f"{outcome.again:.3f}", share)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _table(head: tuple[str, ...], sides: str, rows: Iterable[tuple[str, ...]]) -> str:
    ruler = tuple("---:" if side == "r" else "---" for side in sides)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ruler, *rows))
