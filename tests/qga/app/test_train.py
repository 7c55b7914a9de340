"""Training one half: it learns, it is repeatable, it resumes to the bit, it stops when asked."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import jax
import numpy as np
import pytest

from qga import DomainError
from qga.app.run import train as train_module
from qga.app.run.checkpoint import Checkpoint, load_checkpoint
from qga.app.run.model import ModelConfig, init_parameters, measure_loss, predict
from qga.app.run.text import Text, draw_batch
from qga.app.run.train import TrainConfig, Trained, describe_config, first_state, train_half


def begin(model: ModelConfig, train: TrainConfig, text: Text) -> Checkpoint:
    config = describe_config(model, train, text)
    return Checkpoint(config, first_state(model, train), np.zeros(0), np.zeros(0))


def run(
    start: Checkpoint, steps: int, path: Path, model: ModelConfig, train: TrainConfig, text: Text, device: object = None
) -> Trained:
    where = jax.devices("cpu")[0] if device is None else device
    return train_half("cpu", where, start, text=text, model=model, train=train, steps=steps, path=path)


def test_loss_starts_at_blind_guessing(model: ModelConfig, train: TrainConfig, text: Text) -> None:
    examples = draw_batch(text, seed=0, step=0, batch=8, context=model.context)
    loss = float(measure_loss(init_parameters(model, 0), examples, model))
    assert abs(loss - np.log(model.vocabulary)) < 0.1


def test_predictions_do_not_look_ahead(model: ModelConfig, text: Text) -> None:
    parameters = init_parameters(model, 0)
    row = text.numbers[None, : model.context]
    changed = row.copy()
    changed[0, 5] = (row[0, 5] + 1) % model.vocabulary
    before, after = (np.asarray(predict(parameters, characters, model)[0][0]) for characters in (row, changed))
    assert np.array_equal(before[:5], after[:5])
    assert not np.allclose(before[5:], after[5:])


def test_training_lowers_the_loss(model: ModelConfig, train: TrainConfig, text: Text, tmp_path: Path) -> None:
    losses = run(begin(model, train, text), 40, tmp_path / "c", model, train, text).checkpoint.losses
    assert losses[-5:].mean() < losses[:5].mean() - 0.3


def test_resumed_training_is_the_uninterrupted_one(
    model: ModelConfig, train: TrainConfig, text: Text, tmp_path: Path
) -> None:
    start, path = begin(model, train, text), tmp_path / "half.safetensors"
    whole = run(start, 6, tmp_path / "whole.safetensors", model, train, text).checkpoint
    run(start, 3, path, model, train, text)
    resumed = run(load_checkpoint(path, start.config, start.state), 6, path, model, train, text).checkpoint
    assert np.array_equal(resumed.losses, whole.losses)
    leaves = zip(jax.tree.leaves(resumed.state), jax.tree.leaves(whole.state), strict=True)
    assert all(np.array_equal(one, other) for one, other in leaves)


def test_another_seed_is_another_training(model: ModelConfig, text: Text, tmp_path: Path) -> None:
    first, second = (
        run(begin(model, train, text), 2, tmp_path / "c", model, train, text).checkpoint.losses
        for train in (TrainConfig(0), TrainConfig(1))
    )
    assert not np.array_equal(first, second)


def test_finished_training_is_left_alone(model: ModelConfig, train: TrainConfig, text: Text, tmp_path: Path) -> None:
    end = run(begin(model, train, text), 2, tmp_path / "c", model, train, text).checkpoint
    assert run(end, 2, tmp_path / "never", model, train, text).checkpoint is end
    assert not (tmp_path / "never").exists()


def test_interrupt_finishes_the_step_and_saves(
    model: ModelConfig, train: TrainConfig, text: Text, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = train_module.draw_batch

    def press_in_step_two(*arguments: Text, step: int, **options: int) -> np.ndarray:
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return draw(*arguments, step=step, **options)

    monkeypatch.setattr(train_module, "draw_batch", press_in_step_two)
    before = signal.getsignal(signal.SIGINT)
    start, path = begin(model, train, text), tmp_path / "c.safetensors"
    trained = run(start, 9, path, model, train, text)
    assert trained.interrupted
    assert load_checkpoint(path, start.config, start.state).step == trained.checkpoint.step == 3
    assert signal.getsignal(signal.SIGINT) is before


def test_loss_that_is_no_number_stops_the_run(
    model: ModelConfig, text: Text, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = TrainConfig(0)
    start = begin(model, train, text)
    broken = start.state._replace(parameters=jax.tree.map(lambda leaf: leaf * np.nan, start.state.parameters))
    with pytest.raises(DomainError, match=r"got:  loss nan at step 1\n  want: a finite loss"):
        run(Checkpoint(start.config, broken, start.losses, start.seconds), 2, tmp_path / "c", model, train, text)


def test_vulkan_learns_what_the_cpu_learns(
    model: ModelConfig, train: TrainConfig, text: Text, tmp_path: Path, vulkan: jax.Device
) -> None:
    start = begin(model, train, text)
    first, second = (
        run(start, 12, tmp_path / name, model, train, text, device).checkpoint.losses
        for name, device in (("cpu", jax.devices("cpu")[0]), ("vulkan", vulkan))
    )
    assert np.max(np.abs(first - second) / first) < 1e-4
