"""The importer's front door: a StableHLO module, as MLIR or as bytes, becomes one verified Graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import jax.extend.mlir
import jax.interpreters.mlir
from jax.extend.mlir import ir, passmanager
from jax.extend.mlir.dialects import stablehlo

from ..errors import GraphError, message
from ..graph import Graph, verify
from .copying import Copier
from .locations import argument_name
from .support import require_supported

_ARTIFACT = b"StableHLO_v"
_DECOMPOSE = "builtin.module(func.func(chlo-legalize-to-stablehlo))"


def import_module(module: ir.Module | bytes) -> Graph:
    """Return the graph of a module's `main`: calls inlined, constants decoded, source lines kept.

    The module is not changed. Sharding annotations and optimization barriers are dropped; composites are taken
    through their decompositions.

    Args:
        module: MLIR in the StableHLO dialect, or bytes: a portable artifact, MLIR bytecode or MLIR text.

    Raises:
        UnsupportedError: Operations, dtypes or dynamic shapes that cannot be lowered; the text lists all of them.
        GraphError: The bytes are not a module, or it has no `main`.
    """
    if isinstance(module, bytes):
        module = _parse(module)
    with module.context:
        return require_supported(_import(_decomposed(module.operation)))


def _parse(data: bytes) -> ir.Module:
    context = jax.interpreters.mlir.make_ir_context()
    try:
        if _ARTIFACT in data[:64]:
            return jax.extend.mlir.deserialize_portable_artifact(data, context)
        with context:
            return ir.Module.parse(data)
    except Exception as error:
        raise GraphError(
            message(
                "import_module: the bytes must hold a StableHLO module.",
                got=f"{len(data)} bytes starting {data[:16]!r} ({str(error).splitlines()[0][:200]})",
                want="a portable artifact, MLIR bytecode or MLIR text",
                fix="serialise with jax.export or jax.extend.mlir.serialize_portable_artifact.",
            )
        ) from error


def _decomposed(operation: ir.Operation) -> ir.Operation:
    """Return the module with CHLO operations written in StableHLO: a copy if there are any."""
    if not _uses_chlo(operation):
        return operation
    copy = operation.clone()
    # Registration is idempotent and takes microseconds.
    stablehlo.register_stablehlo_passes()
    passmanager.PassManager.parse(_DECOMPOSE).run(copy.operation)
    return copy.operation


def _uses_chlo(operation: ir.Operation) -> bool:
    found = False

    def visit(inner: ir.Operation) -> ir.WalkResult:
        nonlocal found
        found = inner.name.startswith("chlo.")
        return ir.WalkResult.INTERRUPT if found else ir.WalkResult.ADVANCE

    operation.walk(visit)
    return found


def _import(operation: ir.Operation) -> Graph:
    functions = {
        ir.StringAttr(each.attributes["sym_name"]).value: each
        for each in _top_level(operation)
        if each.name == "func.func"
    }
    if "main" not in functions:
        raise GraphError(
            message(
                "import_module: a module must have a function `main`.",
                got=", ".join(functions) or "no function",
                want="main",
                fix="lower one jitted function with jax.jit(f).lower(...).",
            )
        )
    main = functions["main"]
    graph = Copier(functions, _read_nested).function("main")
    name = ir.StringAttr(operation.attributes["sym_name"]).value if "sym_name" in operation.attributes else "main"
    names = tuple(argument_name(argument.location) for argument in main.regions[0].blocks[0].arguments)
    return verify(replace(graph, name=name, aliases=_aliases(main, graph), input_names=names))


def _read_nested(data: bytes) -> Graph:
    """Return the graph of a module inside a module; what it lacks is reported with the rest of the program."""
    module = _parse(data)
    with module.context:
        return _import(_decomposed(module.operation))


def _top_level(operation: ir.Operation) -> Iterator[ir.Operation]:
    for view in operation.regions[0].blocks[0].operations:
        yield view.operation


def _aliases(main: ir.Operation, graph: Graph) -> tuple[tuple[int, int], ...]:
    """Pair donated inputs with outputs: as the module says, else with the first free output of the same type."""
    if "arg_attrs" not in main.attributes:
        return ()
    said: dict[int, int] = {}
    donors: list[int] = []
    for position, each in enumerate(ir.ArrayAttr(main.attributes["arg_attrs"])):
        found = ir.DictAttr(each)
        if "tf.aliasing_output" in found:
            said[position] = ir.IntegerAttr(found["tf.aliasing_output"]).value
        elif "jax.buffer_donor" in found:
            donors.append(position)
    free = [i for i in range(len(graph.outputs)) if i not in said.values()]
    for donor in donors:
        value = graph.inputs[donor]
        fits = [i for i in free if (graph.outputs[i].dtype, graph.outputs[i].shape) == (value.dtype, value.shape)]
        if fits:
            said[donor] = fits[0]
            free.remove(fits[0])
    return tuple(sorted(said.items()))
