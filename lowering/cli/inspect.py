"""`qga inspect`: what the compiler makes of a JAX function, stage by stage."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from shaders.capabilities import Capabilities

from ..api import lower
from ..dtypes import NUMPY
from ..errors import InputError, message

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


def gradient_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the gradient, by the first argument, of the sum over everything the function returns."""

    def total(*arguments: Any) -> Any:
        return sum(leaf.sum() for leaf in jax.tree.leaves(function(*arguments)))

    return jax.grad(total)


def parse_shapes(text: str) -> list[jax.ShapeDtypeStruct]:
    """Read `f32[128,256],i32[]` into shapes and dtypes, one for each argument.

    Raises:
        InputError: the text has another form, or names no known dtype.
    """
    parts = re.findall(r"[^,\[\]]+\[[^\]]*\]|[^,]+", text.replace(" ", ""))
    return [_parse_shape(part, text) for part in parts]


def _parse_shape(part: str, text: str) -> jax.ShapeDtypeStruct:
    match = re.fullmatch(r"(\w+)\[((?:\d+(?:,\d+)*)?)\]", part)
    if match is None or match.group(1) not in NUMPY:
        raise InputError(
            message(
                "inspect: every shape must be a dtype with extents in brackets.",
                got=f"{part!r} in {text!r}",
                want=f"DTYPE[EXTENT,...] with a dtype of {', '.join(NUMPY)}",
                fix='write for example --shapes "f32[128,256],i32[]".',
            )
        )
    extents = tuple(int(extent) for extent in match.group(2).split(",") if extent)
    return jax.ShapeDtypeStruct(extents, NUMPY[match.group(1)])


def find_function(text: str) -> Callable[..., Any]:
    """Import what `FILE.py:NAME` or `MODULE:NAME` names.

    Raises:
        InputError: no such file, module or name, or it is not a function.
    """
    place, _, name = text.rpartition(":")
    if not place:
        raise _not_found(text, "no colon", "FILE.py:NAME or MODULE:NAME")
    module = _load_file(Path(place), text) if place.endswith(".py") else _load_module(place, text)
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise _not_found(text, f"{place} has no function {name}", f"one of: {', '.join(public) or 'it defines none'}")
    return found


def _load_file(file: Path, text: str) -> Any:
    if not file.is_file():
        raise _not_found(text, f"no file {file}", "a Python file")
    specification = importlib.util.spec_from_file_location(file.stem, file)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    # A script may import its neighbours, as it can when Python runs it.
    sys.path.insert(0, str(file.parent.resolve()))
    sys.modules.setdefault(file.stem, module)
    specification.loader.exec_module(module)
    return module


def _load_module(name: str, text: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise _not_found(text, str(error), "a module that can be imported") from error


def _not_found(text: str, got: str, want: str) -> InputError:
    return InputError(
        message(
            "inspect: FUNCTION must name a function.",
            got=f"{text!r}: {got}",
            want=want,
            fix="see the examples of `qga inspect --help`.",
        )
    )
