"""The options of ``qga run`` and the configuration they make."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import OptionError, refuse

_DESCRIPTION = """\
Train a small character-level transformer on a text, once on the CPU and once on the platform `vulkan`, from the same
start and with the same batches. Then compare the two, look inside the attention heads (entropy, rank, heat flow with
its error bound, spectrum over scales), try what adaptive attention leaves out of them and how far its certificates are
above the errors that it makes, and write it all to one self-contained file, report.html.
"""

_EPILOG = """\
examples:
  qga run                                   the documentation of this project, both backends, dot attention
  qga run book.txt --attention fidelity     one text file, attention by squared overlap of states
  qga run notes/ --steps 600 --out notes-run    every text file of a folder, longer, results in notes-run/
  qga run --backend vulkan                  only Vulkan; exit status 2 when there is no device
  qga run --resume --steps 300              go on from the checkpoint in the output folder, up to step 300

what you get in the output folder:
  report.html                loss curves, agreement, time per step, attention maps, numbers with their meaning;
                             of adaptive attention which tiles it read, bounds beside errors, work and time by promise
  checkpoint/cpu.safetensors, checkpoint/vulkan.safetensors     state to resume from

Ctrl-C finishes the step, saves a checkpoint and prints the command that goes on. A second Ctrl-C stops at once.
With no Vulkan device the CPU half runs and the report says so; `qga devices` tells what is missing.
"""


@dataclass(frozen=True)
class RunOptions:
    """What the user asked for.

    Attributes:
        source: text file or folder; None for the default text.
        attention: ``dot`` or ``fidelity``.
        backend: ``cpu``, ``vulkan`` or ``both``.
        steps: optimiser steps in all, resumed ones included.
        seed: of the parameters and of the batches.
        out: output folder.
        resume: folder of the run to go on from; None to start anew.
    """

    source: Path | None
    attention: str
    backend: str
    steps: int
    seed: int
    out: Path
    resume: Path | None

    def command(self, *, resume: Path | None = None) -> str:
        """Write the command that repeats this run, or goes on from ``resume``."""
        words = ["qga run"]
        words += [_quote(self.source)] if self.source else []
        words += [f"--attention {self.attention}", f"--backend {self.backend}", f"--steps {self.steps}"]
        words += [f"--seed {self.seed}", f"--out {_quote(self.out)}"]
        words += [f"--resume {_quote(resume)}"] if resume else []
        return " ".join(words)


def add_parser(subparsers: Any) -> None:
    """Add the subcommand ``run``."""
    parser = subparsers.add_parser(
        "run",
        help="train a small language model on the CPU and on Vulkan and write a report",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source", nargs="?", type=Path, metavar="FILE", help="text file or folder (default: this project's docs)"
    )
    parser.add_argument(
        "--attention", choices=("dot", "fidelity"), default="dot", help="score of the heads (default: %(default)s)"
    )
    parser.add_argument(
        "--backend", choices=("cpu", "vulkan", "both"), default="both", help="where to train (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, default=150, metavar="N", help="optimiser steps (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="start and batches (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path("qga-run"), metavar="DIR", help="output folder (default: %(default)s)"
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        type=Path,
        const=Path(),
        metavar="DIR",
        help="go on from the checkpoint of an earlier run (default: the output folder)",
    )


def read_options(parsed: argparse.Namespace) -> RunOptions:
    """Check the parsed arguments.

    Raises:
        OptionError: fewer than one step, or a negative seed.
    """
    if parsed.steps < 1 or parsed.seed < 0:
        refuse(
            OptionError,
            "run: steps and seed are counts.",
            got=f"--steps {parsed.steps} --seed {parsed.seed}",
            want="--steps >= 1 and --seed >= 0",
            fix="give positive numbers.",
        )
    # A bare --resume arrives as the empty path, which stands for the output folder.
    resume = parsed.out if parsed.resume == Path() else parsed.resume
    return RunOptions(parsed.source, parsed.attention, parsed.backend, parsed.steps, parsed.seed, parsed.out, resume)


def _quote(path: Path) -> str:
    text = str(path)
    return f'"{text}"' if " " in text else text
