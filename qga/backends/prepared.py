"""Attention in two steps: what is checked and on the device, and functions that run there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic

import jax

from ..errors import OptionError, refuse
from .devices import Device
from .tensors import Framework, T, is_tensor, put


@dataclass(frozen=True, eq=False)
class PreparedAttention(Generic[T]):
    """A call of attention whose arrays are on a device and fit together.

    Attributes:
        tensors: query, key and value.
        options: arrays among the options of ``qga.attention``, by name.
        settings: the other options, by name.
        tile: keys scored at a time, at most.
        framework: whose arrays came in.
    """

    tensors: tuple[jax.Array, ...]
    options: Mapping[str, Any]
    settings: Mapping[str, Any]
    tile: int
    framework: Framework


@partial(jax.jit, static_argnames=("function", "settings"))
def run(
    function: Any, tensors: Sequence[Any], options: Mapping[str, Any], settings: tuple[tuple[str, Any], ...]
) -> Any:
    """Compile a pure function for the device that its arrays are on, and run it there.

    Args:
        function: of arrays, and of keywords.
        tensors: its arrays.
        options: keywords that are arrays.
        settings: other keywords, which are compiled in.
    """
    return function(*tensors, **options, **dict(settings))


def frozen(settings: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Return settings as what programs are told apart by."""
    return tuple(sorted(settings.items()))


def split_options(options: Mapping[str, Any], device: Device) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tell arrays among options, which go to the device, from settings.

    Raises:
        OptionError: a setting cannot be compared, so that programs could not be told apart by it.
    """
    arrays: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    for name, value in options.items():
        if any(map(is_tensor, jax.tree.leaves(value))):
            arrays[name] = jax.tree.map(partial(put, device=device), value)
        else:
            settings[name] = _require_hashable(name, value)
    return arrays, settings


def _require_hashable(name: str, value: Any) -> Any:
    try:
        hash(value)
    except TypeError:
        refuse(
            OptionError, "backends: a setting is a constant of the program.", got=f"{name}={value!r}",
            want="a number, a name, a tuple, a function, or an array", fix="write a list as a tuple, or as an array.",
        )  # fmt: skip
    return value
