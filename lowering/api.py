"""From a function to a device, staged for people; and the one call that the platform plugin makes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import jax

from shaders.capabilities import Capabilities

from . import compiler
from .cache import DiskCache
from .compat import kept_arguments
from .cost import program_cost
from .errors import GraphError, InputError, message
from .executable import Executable
from .graph import Graph
from .program import Program
from .program_file import decode, encode
from .runtime import Device
from .signature import Signature
from .stablehlo import import_module
from .tuning.store import choices_of
from .verify import VerifiedExecutable

STAGES = ("stablehlo", "graph", "schedule", "spirv")


def lower(function: Callable[..., Any], **options: Any) -> Callable[..., Lowered]:
    """Return a function that lowers instead of computing: `lower(f)(*arguments)`.

    Every argument is an input of the program, used or not; a function that is jitted already keeps those that its
    `jax.jit` keeps.

    Args:
        function: any function that `jax.jit` accepts, jitted or not.
        options: passed to `jax.jit`, for example `static_argnums` or `donate_argnums`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> lowered = lower(lambda x: jnp.exp(x).sum())(jax.ShapeDtypeStruct((8,), jnp.float32))
        >>> "exponential" in lowered.as_text("graph")
        True
    """
    is_jitted = hasattr(function, "trace")
    jitted: Any = function if is_jitted and not options else jax.jit(function, **{"keep_unused": True, **options})

    def stage(*arguments: Any, **keywords: Any) -> Lowered:
        return Lowered(jitted.trace(*arguments, **keywords).lower(lowering_platforms=("vulkan",)))

    return stage


class Lowered:
    """A function lowered for given shapes: each stage can be looked at, and the last one compiled."""

    def __init__(self, staged: Any) -> None:
        self._staged = staged

    @cached_property
    def graph(self) -> Graph:
        """The compiler's own form of the program.

        Raises:
            UnsupportedError: operations or dtypes have no lowering; lists all of them with source lines.
        """
        return import_module(self._staged.compiler_ir("stablehlo"))

    def program(self, capabilities: Capabilities | None = None) -> Program:
        """Return the kernels and the buffer plan for these capabilities, by default the chosen device's."""
        chosen = _capabilities() if capabilities is None else capabilities
        return compiler.compile_graph(self.graph, chosen, choices=choices_of(chosen))

    def as_text(self, stage: str = "schedule", capabilities: Capabilities | None = None) -> str:
        """Print the program at a stage: "stablehlo", "graph", "schedule" or "spirv".

        Raises:
            InputError: no such stage.
        """
        if stage not in STAGES:
            raise InputError(
                message(
                    "as_text: the stage must be one the compiler has.",
                    got=repr(stage),
                    want=", ".join(STAGES),
                    fix="name one of these stages.",
                )
            )
        if stage == "stablehlo":
            return self._staged.as_text()
        if stage == "graph":
            return compiler.clean(self.graph).text()
        chosen = _capabilities() if capabilities is None else capabilities
        if stage == "schedule":
            return compiler.schedule_text(self.graph, chosen, choices_of(chosen))
        return "\n\n".join(kernel.text() for kernel in self.program(chosen).kernels)

    def cost(self, capabilities: Capabilities | None = None) -> Mapping[str, float]:
        """Return bytes, memory and number of dispatches of one call."""
        return program_cost(self.program(capabilities))

    def compile(self, device: Device | None = None) -> Executable:
        """Return the program loaded on a device: the given one, or the one that the environment chooses."""
        chosen = Device.open() if device is None else device
        return Executable(self.program(chosen.capabilities), chosen, self.signature)

    @property
    def signature(self) -> Signature:
        """How the function is called, and which of its arguments the program takes."""
        tree = self._staged.in_tree
        kept = kept_arguments(self._staged, tree.num_leaves)
        return Signature(self.graph.name, tree, self._staged.out_tree, kept)

    def save(self, path: str | Path, capabilities: Capabilities | None = None) -> None:
        """Write the program to a file that `lowering.load` runs without JAX, on devices like the given one."""
        _ = Path(path).write_bytes(encode(self.program(capabilities)))


def compile_module(
    module: bytes, device: Device, *, store: DiskCache | None = None, verify: bool = False
) -> Executable | VerifiedExecutable:
    """Compile a serialised StableHLO module for a device; the program comes from the disk cache if it was seen before.

    Args:
        module: portable bytes of a StableHLO module.
        device: where to run it; borrowed.
        store: programs by key; the user's own folder by default.
        verify: check every kernel against NumPy on every call.

    Raises:
        UnsupportedError: the module uses operations, dtypes or features without a lowering; lists all of them.
    """
    choices = choices_of(device.capabilities)
    if verify:
        program, watched, fused = compiler.compile_watched(import_module(module), device.capabilities, choices)
        return VerifiedExecutable(program, watched, fused, device)
    programs = DiskCache("programs") if store is None else store
    facts = device.capabilities.to_text().encode()
    name = hashlib.sha256(b"\0".join([_compiler_digest(), facts, choices.text().encode(), module])).hexdigest()
    program = _cached(programs, name)
    if program is None:
        program = compiler.compile_graph(import_module(module), device.capabilities, choices=choices)
        programs.put(name, encode(program))
    return Executable(program, device)


@cache
def _compiler_digest() -> bytes:
    """Return a digest of the compiler's own source: another compiler may make another program of the same module."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for folder in (here, here.parent / "shaders"):
        for file in sorted(folder.rglob("*.py")) + sorted(folder.rglob("*.toml")):
            digest.update(file.read_bytes())
    return digest.digest()


def _cached(store: DiskCache, name: str) -> Program | None:
    data = store.get(name)
    if data is None:
        return None
    try:
        return decode(data)
    except GraphError:
        # A broken or foreign entry is no reason to fail: the caller compiles and writes it anew.
        return None


def _capabilities() -> Capabilities:
    with Device.open() as device:
        return device.capabilities
