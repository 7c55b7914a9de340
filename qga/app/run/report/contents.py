"""What a report shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..adapt import Adapted
from ..analyse import HeadNumbers, Look
from ..checkpoint import Checkpoint
from ..model import ModelConfig
from ..text import Text
from ..train import TrainConfig


@dataclass(frozen=True)
class Half:
    """One backend's half of a run.

    Attributes:
        checkpoint: the end of the training.
        compile_seconds: from the traced step to something that runs; zero when nothing was left to train.
        device: its name.
        look: what the device computed from the trained model.
        heads: the numbers of its heads.
    """

    checkpoint: Checkpoint
    compile_seconds: float
    device: str
    look: Look
    heads: list[HeadNumbers]

    @property
    def median_seconds(self) -> float:
        """Median wall time of a step."""
        return float(np.median(self.checkpoint.seconds))


@dataclass(frozen=True)
class Report:
    """A whole run.

    Attributes:
        command: that repeats it.
        text: what was learned.
        model: sizes.
        train: seed, batches, optimiser.
        halves: by backend, in the order they ran; at least one.
        missing: why there is no Vulkan half although one was wished for; empty otherwise.
        shown: the characters of the example whose attention maps are shown.
        sample: text written by the trained model.
        adapted: what adaptive attention leaves out of the heads of the last half.
    """

    command: str
    text: Text
    model: ModelConfig
    train: TrainConfig
    halves: dict[str, Half]
    missing: str
    shown: str
    sample: str
    adapted: Adapted
