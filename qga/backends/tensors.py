"""Tensors of NumPy, JAX and PyTorch on their way to a device and back; frameworks meet by DLPack."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from enum import Enum
from typing import Any, NoReturn, Protocol, TypeVar

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from ..errors import OptionError, refuse
from .devices import Device

# Numbers that NumPy does not have of its own travel as whole numbers of the same bytes.
_CARRIERS = {1: "uint8", 2: "uint16"}
# Where an array must begin for XLA to use its memory.
_ALIGNMENT = 64


class Tensor(Protocol):
    """An array of NumPy, JAX or PyTorch."""

    @property
    def shape(self) -> Sequence[int]:
        """Length of each axis."""
        ...

    @property
    def dtype(self) -> Any:
        """What an element is, in the framework's own words."""
        ...


# What comes in as an array of one framework goes out as one of the same.
T = TypeVar("T", bound=Tensor)


class Framework(Enum):
    """Whose array a tensor is; results go back as arrays of the same."""

    NUMPY = "NumPy"
    JAX = "JAX"
    TORCH = "PyTorch"


def framework_of(tensor: Any) -> Framework:
    """Tell whose array a tensor is; what another framework hands over by DLPack counts as JAX's.

    Raises:
        OptionError: it is no array, or one that is only traced.
    """
    if isinstance(tensor, jax.core.Tracer):
        _refuse_tensor(
            "a value that JAX is tracing", "an array that holds numbers",
            "inside jax.jit, jax.grad and jax.vmap call the pure functions: qga.attention, qga.pattern_flow.",
        )  # fmt: skip
    if isinstance(tensor, np.ndarray | np.generic):
        return Framework.NUMPY
    if is_torch(tensor):
        return Framework.TORCH
    if not is_tensor(tensor):
        _refuse_tensor(
            type(tensor).__name__, "an array of NumPy, JAX or PyTorch", "make one, such as numpy.asarray(...)."
        )
    return Framework.JAX


def is_tensor(value: Any) -> bool:
    """Tell an array from a setting, such as a number, a name or a function."""
    return isinstance(value, jax.Array | np.ndarray | np.generic) or hasattr(value, "__dlpack__")


def is_torch(tensor: Any) -> bool:
    """Tell a tensor of PyTorch; who holds one has imported PyTorch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(tensor, torch.Tensor)


def put(tensor: Any, device: Device, *, copy: bool = True) -> jax.Array:
    """Carry a tensor to a device.

    A copy shares memory with nothing: what is written into the tensor later is not seen. Arrays of JAX cannot be
    written into, and are not copied where they are on the device already.

    Args:
        tensor: of any framework.
        device: where it goes.
        copy: False to share the memory of the host, on a device that works there.

    Raises:
        OptionError: the tensor cannot cross: its dtype would change, it is on another device, or it must be copied.
    """
    framework_of(tensor)
    if isinstance(tensor, jax.Array):
        return jax.device_put(tensor, device)
    host = _on_host(tensor)
    check_dtype(host.dtype)
    if not copy:
        return _share(tensor, host, device)
    # On the CPU JAX goes on using the memory that it is given; devices elsewhere copy.
    host = _copy_aligned(host) if device.platform == "cpu" else host
    return jax.block_until_ready(jax.device_put(host, device))


def give(results: Any, framework: Framework) -> Any:
    """Return results of JAX as arrays of a framework, in memory of their own."""
    if framework is Framework.JAX:
        return results
    carry = to_torch if framework is Framework.TORCH else to_numpy
    return jax.tree.map(carry, results)


def to_numpy(array: jax.Array) -> np.ndarray:
    """Copy an array to NumPy."""
    return np.array(array, copy=True)


def to_torch(array: Any, *, copy: bool = True) -> Any:
    """Carry an array to PyTorch, in the memory of the host.

    Args:
        array: of JAX or NumPy.
        copy: False to share memory, which nobody may then write into; only for arrays in the memory of the host.

    Raises:
        OptionError: PyTorch is not installed, has no such dtype, or memory cannot be shared.
    """
    torch = _import_torch()
    if not copy and not (isinstance(array, jax.Array) and {each.platform for each in array.devices()} == {"cpu"}):
        _refuse_tensor(
            f"copy=False for {type(array).__name__}", "an array of JAX in the memory of the host",
            "leave copy as it is: it is True.",
        )  # fmt: skip
    if not _has_dtype(torch, array.dtype):
        _refuse_tensor(f"dtype {array.dtype}", "a dtype that PyTorch has", "convert with astype first.")
    if not copy:
        return torch.utils.dlpack.from_dlpack(array)
    host = np.array(array, copy=True)
    if host.dtype.isbuiltin == 1:
        return torch.utils.dlpack.from_dlpack(host)
    carrier = torch.utils.dlpack.from_dlpack(host.view(_CARRIERS[host.dtype.itemsize]))
    return carrier.view(getattr(torch, host.dtype.name))


def _has_dtype(torch: Any, dtype: Any) -> bool:
    """Tell whether PyTorch stores numbers of a dtype as JAX does; it packs integers of less than a byte."""
    return hasattr(torch, dtype.name) and (dtype.isbuiltin == 1 or "float" in dtype.name)


def _copy_aligned(host: np.ndarray) -> np.ndarray:
    """Copy an array to where XLA takes memory as it is, without a copy of its own."""
    space = np.empty(host.nbytes + _ALIGNMENT, np.uint8)
    first = -space.ctypes.data % _ALIGNMENT
    copied = space[first : first + host.nbytes].view(host.dtype).reshape(host.shape)
    copied[...] = host
    return copied


def _on_host(tensor: Any) -> np.ndarray:
    """See a tensor as an array of NumPy, without a copy."""
    if is_torch(tensor):
        return _from_torch(tensor)
    if isinstance(tensor, np.ma.MaskedArray):
        _refuse_tensor(
            "a masked array, whose mask would be lost", "a plain array", "fill it: tensor.filled(0), and pass the mask."
        )
    if isinstance(tensor, np.ndarray | np.generic):
        return np.asarray(tensor)
    return np.from_dlpack(tensor)


def _from_torch(tensor: Any) -> np.ndarray:
    torch = sys.modules["torch"]
    if tensor.requires_grad:
        _refuse_tensor(
            "a tensor of PyTorch that requires a gradient", "one without: PyTorch cannot differentiate through JAX",
            "pass tensor.detach(), and take gradients with jax.grad of qga.attention.",
        )  # fmt: skip
    if tensor.device.type != "cpu" or tensor.layout != torch.strided:
        _refuse_tensor(
            f"a tensor of PyTorch on {tensor.device}, {tensor.layout}", "a dense one in the memory of the host",
            "pass tensor.cpu() of a tensor on another device, tensor.to_dense() of a sparse one.",
        )  # fmt: skip
    # Views that conjugate or negate as they are read have no form in DLPack.
    tensor = tensor.resolve_conj().resolve_neg()
    name = str(tensor.dtype).removeprefix("torch.")
    dtype = _dtype_named(name)
    if dtype is None:
        _refuse_tensor(f"dtype {tensor.dtype}", "a dtype that JAX has", "convert with tensor.to first.")
    if dtype.isbuiltin == 1:
        return np.from_dlpack(tensor)
    return np.from_dlpack(tensor.view(getattr(torch, _CARRIERS[dtype.itemsize]))).view(dtype)


def _dtype_named(name: str) -> np.dtype | None:
    try:
        return jnp.dtype(name)
    except TypeError:
        return None


def check_dtype(dtype: np.dtype) -> None:
    """Refuse a dtype that JAX does not have, and one that it would change without a word.

    Raises:
        OptionError: it is one of these.
    """
    try:
        kept = jax.typeof(np.zeros((), dtype)).dtype
    except TypeError:
        _refuse_tensor(
            f"dtype {dtype}", "numbers that JAX has, in the byte order of this machine",
            "convert with astype first, such as tensor.astype('float32').",
        )  # fmt: skip
    if kept != dtype:
        _refuse_tensor(
            f"dtype {dtype}, of which JAX would make {kept}", "a dtype that is kept as it is",
            f"convert to {kept}, or switch 64-bit types on: jax.config.update('jax_enable_x64', True).",
        )  # fmt: skip


def _share(tensor: Any, host: np.ndarray, device: Device) -> jax.Array:
    if device.platform != "cpu" or not host.flags.c_contiguous or host.ctypes.data % _ALIGNMENT:
        _refuse_tensor(
            f"copy=False for memory at {host.ctypes.data:#x} with strides {host.strides}, and {device}",
            f"a tensor that lies row by row from a multiple of {_ALIGNMENT} bytes on, and a device of the host",
            "leave copy as it is: it is True.",
        )
    return jnp.from_dlpack(tensor, device=device, copy=False)


def _import_torch() -> Any:
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        refuse(
            OptionError,
            "to_torch: PyTorch must be installed for tensors of PyTorch.",
            got=f"import torch: {error}",
            want="the package torch; its CPU build is enough",
            fix="pip install torch, or take the array to NumPy: numpy.asarray(array).",
        )


def _refuse_tensor(got: str, want: str, fix: str) -> NoReturn:
    refuse(OptionError, "backends: a tensor must cross to JAX as it is.", got=got, want=want, fix=fix)
