"""Do what ``qga run`` was asked to do."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import OptionError, refuse
from .adapt import adapt_heads
from .analyse import look_inside, measure_heads
from .checkpoint import Checkpoint, load_checkpoint, write_atomically
from .devices import Device, Devices, find_devices
from .model import ModelConfig
from .options import RunOptions, read_options
from .report import Half, Report, render
from .sample import write_sample
from .text import Text, draw_batch, load_text
from .train import TrainConfig, Trained, describe_config, first_state, train_half

_SAMPLE_CHARACTERS = 280
_EVALUATION_EXAMPLES = 32
# Batches are drawn for steps 0, 1, 2, ...; the evaluation draws one that no training reaches.
_EVALUATION_STEP = 2**31 - 1


@dataclass(frozen=True)
class _Plan:
    """Everything that is decided before the first step."""

    options: RunOptions
    text: Text
    model: ModelConfig
    train: TrainConfig
    devices: Devices


def execute(parsed: argparse.Namespace) -> int:
    """Train, analyse and report.

    Returns:
        0 when done, 130 when the user interrupted it.

    Raises:
        OptionError: the options, the text or the checkpoint cannot be used.
        DomainError: a loss stopped being a number.
    """
    plan = _make_plan(read_options(parsed))
    _say(_introduce(plan))
    halves: dict[str, Trained] = {}
    begins = {name: _begin(plan, name) for name in plan.devices.by_name}
    try:
        for name, begin in begins.items():
            halves[name] = _train(plan, name, begin)
            if halves[name].interrupted:
                return _say_interrupted(plan, halves[name].checkpoint.step)
        return _finish(plan, halves)
    except KeyboardInterrupt:
        return _say_interrupted(plan, None)


def _make_plan(options: RunOptions) -> _Plan:
    devices = find_devices(options.backend)
    sizes = ModelConfig(vocabulary=0, attention=options.attention)
    text = load_text(options.source, sizes.context)
    model = ModelConfig(vocabulary=len(text.vocabulary), attention=options.attention)
    return _Plan(options, text, model, TrainConfig(options.seed), devices)


def _begin(plan: _Plan, name: str) -> Checkpoint:
    """Take the checkpoint to go on from, or make the first one."""
    config = describe_config(plan.model, plan.train, plan.text)
    first = Checkpoint(config, first_state(plan.model, plan.train), np.zeros(0), np.zeros(0))
    resume = plan.options.resume
    if resume is None:
        return first
    path = _checkpoint_path(resume, name)
    if path.exists():
        return load_checkpoint(path, config, first.state)
    if not any(_checkpoint_path(resume, other).exists() for other in plan.devices.by_name):
        refuse(
            OptionError,
            "run: there is no checkpoint to resume from.",
            got=f"no {path.name} in {path.parent}",
            want="the output folder of an earlier run",
            fix="give that folder after --resume, or leave out --resume.",
        )
    return first


def _train(plan: _Plan, name: str, begin: Checkpoint) -> Trained:
    return train_half(
        name,
        plan.devices.by_name[name],
        begin,
        text=plan.text,
        model=plan.model,
        train=plan.train,
        steps=plan.options.steps,
        path=_checkpoint_path(plan.options.out, name),
    )


def _finish(plan: _Plan, trained: dict[str, Trained]) -> int:
    """Analyse what was trained, write the report, say where it is."""
    _say("analysing the heads ...")
    examples = draw_batch(
        plan.text,
        seed=plan.train.seed,
        step=_EVALUATION_STEP,
        batch=_EVALUATION_EXAMPLES,
        context=plan.model.context,
    )
    halves = {}
    for name, half in trained.items():
        device = plan.devices.by_name[name]
        look = look_inside(half.checkpoint.state.parameters, examples, plan.model, device)
        halves[name] = Half(half.checkpoint, half.compile_seconds, _name_device(device), look, measure_heads(look))
    last = next(reversed(trained.values()))
    _say("trying adaptive attention ...")
    adapted = adapt_heads(last.checkpoint.state.parameters, examples, plan.model)
    sample = write_sample(
        last.checkpoint.state.parameters,
        plan.model,
        plan.text,
        seed=plan.train.seed,
        length=_SAMPLE_CHARACTERS,
    )
    shown = plan.text.decode(examples[0, :-1])
    report = Report(
        plan.options.command(), plan.text, plan.model, plan.train, halves, plan.devices.missing, shown, sample, adapted
    )
    path = plan.options.out / "report.html"
    write_atomically(path, render(report).encode())
    _say(_summarise(halves, plan.devices.missing))
    print(path)
    return 0


def _introduce(plan: _Plan) -> str:
    devices = ", ".join(f"{name} ({_name_device(device)})" for name, device in plan.devices.by_name.items())
    lines = [
        f"text     {plan.text.name}: {len(plan.text.numbers):,} characters, {len(plan.text.vocabulary)} different",
        f"model    {plan.model.layers} layers, {plan.model.heads} heads, width {plan.model.width}, "
        f"context {plan.model.context}, {plan.model.attention} attention",
        f"devices  {devices}",
    ]
    if plan.devices.missing:
        lines.append(f"no Vulkan device, so only the CPU half runs: {plan.devices.missing}")
        lines.append("`qga devices` says what is missing.")
    return "\n".join(lines)


def _summarise(halves: dict[str, Half], missing: str) -> str:
    lines = [
        f"{name:<7}last loss {half.checkpoint.losses[-1]:.4f}, fresh text {float(half.look.loss):.4f}, "
        f"{1e3 * half.median_seconds:.1f} ms a step, {half.compile_seconds:.1f} s to compile"
        for name, half in halves.items()
    ]
    if len(halves) == 2:
        first, second = (half.checkpoint.losses for half in halves.values())
        lines.append(f"largest relative difference of the losses {np.max(np.abs(first - second) / first):.1e}")
    elif missing:
        lines.append("the Vulkan half did not run, so there is nothing to compare with.")
    return "\n".join(lines)


def _say_interrupted(plan: _Plan, step: int | None) -> int:
    place = plan.options.out
    if any(_checkpoint_path(place, name).exists() for name in plan.devices.by_name):
        done = "" if step is None else f" after step {step}"
        _say(f"\ninterrupted{done}; go on with:\n  {plan.options.command(resume=place)}")
    else:
        _say("\ninterrupted before the first checkpoint; nothing was written.")
    return 130


def _checkpoint_path(folder: Path, name: str) -> Path:
    return folder / "checkpoint" / f"{name}.safetensors"


def _name_device(device: Device) -> str:
    return device.device_kind


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
