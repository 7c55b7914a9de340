"""Train one half of a run on one device."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from ...errors import DomainError, refuse
from .checkpoint import Checkpoint, save_checkpoint
from .devices import Device
from .model import ModelConfig, Parameters, init_parameters, measure_loss
from .progress import Progress
from .text import Text, draw_batch

_STEPS_BETWEEN_CHECKPOINTS = 50
_WARMUP_STEPS = 10


@dataclass(frozen=True)
class TrainConfig:
    """What shapes the numbers of a training, next to the model.

    Attributes:
        seed: of the first parameters and of the batches.
        batch: examples of one step.
        learning_rate: of adamw, after a short linear warm-up.
        weight_decay: of adamw.
    """

    seed: int
    batch: int = 8
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2


class TrainState(NamedTuple):
    """What a step changes."""

    parameters: Parameters
    optimiser: PyTree


@dataclass(frozen=True)
class Trained:
    """One half when it ends.

    Attributes:
        checkpoint: the state and the history.
        compile_seconds: from the traced function to something that runs.
        interrupted: whether the user stopped it before the last step.
    """

    checkpoint: Checkpoint
    compile_seconds: float
    interrupted: bool


def describe_config(model: ModelConfig, train: TrainConfig, text: Text) -> dict[str, object]:
    """Gather everything two runs must share to be one run."""
    return {**asdict(model), **asdict(train), "text": text.digest}


def first_state(model: ModelConfig, train: TrainConfig) -> TrainState:
    """Make the state before the first step, always on the CPU, so that both halves start from the same bits."""
    with jax.default_device(jax.devices("cpu")[0]):
        parameters = init_parameters(model, train.seed)
        state = TrainState(parameters, _optimiser(train).init(parameters))
    # On the host, because a step consumes its input's buffers and both halves start from this state.
    return jax.device_get(state)


def train_half(
    name: str,
    device: Device,
    begin: Checkpoint,
    *,
    text: Text,
    model: ModelConfig,
    train: TrainConfig,
    steps: int,
    path: Path,
) -> Trained:
    """Train on one device from ``begin`` up to ``steps`` steps, saving as it goes.

    Args:
        name: of the half, for people.
        device: where every step runs.
        begin: where to start; its state may live anywhere.
        text: what to learn.
        model: sizes.
        train: seed, batches, optimiser.
        steps: steps in all.
        path: of the checkpoint.

    Raises:
        DomainError: the loss is no longer a number.
    """
    if begin.step >= steps:
        return Trained(begin, 0.0, interrupted=False)
    draw = partial(draw_batch, text, seed=train.seed, batch=train.batch, context=model.context)
    state = jax.device_put(begin.state, device)
    losses, seconds = list(begin.losses), list(begin.seconds)
    advance, compile_seconds = _compile(_make_step(model, train), state, jax.device_put(draw(step=0), device))
    progress = Progress(name, len(losses), steps)
    with _interrupt_flag() as is_interrupted:
        while len(losses) < steps and not is_interrupted():
            started = time.perf_counter()
            state, loss = advance(state, jax.device_put(draw(step=len(losses)), device))
            losses.append(_read_loss(name, loss, len(losses)))
            seconds.append(time.perf_counter() - started)
            progress.show(len(losses), losses[-1])
            if len(losses) % _STEPS_BETWEEN_CHECKPOINTS == 0:
                save_checkpoint(path, _pack(begin.config, state, losses, seconds))
    end = _pack(begin.config, state, losses, seconds)
    save_checkpoint(path, end)
    if end.step < steps:
        progress.stop()
    return Trained(end, compile_seconds, interrupted=end.step < steps)


def _optimiser(train: TrainConfig) -> optax.GradientTransformation:
    rate = optax.linear_schedule(0.0, train.learning_rate, _WARMUP_STEPS)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=train.weight_decay))


def _make_step(model: ModelConfig, train: TrainConfig) -> Callable:
    optimiser = _optimiser(train)

    def advance(
        state: TrainState, examples: Int[Array, "batch places_and_next"]
    ) -> tuple[TrainState, Float[Array, ""]]:
        loss, gradient = jax.value_and_grad(measure_loss)(state.parameters, examples, model)
        updates, optimiser_state = optimiser.update(gradient, state.optimiser, state.parameters)
        return TrainState(optax.apply_updates(state.parameters, updates), optimiser_state), loss

    return advance


def _compile(advance: Callable, state: TrainState, examples: Array) -> tuple[Callable, float]:
    started = time.perf_counter()
    compiled = jax.jit(advance, donate_argnums=0).lower(state, examples).compile()
    return compiled, time.perf_counter() - started


def _pack(config: dict[str, object], state: TrainState, losses: list[float], seconds: list[float]) -> Checkpoint:
    return Checkpoint(config, jax.device_get(state), np.asarray(losses, float), np.asarray(seconds, float))


def _read_loss(name: str, loss: Array, step: int) -> float:
    value = float(loss)
    if not np.isfinite(value):
        refuse(
            DomainError,
            f"run: training on {name} left the numbers.",
            got=f"loss {value} at step {step + 1}",
            want="a finite loss",
            fix="if only vulkan does this, repeat with QGA_VERIFY=1 to find the first operation that differs.",
        )
    return value


@contextmanager
def _interrupt_flag() -> Generator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a flag, so that no step is cut in half; the second one stops at once."""
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set
        return
    previous = signal.getsignal(signal.SIGINT)

    def press(number: int, frame: object) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, press)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, previous)
