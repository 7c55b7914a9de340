"""Audits: what a few random rows, computed again exactly, say of all rows, without any bound of scores."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..errors import OptionError, refuse

ByHead = Float[Array, "*batch heads"]

# Halvings of the interval in which a bound lies, until its ends are neighbours in float64.
_HALVINGS = 60
# Terms below this part of their sum are left out, and the sum is raised by as much.
_NEGLIGIBLE = 1e-17


@dataclass(frozen=True)
class Audit:
    """Compute random queries of each head again, exactly, and the whole head where too many of them are off.

    Attributes:
        rows: queries of each head, drawn with replacement.
        tolerance: length of an error that is too much, in root mean square lengths of values; 0 or more.
        share: of the queries of a head that may be off by more, above 0 and below 1.
        confidence: with which no more are, above 0 and below 1: of many heads that are worse, a part of at most
            1 - confidence passes.
    """

    rows: int = 256
    tolerance: float = 1e-2
    share: float = 0.02
    confidence: float = 0.99


class Audited(NamedTuple):
    """What an audit found, of each head.

    Attributes:
        failures: of the rows, how many were off by more than the tolerance.
        largest: the largest error of them, in root mean square lengths of values.
        share: with the confidence that was asked for, at most this share of the queries was off by more. Where
            ``is_again``, of the result that was thrown away.
        is_again: the head was computed again, exactly.
        rows: that were computed.
        tolerance: as it was asked for.
        confidence: likewise.
    """

    failures: Int[Array, "*batch heads"]
    largest: ByHead
    share: ByHead
    is_again: Bool[Array, "*batch heads"]
    rows: Int[Array, "*batch heads"]
    tolerance: ByHead
    confidence: ByHead


@lru_cache(maxsize=64)
def share_bounds(rows: int, confidence: float) -> tuple[float, ...]:
    """Bound the share of all rows that fail from how many of some random rows do, whatever the others are.

    For k failures of m rows, the p with P(at most k failures | p) = 1 - confidence: the upper end of the one-sided
    interval of Clopper and Pearson. No distribution of errors is assumed; without failures p = 1 - (1 -
    confidence)^(1/m).

    Args:
        rows: m, at least 1, drawn independently with replacement.
        confidence: above 0 and below 1.

    Returns:
        One for each number of failures from 0 to ``rows``, rounded up.

    Raises:
        OptionError: a number is out of range.

    Source: Clopper and Pearson 1934.

    Example:
        >>> [round(bound, 4) for bound in share_bounds(256, 0.99)[:3]]
        [0.0178, 0.0256, 0.0324]
    """
    if rows < 1 or not 0 < confidence < 1:
        refuse(
            OptionError,
            "share_bounds: some rows, and a confidence between none and certainty.",
            got=f"rows={rows}, confidence={confidence}",
            want="rows >= 1, 0 < confidence < 1",
            fix="choose numbers in range.",
        )
    failures = np.arange(rows, dtype=np.float64)
    low, high = failures / rows, np.ones(rows)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        # The share is too small while so few failures are likelier than is left.
        is_small = _at_most(failures, rows, middle) > 1 - confidence
        low, high = np.where(is_small, middle, low), np.where(is_small, high, middle)
    # The sums are right to a few of these.
    high = np.minimum(high * (1 + 1e-9), 1)
    return (*high.tolist(), 1.0)


def allowed_failures(audit: Audit) -> int:
    """Return with how many failures an audit still passes; -1 where none of its rows would be enough."""
    return sum(bound <= audit.share for bound in share_bounds(audit.rows, audit.confidence)) - 1


def _at_most(failures: np.ndarray, rows: int, share: np.ndarray) -> np.ndarray:
    """Return the probability of at most so many failures, where the share is at least that of them."""
    tables = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, rows + 1)))])
    count = failures.astype(int)
    with np.errstate(divide="ignore", invalid="ignore"):
        ways = tables[rows] - tables[count] - tables[rows - count]
        log_first = ways + np.where(failures > 0, failures * np.log(share), 0) + (rows - failures) * np.log1p(-share)
        odds = (1 - share) / share
    # From the largest term down: P(k - 1) / P(k) = k (1 - p) / ((m - k + 1) p), which is below 1 and falls.
    term, total, step = np.ones(len(failures)), np.ones(len(failures)), 0
    while np.any(term > _NEGLIGIBLE * total):
        term = term * np.maximum(failures - step, 0) / (rows - failures + step + 1) * odds
        total, step = total + term, step + 1
    return np.exp(log_first) * total
