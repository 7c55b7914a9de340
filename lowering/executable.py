"""Executable: a program on a device, called with device buffers or with host arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from . import dtypes
from .cost import program_cost
from .errors import InputError, message
from .program import ArrayType, Program
from .program_file import decode, encode
from .runtime import Buffer, Device

if TYPE_CHECKING:
    from .signature import Signature


class Executable:
    """A compiled computation, loaded on its device.

    Args:
        program: what to run.
        device: where; borrowed, the caller closes it.
        signature: how calls are nested; without one, calls take and return flat arrays.
    """

    def __init__(self, program: Program, device: Device, signature: Signature | None = None) -> None:
        self.program = program
        self._signature = signature
        self.device = device
        self._loaded = device.load(program)

    @property
    def name(self) -> str:
        """Name of the function that was compiled."""
        return self.program.name

    @property
    def input_types(self) -> tuple[ArrayType, ...]:
        """Dtype and shape of each input."""
        return self.program.inputs

    @property
    def output_types(self) -> tuple[ArrayType, ...]:
        """Dtype and shape of each output."""
        return self.program.outputs

    @property
    def aliases(self) -> tuple[tuple[int, int], ...]:
        """(input, output) pairs that share memory if the input is donated."""
        return self.program.aliases

    def run(self, buffers: Sequence[Buffer], donate: frozenset[int] = frozenset()) -> list[Buffer]:
        """Start the computation and return the output buffers; they are ready when the timeline reaches `.ready`."""
        return self._loaded.run(buffers, donate)

    def cost(self) -> Mapping[str, float]:
        """Return bytes, memory and number of dispatches of one call."""
        return program_cost(self.program)

    def profile(self, *arguments: Any, **keywords: Any) -> Any:
        """Run once, with arguments as for a call, and return the time of each dispatch in nanoseconds."""
        return self._loaded.profile(self._upload(self._flatten(arguments, keywords)))

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Compute with host arrays, called as the function was; results are NumPy arrays, nested as it returns them.

        A program from a file takes one array for each input, and returns one array or a tuple of them.

        Raises:
            InputError: a number, structure, shape or dtype differs from the compiled one.
        """
        results = [np.empty(kind.shape, dtypes.NUMPY[kind.dtype]) for kind in self.program.outputs]
        self.compute(self._flatten(arguments, keywords), results)
        if self._signature is not None:
            return self._signature.unflatten(results)
        return results[0] if len(results) == 1 else tuple(results)

    def compute(self, inputs: Sequence[ArrayLike], outputs: Sequence[np.ndarray]) -> None:
        """Compute with one host array for each input, into one for each output.

        Raises:
            InputError: a number, shape or dtype differs from the compiled one.
        """
        for buffer, target in zip(self.run(self._upload(inputs)), outputs, strict=True):
            self.device.download(buffer, target)

    def _flatten(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> list[np.ndarray]:
        if self._signature is not None:
            leaves = self._signature.flatten(arguments, keywords)
        else:
            leaves = [*arguments, *keywords.values()]
        kinds = self.program.inputs if len(leaves) == len(self.program.inputs) else [None] * len(leaves)
        return [_as_array(leaf, kind) for leaf, kind in zip(leaves, kinds, strict=True)]

    def save(self, path: str | Path) -> None:
        """Write the program to a file that `lowering.load` reads without JAX."""
        _ = Path(path).write_bytes(encode(self.program))

    def _upload(self, given: Sequence[ArrayLike]) -> list[Buffer]:
        arrays = [np.asarray(array, order="C") for array in given]
        self._check(arrays)
        buffers: list[Buffer] = []
        for array in arrays:
            buffer = self.device.allocate(array.nbytes)
            self.device.upload(buffer, array)
            buffers.append(buffer)
        return buffers

    def _check(self, arrays: Sequence[np.ndarray]) -> None:
        wanted = [f"{kind.dtype}[{','.join(map(str, kind.shape))}]" for kind in self.program.inputs]
        given = [_type_text(array) for array in arrays]
        if wanted != given:
            raise InputError(
                message(
                    f"{self.name}: arguments must have the shapes and dtypes it was compiled for.",
                    got=", ".join(given) or "no arguments",
                    want=", ".join(wanted) or "no arguments",
                    fix="convert the arguments, or compile for these shapes.",
                )
            )


def _type_text(array: np.ndarray) -> str:
    return f"{dtypes.NAMES.get(array.dtype, str(array.dtype))}[{','.join(map(str, array.shape))}]"


def _as_array(leaf: Any, kind: ArrayType | None) -> np.ndarray:
    """Return an array; a plain number takes the dtype that the program wants of a scalar."""
    if kind is not None and kind.shape == () and isinstance(leaf, (bool, int, float, complex)):
        return np.asarray(leaf, dtypes.NUMPY[kind.dtype])
    return np.asarray(leaf)


def load(path: str | Path, device: Device | None = None) -> Executable:
    """Return the program in a file, loaded on a device: the given one, or the one that the environment chooses.

    Raises:
        GraphError: the file is no program, of another version, or damaged.
        DeviceError: there is no device, or it lacks what the program needs.
    """
    return Executable(decode(Path(path).read_bytes()), Device.open() if device is None else device)
