"""The table of numbers of a report, each with what it means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..analyse import FLOW_TIME
from .contents import Half, Report


@dataclass(frozen=True)
class Row:
    """One number.

    Attributes:
        name: what it is called.
        values: as text, one for each backend.
        meaning: one sentence for people.
    """

    name: str
    values: tuple[str, ...]
    meaning: str


# Name, how to read it from a half, meaning.
_Reader = tuple[str, Callable[[Half], str], str]


def collect_numbers(report: Report) -> list[Row]:
    """Gather the numbers of both backends."""
    halves = list(report.halves.values())
    rows = _training_rows(report.model.vocabulary) + _head_rows()
    table = [Row(name, tuple(value(half) for half in halves), meaning) for name, value, meaning in rows]
    return table + _difference_rows(halves)


def _training_rows(vocabulary: int) -> list[_Reader]:
    return [
        ("device", lambda half: half.device, "Where the steps ran."),
        ("steps", lambda half: str(half.checkpoint.step), "How often the parameters were changed."),
        (
            "first loss",
            lambda half: f"{half.checkpoint.losses[0]:.6f}",
            f"Surprise before learning, in nats; blind guessing among {vocabulary} characters costs "
            f"{np.log(vocabulary):.3f}.",
        ),
        ("last loss", lambda half: f"{half.checkpoint.losses[-1]:.6f}", "Surprise on the last batch, in nats."),
        (
            "loss on drawn text",
            lambda half: f"{float(half.look.loss):.6f}",
            "Surprise on examples drawn anew from the same text, less noisy than one batch.",
        ),
        (
            "bits per character",
            lambda half: f"{float(half.look.loss) / np.log(2):.3f}",
            "The same surprise in bits: how well the model would compress the text.",
        ),
        (
            "median step",
            lambda half: f"{1e3 * half.median_seconds:.2f} ms",
            "Half of the steps took less time than this.",
        ),
        (
            "first step",
            lambda half: f"{1e3 * float(half.checkpoint.seconds[0]):.0f} ms",
            "The first step also waits for what the driver builds when a program runs for the first time.",
        ),
        (
            "compile time",
            lambda half: f"{half.compile_seconds:.2f} s",
            "From the traced training step to a program that runs, once.",
        ),
    ]


def _head_rows() -> list[_Reader]:
    return [
        (
            "mean row entropy",
            lambda half: f"{_mean(half, 'row_entropy'):.4f} nats",
            "How spread attention is; e to this power is the number of characters a row looks at.",
        ),
        (
            f"the same after flow, t = {FLOW_TIME:g}",
            lambda half: f"{_mean(half, 'flowed_entropy'):.4f} nats",
            "Entropy after heat flow, which first spreads a row; in causal heads all of it ends on the first place.",
        ),
        (
            "mean effective rank",
            lambda half: f"{_mean(half, 'effective_rank'):.3f}",
            "How many different ways of looking the rows of a head have; 1 means that all rows look alike.",
        ),
        (
            "flow tail bound",
            lambda half: f"{float(half.look.tail):.2e}",
            "Apart from rounding, no row of a flowed map differs from the exact one by more than this total variation.",
        ),
        (
            "energy finer than 4 characters",
            lambda half: f"{np.mean([head.spectrum[-2:].sum() for head in half.heads]):.3f}",
            "Share of the maps' squared weight in the two finest Haar scales: high for heads that pick single places.",
        ),
    ]


def _difference_rows(halves: list[Half]) -> list[Row]:
    if len(halves) < 2:
        return []
    first, second = halves
    losses = np.abs(first.checkpoint.losses - second.checkpoint.losses) / first.checkpoint.losses
    maps = float(np.max(np.abs(first.look.maps - second.look.maps)))
    return [
        Row(
            "largest loss difference",
            ("", f"{losses.max():.2e}"),
            "Largest relative difference of the two losses over all steps.",
        ),
        Row(
            "largest map difference",
            ("", f"{maps:.2e}"),
            "Largest difference of any attention weight between the two trained models.",
        ),
    ]


def _mean(half: Half, field: str) -> float:
    return float(np.mean([np.mean(getattr(head, field)) for head in half.heads]))
