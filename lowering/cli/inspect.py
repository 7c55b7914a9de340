"""`qga inspect`: what the compiler makes of a JAX function, stage by stage."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from shaders.capabilities import Capabilities

from ..api import lower
from .functions import find_function, gradient_of, parse_shapes

STAGES = ("stablehlo", "graph", "schedule", "spirv")

EXAMPLES = """\
FUNCTION is FILE.py:NAME, or MODULE:NAME for anything that can be imported. SHAPES has one entry for each argument, a
dtype (f32, bf16, i32, bool, c64, ...) with its extents; nothing is computed, so sizes cost nothing.

examples:
  qga inspect jax.nn:softmax --shapes "f32[128,256]"                     the kernels' plan
  qga inspect model.py:loss --shapes "f32[64,32],f32[32]" --stage graph  the program after the compiler's passes
  qga inspect model.py:loss --shapes "f32[64,32],f32[32]" --gradient     of the gradient by the first argument
  qga inspect jax.nn:softmax --shapes "f32[8,64]" --stage spirv          the code of every kernel, as text
  qga inspect ... --capabilities my_gpu.json                             the plan for a device that is not here

stages, in order:
  stablehlo  what JAX hands over
  graph      the compiler's own program; each line names the source line it came from
  schedule   which nodes share a kernel, with tiles and workgroups; the memory plan
  spirv      the kernels themselves
"""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "inspect", help="show what the compiler makes of a JAX function", description=__doc__, epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("function", metavar="FUNCTION", help="FILE.py:NAME or MODULE:NAME")
    parser.add_argument("--shapes", required=True, help='arguments, for example "f32[128,256],i32[]"')
    parser.add_argument("--stage", choices=STAGES, default="schedule", help="what to print (default: schedule)")
    parser.add_argument("--gradient", action="store_true", help="of the sum of the result, by the first argument")
    parser.add_argument("--cost", action="store_true", help="also print dispatches, bytes and memory")
    parser.add_argument(
        "--capabilities",
        type=Path,
        metavar="FILE",
        help="plan for the device that `qga devices --capabilities` described",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Print the stage that was asked for."""
    function = find_function(arguments.function)
    if arguments.gradient:
        function = gradient_of(function)
    capabilities = None
    if arguments.capabilities is not None:
        capabilities = Capabilities.from_text(arguments.capabilities.read_text())
    lowered = lower(function)(*parse_shapes(arguments.shapes))
    print(lowered.as_text(arguments.stage, capabilities))
    if arguments.cost:
        for name, count in lowered.cost(capabilities).items():
            print(f"{name}: {count:,.0f}")
    return 0
