"""Functions and shapes as the command line names them."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from ..dtypes import NUMPY
from ..errors import InputError, message


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
                "Every shape must be a dtype with extents in brackets.",
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
            "FUNCTION must name a function.",
            got=f"{text!r}: {got}",
            want=want,
            fix="see the examples of `--help`.",
        )
    )
