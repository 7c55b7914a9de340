"""The command ``qga``: find the subcommand, run it, turn its errors into messages."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from types import ModuleType

_DESCRIPTION = """\
Attention, flow and motivic structure as JAX functions, on the CPU and on any Vulkan device.

start here:
  qga run                    train a small language model on the CPU and on Vulkan, compare, write a report
  qga devices                what Vulkan devices there are, what is missing, and how to get it
  qga inspect FILE:FUNCTION  what the compiler makes of a JAX function, stage by stage
  qga bench                  time kernels on a device
  qga tune FILE:FUNCTION     measure other schedules of its kernels, once, and keep what is faster
"""

_EPILOG = """\
examples:
  qga run                                     default text, both backends, under five minutes on two cores
  qga run book.txt --attention fidelity       your own text, attention by overlap of states
  qga run --help                              every option of one subcommand, with examples
  JAX_PLATFORMS=vulkan python your_program.py any JAX program on Vulkan; no change needed
"""

# Subcommands and the modules that offer add_parser(subparsers) and execute(arguments) -> exit status. A module is
# imported only when its subcommand is asked for, so that `qga run` does not load the compiler's tools.
_SUBCOMMANDS = {
    "run": ("qga.app.run", "train a small language model on the CPU and on Vulkan and write a report"),
    "devices": ("lowering.cli.devices", "list Vulkan devices, what is missing and the fix"),
    "inspect": ("lowering.cli.inspect", "show what the compiler makes of a JAX function"),
    "bench": ("lowering.cli.bench", "time kernels on a device"),
    "tune": ("lowering.cli.tune", "measure schedules on a device and keep what wins"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Args:
        argv: arguments after the program's name; those of the process by default.

    Returns:
        Exit status: 0 done, 1 failed, 2 wrong use or missing device, 130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    asked = next((word for word in arguments if not word.startswith("-")), None)
    parser = argparse.ArgumentParser(
        prog="qga", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subparsers = parser.add_subparsers(dest="subcommand", metavar="SUBCOMMAND", title="subcommands")
    module = None
    for name, (module_name, summary) in _SUBCOMMANDS.items():
        if name == asked:
            module = _load(module_name)
            module.add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=summary)
    parsed = parser.parse_args(arguments)
    if module is None:
        parser.print_help()
        return 0 if not arguments else 2
    return _execute(module, parsed)


def _load(name: str) -> ModuleType:
    return importlib.import_module(name)


def _execute(module: ModuleType, parsed: argparse.Namespace) -> int:
    """Run a subcommand; errors made for people are printed without a traceback."""
    try:
        return module.execute(parsed)
    except Exception as error:
        if not _is_for_people(error):
            raise
        print(f"qga: {error}", file=sys.stderr)
        return 2


def _is_for_people(error: Exception) -> bool:
    """Tell errors with the four lines of advice from defects, which deserve their traceback."""
    from ..errors import DomainError, OptionError, ShapeError

    kinds: tuple[type[Exception], ...] = (DomainError, OptionError, ShapeError)
    if type(error).__module__.startswith("lowering."):
        kinds += (importlib.import_module("lowering.errors").QgaError,)
    return isinstance(error, kinds)
