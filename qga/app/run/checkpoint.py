"""Checkpoints of a training half: one safetensors file, written whole or not at all."""

from __future__ import annotations

import json
import os
import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import jax
import numpy as np
from jaxtyping import PyTree

from ...errors import OptionError, refuse

_FORMAT = "qga-run-1"


@dataclass(frozen=True)
class Checkpoint:
    """A training half between two steps. Batches follow from seed and step, so they are no part of it.

    Attributes:
        config: everything that shapes the numbers: model, batches, text, optimiser.
        state: parameters and optimiser state.
        losses: one for each step done, float64[steps].
        seconds: wall time of each step, float64[steps].
    """

    config: dict[str, object]
    state: PyTree
    losses: np.ndarray
    seconds: np.ndarray

    @property
    def step(self) -> int:
        """How many steps are done."""
        return len(self.losses)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; a crash leaves either the old file or the new one."""
    from safetensors.numpy import save

    tensors = {f"state{name}": np.asarray(leaf) for name, leaf in _named_leaves(checkpoint.state)}
    tensors |= {"losses": np.asarray(checkpoint.losses), "seconds": np.asarray(checkpoint.seconds)}
    metadata = {"format": _FORMAT, "config": json.dumps(checkpoint.config, sort_keys=True)}
    write_atomically(path, save(tensors, metadata))


def load_checkpoint(path: Path, config: dict[str, object], template: PyTree) -> Checkpoint:
    """Read a checkpoint back.

    Args:
        path: what ``save_checkpoint`` wrote.
        config: of the run that wants to go on; it must be the one of the checkpoint.
        template: a state of the right structure; its values are not used.

    Raises:
        OptionError: the file is damaged, or belongs to a run with another configuration.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
        saved = json.loads(metadata["config"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        _refuse_damaged(path, f"{type(error).__name__}: {error}")
    _compare(path, saved, config)
    names = [f"state{name}" for name, _ in _named_leaves(template)]
    if missing := [name for name in (*names, "losses", "seconds") if name not in tensors]:
        _refuse_damaged(path, f"no tensor {missing[0]}")
    leaves = [tensors[name] for name in names]
    state = jax.tree.unflatten(jax.tree.structure(template), leaves)
    return Checkpoint(saved, state, tensors["losses"], tensors["seconds"])


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file beside its place and move it there when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files only their owner can read; a report is made to be shown.
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _named_leaves(tree: PyTree) -> list[tuple[str, object]]:
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def _compare(path: Path, saved: dict[str, object], config: dict[str, object]) -> None:
    names = sorted(name for name in saved.keys() | config.keys() if saved.get(name) != config.get(name))
    if names:
        refuse(
            OptionError,
            f"run: {shlex.quote(str(path))} belongs to a run with other settings.",
            got=", ".join(f"{name}={config.get(name)}" for name in names),
            want=", ".join(f"{name}={saved.get(name)}" for name in names),
            fix="repeat the options and the text of that run, or leave out --resume to start anew.",
        )


def _refuse_damaged(path: Path, reason: str) -> NoReturn:
    refuse(
        OptionError,
        "run: the checkpoint cannot be read.",
        got=f"{path}: {reason}",
        want="a file written by qga run",
        fix="leave out --resume to start anew, or give the folder of another run.",
    )
