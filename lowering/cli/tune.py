"""`qga tune`: measure the schedules of a program's kernels on this device, and keep those that win."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from shaders.capabilities import Capabilities

from ..cache import cache_folder
from ..dtypes import NUMPY
from ..errors import InputError, message
from ..runtime import Device
from ..tuning import store
from ..tuning.tuner import tune
from .functions import find_function, gradient_of, parse_shapes

LAYOUTS = ("nn", "nt", "tn", "tt")
QUIET_S = 2.0
"""Lines of progress are at least this far apart."""

EXAMPLES = """\
No tuning is needed: the compiler has schedules for every device. Tuning measures others on yours, once. FUNCTION is
FILE.py:NAME or MODULE:NAME, as for `qga inspect`, or the word matmul with sizes. Matrix products and Pallas kernels
have alternatives, nothing else. A schedule is kept if it computes the same and is faster by more than the spread of
the times. What is kept counts for this device and driver, for kernels of the same class: products by dtypes, how
operands lie and sizes within a quarter, Pallas kernels by equal code and shapes.

examples:
  qga tune model.py:step --shapes "f32[64,512],i32[64]"             every kernel of a function that has alternatives
  qga tune model.py:step --shapes "f32[64,512],i32[64]" --gradient  of its gradient by the first argument
  qga tune matmul 4096x4096x4096 --dtype f16                        rows x depth x columns
  qga tune matmul 8x1024x64x1024 --dtype bf16 --layout nt           batch of 8; rhs lies as columns x depth
  qga tune --list                                                   what is kept for this device, and where
  qga tune --forget                                                 back to the compiler's own schedules

QGA_TUNING=0 compiles as if nothing were kept. `qga inspect` prints "tuned" before schedules that are.
"""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "tune", help="measure schedules on a device and keep what wins", description=__doc__, epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("function", nargs="?", metavar="FUNCTION", help="FILE.py:NAME, MODULE:NAME, or matmul")
    parser.add_argument("sizes", nargs="*", metavar="SIZE", help="of matmul: [BATCHx]ROWSxDEPTHxCOLUMNS")
    parser.add_argument("--shapes", help='arguments of FUNCTION, for example "f32[128,256],i32[]"')
    parser.add_argument("--gradient", action="store_true", help="of the sum of the result, by the first argument")
    parser.add_argument("--dtype", choices=sorted(NUMPY), default="f32", help="of a matmul's operands (default: f32)")
    parser.add_argument("--result", choices=sorted(NUMPY), help="dtype of its result (default: that of the operands)")
    parser.add_argument("--layout", choices=LAYOUTS, default="nn", help="of its operands; t: transposed (default: nn)")
    parser.add_argument("--budget", type=float, default=60.0, metavar="SECONDS", help="for each program (default: 60)")
    parser.add_argument("--dry-run", action="store_true", help="measure, keep nothing")
    parser.add_argument("--list", action="store_true", help="print what is kept for this device")
    parser.add_argument("--forget", action="store_true", help="delete what is kept for this device")


def execute(arguments: argparse.Namespace) -> int:
    """Tune what was asked for and print a table, or show or delete what is kept."""
    with Device.open() as device:
        if arguments.list or arguments.forget:
            show(device.capabilities, is_forgotten=arguments.forget)
            return 0
        for title, function, values in _programs(arguments):
            print(f"{title} on {device.name}", flush=True)
            report = tune(
                function, *values, device=device, budget_s=arguments.budget, is_kept=not arguments.dry_run,
                progress=progress(),
            )  # fmt: skip
            print(report.text(), flush=True)
            if report.path is not None:
                print(f"kept in {report.path}")
    return 0


def show(capabilities: Capabilities, *, is_forgotten: bool) -> None:
    """Print what is kept for a device, and delete it where asked."""
    path = store.path_of(capabilities, cache_folder())
    if is_forgotten:
        store.forget(capabilities, cache_folder())
    winners = store.read(capabilities, cache_folder())
    print(f"{capabilities.device_name}: {path}{'' if winners else ' (nothing is kept)'}")
    for name, winner in winners.items():
        print(f"{winner.default_us:>9.1f} µs -> {winner.tuned_us:>9.1f} µs  {name}\n{'':27}{winner.schedule}")


def _programs(arguments: argparse.Namespace) -> Sequence[tuple[str, Callable[..., Any], Sequence[Any]]]:
    """Return the title, function and arguments of each program to tune.

    Raises:
        InputError: nothing is named, shapes or sizes are missing, or there are some that do not belong to it.
    """
    is_matmul, has_shapes = arguments.function == "matmul", arguments.shapes is not None
    if is_matmul and not has_shapes and not arguments.gradient:
        wanted = [matmul_of(size, arguments.dtype, arguments.layout, arguments.result) for size in arguments.sizes]
        titles = [f"matmul {size} {arguments.dtype} {arguments.layout}" for size in arguments.sizes]
        programs = [(title, *each) for title, each in zip(titles, wanted, strict=True)]
    elif arguments.function and has_shapes and not is_matmul and not arguments.sizes:
        function = find_function(arguments.function)
        function = gradient_of(function) if arguments.gradient else function
        programs = [(arguments.function, function, parse_shapes(arguments.shapes))]
    else:
        programs = []
    if not programs:
        raise InputError(
            message(
                "tune: a function with its shapes, or matmul with sizes.",
                got=_words(arguments) or "nothing",
                want='FUNCTION --shapes "f32[8,8]", or matmul 512x512x512',
                fix="see the examples of `qga tune --help`.",
            )
        )
    return programs


def _words(arguments: argparse.Namespace) -> str:
    shapes = [f'--shapes "{arguments.shapes}"'] if arguments.shapes is not None else []
    gradient = ["--gradient"] if arguments.gradient else []
    return " ".join([*filter(None, [arguments.function]), *arguments.sizes, *shapes, *gradient])


def matmul_of(
    size: str, dtype: str, layout: str = "nn", result: str | None = None
) -> tuple[Callable[..., Any], list[jax.ShapeDtypeStruct]]:
    """Return a matrix product and the shapes of its operands.

    Args:
        size: [BATCHx]ROWSxDEPTHxCOLUMNS.
        dtype: of the operands.
        layout: two letters, one for each operand; t for one that lies transposed.
        result: dtype of the result; by default that of the operands.

    Raises:
        InputError: the size has another form, or JAX would take a dtype of 64 bits for one of 32.
    """
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){2,3}", size):
        raise InputError(
            message(
                "tune: the size of a product must be three or four numbers.",
                got=repr(size),
                want="[BATCHx]ROWSxDEPTHxCOLUMNS, each at least 1",
                fix="write for example 4096x4096x4096.",
            )
        )
    for name in (dtype, result or dtype):
        if jax.dtypes.canonicalize_dtype(NUMPY[name]) != NUMPY[name]:
            raise InputError(
                message(
                    "tune: JAX must be allowed to use numbers of 64 bits.",
                    got=f"{name}, which it takes for half as many bits",
                    want="JAX_ENABLE_X64=1 in the environment",
                    fix="set it, or name a dtype of at most 32 bits a number.",
                )
            )
    *batch, rows, depth, columns = map(int, size.split("x"))
    left = (depth, rows) if layout[0] == "t" else (rows, depth)
    right = (columns, depth) if layout[1] == "t" else (depth, columns)

    def matmul(lhs: jax.Array, rhs: jax.Array) -> jax.Array:
        lhs = jnp.swapaxes(lhs, -1, -2) if layout[0] == "t" else lhs
        rhs = jnp.swapaxes(rhs, -1, -2) if layout[1] == "t" else rhs
        return jnp.matmul(lhs, rhs, preferred_element_type=NUMPY[result or dtype])

    return matmul, [jax.ShapeDtypeStruct((*batch, *shape), NUMPY[dtype]) for shape in (left, right)]


def progress() -> Callable[[str], None]:
    """Return what prints lines to the terminal, none sooner than two seconds after the last."""
    last = time.perf_counter()

    def say(text: str) -> None:
        nonlocal last
        now = time.perf_counter()
        if now - last >= QUIET_S:
            last = now
            print(text, file=sys.stderr, flush=True)

    return say
