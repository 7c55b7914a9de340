"""Everything this package needs from the private parts of JAX: the only file that imports `jax._src`.

Each import is guarded and has a flag; `tests/lowering/test_compat.py` has a test for each. What is missing in a release
of JAX fails where it is used, with its name.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.extend.backend

from .errors import DeviceError, message


def _private(name: str) -> Any:
    """Import a module of `jax._src`, None where this release of JAX has none of that name."""
    try:
        return importlib.import_module(f"jax._src.{name}")
    except ImportError:
        return None


_xla_bridge: Any = _private("xla_bridge")
_mlir: Any = _private("interpreters.mlir")
_callback: Any = _private("callback")
_debugging: Any = _private("debugging")
_xla_client: Any = getattr(_private("lib"), "xla_client", None)

# The tables of JAX that say which platforms exist and which take donated arguments.
HAS_PLATFORM_TABLE = isinstance(getattr(_xla_bridge, "_backend_factories", None), dict)
HAS_DONATION_LIST = isinstance(getattr(_mlir, "_platforms_with_donation", None), list)
# The tables of JAX that say how a primitive is written as StableHLO, everywhere and on each platform.
HAS_LOWERING_TABLES = all(
    isinstance(getattr(_mlir, name, None), dict) for name in ("_lowerings", "_platform_specific_lowerings")
)
# Loading a plugin's table from memory and making a client of it.
HAS_PLUGIN_LOADER = hasattr(_xla_client, "load_pjrt_plugin_with_c_api")
HAS_CLIENT_MAKER = hasattr(_xla_bridge, "make_pjrt_c_api_client")


def kept_arguments(lowered: Any, count: int) -> tuple[int, ...]:
    """Return the positions of the `count` flat arguments that a lowered function kept: JAX drops what nobody reads."""
    kept = getattr(getattr(lowered, "_lowering", None), "compile_args", {}).get("kept_var_idx")
    return tuple(range(count)) if kept is None else tuple(sorted(kept))


def register_platform(name: str, factory: Callable[[], Any], priority: int) -> bool:
    """Tell JAX how to make the client of a platform; return False if the platform is registered already.

    A factory that raises makes the platform absent: quietly, unless JAX_PLATFORMS or `jax.devices(name)` asks for it.
    """
    if HAS_PLATFORM_TABLE and name in _xla_bridge._backend_factories:
        return False
    jax.extend.backend.register_backend_factory(name, factory, priority=priority, fail_quietly=True)
    return True


def requested_platforms() -> tuple[str, ...]:
    """Return the platforms that JAX_PLATFORMS names, none if it is not set."""
    return tuple(name.strip() for name in (getattr(jax.config, "jax_platforms", None) or "").split(",") if name.strip())


def load_plugin(name: str, capsule: object) -> None:
    """Load a PJRT table from a capsule named `pjrt_c_api`."""
    _require(HAS_PLUGIN_LOADER, "xla_client.load_pjrt_plugin_with_c_api")
    _xla_client.load_pjrt_plugin_with_c_api(name, capsule)


def make_client(name: str) -> Any:
    """Make the client of a loaded plugin."""
    _require(HAS_CLIENT_MAKER, "xla_bridge.make_pjrt_c_api_client")
    return _xla_bridge.make_pjrt_c_api_client(name)


def allow_donation(name: str) -> bool:
    """Let jitted functions donate arguments on a platform; return False where JAX has no such list any more."""
    if not HAS_DONATION_LIST:
        return False
    if name not in _mlir._platforms_with_donation:
        _mlir._platforms_with_donation.append(name)
    return True


def leave_refusals_to_the_importer(name: str) -> int:
    """Write primitives that JAX itself refuses on a platform as `custom_call @primitive`; return how many there are.

    JAX stops at the first of them, without a word on what else is missing; the importer names all with their lines.
    They are the factorisations that only some platforms have (eigh, eig, schur, hessenberg, ...) and calls of Python.
    """
    if not HAS_LOWERING_TABLES:
        return 0
    on_cpu, everywhere = _mlir._platform_specific_lowerings["cpu"], _mlir._lowerings
    refused = [primitive for primitive in on_cpu if primitive not in everywhere]
    refused += [
        getattr(module, primitive)
        for module, primitive in (
            (_callback, "pure_callback_p"), (_callback, "io_callback_p"), (_debugging, "debug_callback_p"),
        )
        if hasattr(module, primitive)
    ]  # fmt: skip
    for primitive in refused:
        _mlir.register_lowering(primitive, _custom_call(primitive.name), platform=name)
    return len(refused)


def _custom_call(name: str) -> Callable[..., Any]:
    def write(context: Any, *operands: Any, **_: Any) -> Any:
        if len(context.tokens_in):
            context.set_tokens_out(context.tokens_in)
        # Made here: what JAX calls for it takes other arguments in each release.
        types = [
            _mlir.ir.RankedTensorType.get(aval.shape, _mlir.dtype_to_ir_type(aval.dtype)) for aval in context.avals_out
        ]
        return _mlir.custom_call(name, result_types=types, operands=operands, has_side_effect=True).results

    return write


def _require(present: bool, what: str) -> None:
    if present:
        return
    raise DeviceError(
        message(
            "platform vulkan: this release of JAX must offer what a plugin needs.",
            got=f"jax {jax.__version__} without jax._src {what}",
            want="jax >= 0.10, < 0.13",
            fix="install a release of JAX in that range.",
        )
    )


# --- Pallas -----------------------------------------------------------------------------------------------------------

_pallas_core: Any = _private("pallas.core")
_pallas_call: Any = _private("pallas.pallas_call")
_pallas_interpreter: Any = _private("pallas.hlo_interpreter")
_core: Any = _private("core")

# A kernel's references written as values, as the interpreter of JAX does it, and the primitive itself.
HAS_PALLAS = all(
    hasattr(module, name)
    for module, name in (
        (_pallas_interpreter, "kernel_to_hlo_jaxpr"), (_pallas_core, "grid_env"), (_pallas_core, "GridAxis"),
        (_pallas_core, "_get_block_shape"), (_pallas_core, "Squeezed"), (_pallas_core, "Element"),
        (_pallas_core, "Blocked"),
        (_pallas_call, "pallas_call_p"), (_core, "eval_jaxpr"),
    )
)  # fmt: skip


def pure_kernel(parameters: Mapping[str, Any]) -> tuple[Callable[..., list[Any]], list[Any]]:
    """Return a kernel without references, and the types of its scratch arrays.

    The function takes the position in the grid and the grid's sizes, then the value of each reference in the kernel's
    order, and returns the value of each after the kernel has run.
    """
    mapping = parameters["grid_mapping"]
    jaxpr, constants, scratch = _pallas_interpreter.kernel_to_hlo_jaxpr(parameters["jaxpr"], (), mapping)

    def kernel(position: Sequence[Any], sizes: Sequence[Any], *values: Any) -> list[Any]:
        with _pallas_core.grid_env(_grid_env(mapping, position, sizes)):
            return list(_core.eval_jaxpr(jaxpr, constants, *values))

    return kernel, [jax.ShapeDtypeStruct(each.shape, each.dtype) for each in scratch]


def block_start(
    mapping: Any, block: Any, position: Sequence[Any], sizes: Sequence[Any], scalars: Sequence[Any]
) -> tuple[Any, ...]:
    """Return the first element of a block, for a position in a grid and the values of prefetched scalars.

    The numbers are of 32 bits, as those of windows inside a kernel are: an index map may mix integers of two sizes.
    """
    with _pallas_core.grid_env(_grid_env(mapping, position, sizes)):
        starts = block.compute_start_indices_interpret(tuple(position), *scalars)
    return tuple(jax.lax.convert_element_type(start, "int32") for start in starts)


def _grid_env(mapping: Any, position: Sequence[Any], sizes: Sequence[Any]) -> Any:
    if mapping.local_grid_env is not None:
        return mapping.local_grid_env(tuple(position), tuple(sizes))
    axes = zip(position, sizes, strict=True)
    return tuple(
        _pallas_core.GridAxis(index, size)
        for axis, (index, size) in enumerate(axes)
        if axis not in mapping.vmapped_dims
    )


def block_shape(block: Any) -> tuple[tuple[int, ...], tuple[bool, ...], tuple[tuple[int, int], ...]]:
    """Return a block's extents, which of its dimensions the kernel does not see, and what pads the whole array."""
    dimensions = block.block_shape
    return (
        tuple(_pallas_core._get_block_shape(dimensions)),
        tuple(isinstance(each, _pallas_core.Squeezed) for each in dimensions),
        tuple(each.padding if isinstance(each, _pallas_core.Element) else (0, 0) for each in dimensions),
    )


def unknown_dimensions(block: Any) -> tuple[str, ...]:
    """Return the dimensions of a block that are of another kind than this package knows."""
    kinds = (_pallas_core.Blocked, _pallas_core.Squeezed, _pallas_core.Element)
    return tuple(str(each) for each in block.block_shape if not isinstance(each, kinds))


def moved_by_elements(block: Any) -> tuple[bool, ...]:
    """Return along which dimensions a block's coordinate counts elements, so that blocks may overlap."""
    return tuple(isinstance(each, _pallas_core.Element) and each.block_size > 1 for each in block.block_shape)


def register_pallas(name: str, rule: Callable[..., Any]) -> bool:
    """Write `pallas_call` on a platform as `rule` does; return False where this release of JAX has another Pallas."""
    if not HAS_PALLAS:
        return False
    _mlir.register_lowering(_pallas_call.pallas_call_p, rule, platform=name)
    return True


def write_custom_call(context: Any, target: str, operands: Sequence[Any], config: Mapping[str, Any]) -> Any:
    """Write a custom call with the results that a lowering rule must give; return them."""
    types = [
        _mlir.ir.RankedTensorType.get(aval.shape, _mlir.dtype_to_ir_type(aval.dtype)) for aval in context.avals_out
    ]
    call = _mlir.custom_call(target, result_types=types, operands=operands, backend_config=dict(config), api_version=4)
    return call.results
