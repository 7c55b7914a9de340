"""What can become of a case, and how an error is sorted into a promised refusal or a defect."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

# Order of the printed columns. The first three are fine, the others are defects.
PASS = "pass"
UNSUPPORTED = "unsupported"
NO_REFERENCE = "no reference"
MISSING = "missing"
WRONG = "wrong"
ERROR = "error"
CRASH = "crash"
TIMEOUT = "timeout"
OUTCOMES = (PASS, UNSUPPORTED, NO_REFERENCE, MISSING, WRONG, ERROR, CRASH, TIMEOUT)
FINE = frozenset({PASS, UNSUPPORTED, NO_REFERENCE})

# Operations that this release does not promise; a program that holds one must fail with the error that names it.
OUTSIDE = frozenset(
    "convolution sort fft cholesky triangular_solve rng select_and_scatter "
    "all_gather all_reduce all_to_all collective_permute reduce_scatter infeed outfeed".split()
)
# And what XLA or JAX call by a name of their own.
OUTSIDE_CALLS = frozenset(
    "ApproxTopK Qr ProductOfElementaryHouseholderReflectors eig eigh schur hessenberg tridiagonal geqp3 "
    "check debug_callback debug_print io_callback pure_callback".split()
)
PROMISED_DTYPES = frozenset("bool i8 i16 i32 i64 u8 u16 u32 u64 f16 bf16 f32 f64 c64 c128".split())


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one case.

    `detail` is empty when it passed against JAX's CPU; `roundings` is the largest difference in the unit of `Bound`.
    """

    name: str
    primitive: str
    dtype: str
    x64: bool
    outcome: str
    detail: str = ""
    seconds: float = 0.0
    roundings: float = 0.0

    def as_record(self) -> dict[str, Any]:
        """Return plain data for the record file."""
        return asdict(self)


def outcome_of_error(text: str) -> str:
    """Sort an error of the platform under test: a refusal that names only what is outside the promise is fine."""
    refused = refusals(text)
    if refused is None:
        return ERROR
    return UNSUPPORTED if refused and all(map(is_outside, refused)) else MISSING


def refusals(text: str) -> frozenset[str] | None:
    """Return what an error says it cannot lower, or None when it is another kind of error.

    Operations are returned by name, dtypes as `dtype NAME`, custom calls as `@TARGET`.
    """
    if "must have a Vulkan lowering" not in text:
        return None
    (got,) = re.findall(r"^  got:  (.*)$", text, re.MULTILINE)
    operations = (target or name for name, target in re.findall(r"operation (\w+)(?: (@\S+))? \(", got))
    return frozenset(operations) | frozenset(re.findall(r"(dtype \w+) \(", got))


def is_outside(refused: str) -> bool:
    """Say whether the promise leaves out this operation, call or dtype."""
    if refused.startswith("@"):
        return refused[1:] in OUTSIDE_CALLS
    dtype = refused.removeprefix("dtype ")
    return refused in OUTSIDE if dtype == refused else dtype not in PROMISED_DTYPES
