"""`lowering.tune`: measure the schedules of a program's kernels on the device and keep those that win."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from .. import dtypes
from ..api import lower
from ..cache import cache_folder
from ..compiler import optimise
from ..errors import InputError, message
from ..graph import Value
from ..runtime import Buffer, Device
from .measure import Result, measure
from .sites import find_sites
from .store import Winner, keep

SEED = 0


@dataclass(frozen=True, slots=True)
class Report:
    """What tuning found.

    Attributes:
        device: its name.
        path: the file that holds what won; None where nothing did, or nothing was to be kept.
        results: one for each kernel with alternatives.
    """

    device: str
    path: Path | None
    results: tuple[Result, ...]

    def text(self) -> str:
        """Print a table, one kernel a line."""
        lines = [f"{'default':>12} {'best':>12} {'spread':>12} {'gain':>6} {'tried':>6}  {'':13} kernel"]
        for each in self.results:
            verdict = "default stays" if not each.is_better else "kept" if self.path is not None else "not kept"
            lines.append(
                f"{each.default_us:>9.1f} µs {each.best_us:>9.1f} µs {each.spread_us:>9.1f} µs {each.gain:>6.2f} "
                f"{each.tried:>6}  {verdict:13} {each.name}"
            )
            if each.is_better:
                lines.append(f"{'':18}{each.default} -> {each.best}")
            if each.left:
                lines.append(f"{'':18}no time for {each.left} candidates")
            lines += (f"{'':18}refused: {why}" for why in each.refused)
        if not self.results:
            lines = ["No kernel of this program has alternatives: only matrix products and Pallas kernels do."]
        return "\n".join(lines)


def tune(
    function: Callable[..., Any],
    *arguments: Any,
    device: Device | None = None,
    budget_s: float = 60.0,
    is_kept: bool = True,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Measure the schedules of a function's matrix products and Pallas kernels on the device, and keep those that win.

    A schedule wins if it computes what the compiler's own does and is faster by more than the spread of the times. From
    then on every program that is compiled for this device and driver takes it for kernels of the same class; programs
    that are compiled already stay as they are. `QGA_TUNING=0` goes back to the compiler's own.

    Args:
        function: any function that `jax.jit` accepts, jitted or not.
        arguments: arrays, or shapes with dtypes; of the latter, normal numbers and small integers are drawn. Where
            values decide how much a kernel does, give arrays.
        device: where; by default the one that the environment chooses.
        budget_s: about how many seconds to take, shared evenly by the kernels.
        is_kept: write what wins to the user's cache folder.
        progress: called with lines for people.

    Raises:
        InputError: the budget is not positive, or results cannot be written.
        UnsupportedError: the function uses operations without a lowering.
        DeviceError: no device, one without timestamps, or one that was lost.

    Example:
        >>> import jax, jax.numpy as jnp, lowering
        >>> x = jax.ShapeDtypeStruct((64, 64), jnp.float32)
        >>> report = lowering.tune(lambda x: x @ x, x, budget_s=0.5, is_kept=False)
        >>> [result.label for result in report.results]
        ['dot_general']
    """
    if not budget_s > 0:
        raise InputError(
            message(
                "tune: the budget must be positive.", got=str(budget_s), want="seconds above 0", fix="give it more."
            )
        )
    say = progress or (lambda _: None)
    with ExitStack() as stack:
        chosen = device if device is not None else stack.enter_context(Device.open())
        lowered = lower(function)(*arguments)
        fused = optimise(lowered.graph, chosen.capabilities)
        inputs = _upload(chosen, fused.inputs, lowered.signature.flatten(arguments, {}))
        sites = find_sites(chosen, fused, inputs)
        if is_kept and sites:
            # A folder that cannot be written is said before anything is measured.
            _ = keep(chosen.capabilities, cache_folder(), {})
        end, path, results = time.perf_counter() + budget_s, None, []
        for number, site in enumerate(sites):
            name = f"kernel {number + 1} of {len(sites)}"
            say(f"{name}: {site.name}")
            share = max(end - time.perf_counter(), 0.0) / (len(sites) - number)
            result = measure(chosen, site, share, lambda text, name=name: say(f"{name}: {text}"))
            results.append(result)
            if is_kept:
                # One by one, so that a device that is lost later takes nothing away.
                written = keep(chosen.capabilities, cache_folder(), {site.name: _winner(result)})
                path = written if result.is_better else path
        return Report(chosen.name, path, tuple(results))


def _winner(result: Result) -> Winner | None:
    return Winner(result.best, round(result.default_us, 3), round(result.best_us, 3)) if result.is_better else None


def _upload(device: Device, values: Sequence[Value], leaves: Sequence[Any]) -> list[Buffer]:
    """Put arguments on the device, drawn ones where there are shapes only."""
    random = np.random.default_rng(SEED)
    buffers: list[Buffer] = []
    for value, leaf in zip(values, leaves, strict=True):
        dtype = dtypes.NUMPY[value.dtype]
        is_drawn = isinstance(leaf, jax.ShapeDtypeStruct)
        array = _draw(value, random).astype(dtype) if is_drawn else np.asarray(leaf, dtype, order="C")
        buffer = device.allocate(array.nbytes)
        device.upload(buffer, array)
        buffers.append(buffer)
    return buffers


def _draw(value: Value, random: np.random.Generator) -> np.ndarray:
    """Return normal numbers, or integers that are in range wherever they index."""
    if value.dtype in dtypes.FLOATS | dtypes.COMPLEX:
        return random.standard_normal(value.shape, np.float32)
    return random.integers(0, 2, value.shape)
