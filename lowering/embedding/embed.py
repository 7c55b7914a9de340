"""A function that computes on a Vulkan device, inside of a program of JAX for the CPU."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jax.extend.mlir import serialize_portable_artifact
from jax.extend.mlir.dialects import stablehlo
from jax.interpreters.mlir import module_to_bytecode

from ..errors import InputError, message
from ..executable import Executable
from .handler import TARGET, Module, load, register

Leaves = tuple[Any, ...]
Flat = Callable[..., Leaves]


def embed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of arrays on the CPU whose work is done on the Vulkan device of this process.

    It is a call inside of a program for the CPU, like any operation: under `jax.jit`, loops, `jax.vmap` (one program
    for the whole batch) and `jax.shard_map`, where each process drives a device of its own between the collectives of
    the CPU. Gradients in reverse mode are a program for Vulkan as well, made by `jax.vjp` of the function; what
    it computes is computed again. The device is the one that QGA_VULKAN_DEVICE names, else the best; it is opened by
    the first call, and shared.

    Args:
        function: of arrays, nested as one likes, to arrays. It is traced once for each shape and closes over constants
            only: what is traced is passed in.

    Returns:
        A function of the same arguments. Arrays go to the device and back in each call, so that what is embedded should
        be worth it.

    Raises:
        InputError: the function closes over an array that is traced.
        UnsupportedError: the function uses what cannot be lowered; lists all of it, when it is traced.
        DeviceError: there is no device, when it is traced. What goes wrong later is a `jax.errors.JaxRuntimeError`.

    Cost: 0.06 ms a call beside the work and the copies, on two cores without a GPU (docs/decisions/0024-embedding.md).
    Outside of `jax.jit` the function is traced and compiled anew by each call.
    """

    @wraps(function)
    def embedded(*arguments: Any) -> Any:
        leaves, tree = jax.tree.flatten(arguments)
        nested: list[Any] = []

        def flat(*leaves: Any) -> Leaves:
            found, structure = jax.tree.flatten(function(*jax.tree.unflatten(tree, leaves)))
            nested[:] = [structure]
            return tuple(map(jnp.asarray, found))

        results = _call(flat, tuple(map(jnp.asarray, leaves)))
        return jax.tree.unflatten(nested[0], results)

    return embedded


def _call(flat: Flat, leaves: Leaves) -> Leaves:
    """Call a function of flat arrays on the device: with a rule for a batch, and one for gradients."""

    @custom_vmap
    def once(*leaves: Any) -> Leaves:
        return _emit(flat, leaves)

    @once.def_vmap
    def _(size: int, is_batched: Sequence[bool], *leaves: Any) -> tuple[Leaves, Leaves]:
        axes = tuple(0 if each else None for each in is_batched)
        results = _call(jax.vmap(flat, axes, axis_size=size), leaves)
        return results, (True,) * len(results)

    @jax.custom_vjp
    def run(*leaves: Any) -> Leaves:
        return once(*leaves)

    def pull(leaves: Leaves, bars: Leaves) -> Leaves:
        moving = _real(leaves)
        heard = _real(bars)
        results = _call(_pull_of(flat, moving, heard, len(leaves)), (*leaves, *(bars[number] for number in heard)))
        found = dict(zip(moving, results, strict=True))
        return tuple(found.get(number) for number in range(len(leaves)))

    # Through the rule itself, so that gradients have gradients.
    run.defvjp(lambda *leaves: (run(*leaves), leaves), pull)
    return run(*leaves)


def _pull_of(flat: Flat, moving: Sequence[int], heard: Sequence[int], count: int) -> Flat:
    """Return what pulls cotangents of some results back to some arguments, given all arguments and those cotangents."""

    def pull(*given: Any) -> Leaves:
        leaves, bars = given[:count], given[count:]

        def of_moving(*numbers: Any) -> Leaves:
            known = dict(zip(moving, numbers, strict=True))
            results = flat(*(known.get(number, leaf) for number, leaf in enumerate(leaves)))
            return tuple(results[number] for number in heard)

        return jax.vjp(of_moving, *(leaves[number] for number in moving))[1](bars)

    return pull


def _real(leaves: Leaves) -> tuple[int, ...]:
    """Return which arrays have derivatives."""
    return tuple(number for number, each in enumerate(leaves) if jnp.issubdtype(each.dtype, jnp.inexact))


def _emit(flat: Flat, leaves: Leaves) -> Leaves:
    """Write the call of a compiled program into what is traced."""
    traced = jax.jit(flat, keep_unused=True).trace(*(jax.ShapeDtypeStruct(each.shape, each.dtype) for each in leaves))
    written: Any = traced.lower(lowering_platforms=("vulkan",)).compiler_ir("stablehlo")
    module = serialize_portable_artifact(module_to_bytecode(written), stablehlo.get_current_version())
    digest = hashlib.sha256(module).hexdigest()
    # Compiled now, so that what cannot be is refused with the caller's lines.
    _refuse_captured(load(Module(digest, lambda: module)), len(leaves))
    register()
    results = [jax.ShapeDtypeStruct(each.shape, each.dtype) for each in traced.out_info]
    return tuple(jax.ffi.ffi_call(TARGET, results)(*leaves, digest=digest, module=np.frombuffer(module, np.uint8)))


def _refuse_captured(executable: Executable, given: int) -> None:
    """Refuse a program that takes more than it is given: what is traced and not passed in comes first."""
    kinds = executable.input_types
    if len(kinds) > given:
        captured = kinds[: len(kinds) - given]
        raise InputError(
            message(
                "embed: a function closes over constants only.",
                got=", ".join(f"{kind.dtype}{list(kind.shape)}" for kind in captured) + ", traced",
                want="every array that is traced among the arguments",
                fix="pass these arrays to the embedded function.",
            )
        )
