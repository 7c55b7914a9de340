"""Copy MLIR operations into a Scope: calls inlined, annotations dropped, regions closed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jax.extend.mlir import ir

from .. import dtypes
from ..bodies import reduction_kind, scatter_kind
from ..graph import Graph, Value
from ..loops import trip_count
from . import attributes, constants
from .locations import LocationReader
from .random import ALGORITHMS, random_bits
from .scope import Scope, union_of_captures
from .tilecall import is_tile, read_tile
from .types import TypeReader

# Custom calls that say where data lives: identity on one device.
_ANNOTATIONS = frozenset(
    {"Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape", "annotate_device_placement", "LayoutConstraint"}
)
_IDENTITIES = frozenset(
    {
        "stablehlo.optimization_barrier",
        "sdy.sharding_constraint",
        "sdy.reshard",
        "sdy.propagation_barrier",
        "sdy.sharding_group",
        "sdy.data_flow_edge",
    }
)
_BODIES = frozenset({"reduce", "reduce_window", "scatter"})


class Copier:
    """Copies the functions of one module; each function, type and location is decoded once."""

    def __init__(self, functions: dict[str, ir.Operation], read_module: Callable[[bytes], Graph]) -> None:
        self._functions = functions
        self._read_module = read_module
        self._graphs: dict[str, Graph] = {}
        self._types = TypeReader()
        self._locations = LocationReader()
        self._handlers: dict[str, Callable[[ir.Operation, Scope, str], None]] = {
            "func.call": self._call,
            "stablehlo.composite": self._composite,
            "stablehlo.constant": self._constant,
            "stablehlo.while": self._while,
            "stablehlo.case": self._case,
            "stablehlo.if": self._if,
            "stablehlo.tuple": self._tuple,
            "stablehlo.get_tuple_element": self._element,
            "stablehlo.custom_call": self._custom_call,
            "stablehlo.rng_bit_generator": self._random_bits,
            "sdy.manual_computation": self._manual_computation,
            "sdy.named_computation": self._manual_computation,
            **dict.fromkeys(_IDENTITIES, self._identity),
        }

    def function(self, name: str) -> Graph:
        """Return the graph of a function of the module."""
        if name not in self._graphs:
            scope = Scope()
            outputs = self._block(self._functions[name].regions[0].blocks[0], scope)
            self._graphs[name] = scope.close(name, outputs)
        return self._graphs[name]

    def _block(self, block: ir.Block, scope: Scope) -> tuple[Value, ...]:
        """Copy a block with its arguments; return what its terminator returns."""
        for argument in block.arguments:
            scope.add_input(argument, *self._types.read(argument.type))
        return self._operations(block, scope)

    def _operations(self, block: ir.Block, scope: Scope) -> tuple[Value, ...]:
        outputs: tuple[Value, ...] = ()
        for view in block.operations:
            operation = view.operation
            name = operation.name
            if name.endswith(".return"):
                outputs = scope.operands(operation.operands)
                continue
            where = self._locations.read(operation.location)
            handler = self._handlers.get(name)
            if handler is not None:
                handler(operation, scope, where)
            else:
                self._plain(operation, scope, where)
        return outputs

    def _plain(self, operation: ir.Operation, scope: Scope, where: str) -> None:
        """Copy an operation whose results are arrays; unknown names are copied too and reported later."""
        full_name = operation.name
        dialect, _, short_name = full_name.partition(".")
        name = short_name if dialect == "stablehlo" else full_name
        inputs = scope.operands(operation.operands)
        found = attributes.read(name, operation)
        if name in _BODIES:
            body, captured = self._body(operation, scope)
            inputs = (*inputs, *captured)
            found["kind"] = scatter_kind(body) if name == "scatter" else reduction_kind(body)
            found["body"] = body
        self._finish(operation, scope, name, inputs, found, where)

    def _finish(
        self,
        operation: ir.Operation,
        scope: Scope,
        name: str,
        inputs: tuple[Value, ...],
        found: attributes.Attributes,
        where: str,
    ) -> None:
        results = list(operation.results)
        values = scope.emit(name, inputs, [self._types.read(result.type) for result in results], found, where)
        for result, value in zip(results, values, strict=True):
            scope.bind(result, value)

    def _body(self, operation: ir.Operation, scope: Scope) -> tuple[Graph, tuple[Value, ...]]:
        inner = Scope(scope)
        outputs = self._block(operation.regions[0].blocks[0], inner)
        return inner.close("body", outputs), tuple(inner.captures)

    def _bind_all(self, operation: ir.Operation, scope: Scope, values: tuple[Value, ...]) -> None:
        for result, value in zip(operation.results, values, strict=True):
            scope.bind(result, value)

    def _call(self, operation: ir.Operation, scope: Scope, where: str) -> None:
        self._inline(operation, scope, operation.attributes["callee"], where)

    def _composite(self, operation: ir.Operation, scope: Scope, where: str) -> None:
        self._inline(operation, scope, operation.attributes["decomposition"], where)

    def _inline(self, operation: ir.Operation, scope: Scope, symbol: ir.Attribute, where: str) -> None:
        graph = self.function(ir.FlatSymbolRefAttr(symbol).value)
        self._bind_all(operation, scope, scope.inline(graph, scope.operands(operation.operands), where))

    def _constant(self, operation: ir.Operation, scope: Scope, where: str) -> None:
        (result,) = operation.results
        dtype, shape = self._types.read(result.type)
        # A constant of a foreign dtype is reported with every other such value, so its bytes are not needed.
        value = constants.decode(operation, dtype, shape) if dtype in dtypes.NUMPY else np.zeros(())
        scope.bind(result, scope.emit("constant", (), [(dtype, shape)], {"value": value}, where)[0])

    def _identity(self, operation: ir.Operation, scope: Scope, where: str) -> None:
        del where
        for result, operand in zip(operation.results, operation.operands, strict=False):
            scope.bind(result, scope.look_up(operand))

    def _custom_call(self, operation: ir.Operation, scope: Scope, where: str) -> None:
        if ir.StringAttr(operation.attributes["call_target_name"]).value in _ANNOTATIONS:
            self._identity(operation, scope, where)
        elif is_tile(operation):
            self._tile(operation, scope, where)
        else:
            self._plain(operation, scope, where)

    def _tile(self, operation: ir.Operation, scope: Scope, where: str) -> None:
        found, operands, outputs = read_tile(operation, self._read_module)
        inputs = scope.operands(operation.operands)
        types = [self._types.read(operation.results[number].type) for number in outputs]
        values = scope.emit("tile", tuple(inputs[number] for number in operands), types, found, where)
        for number, value in zip(outputs, values, strict=True):
            scope.bind(operation.results[number], value)

    def _tuple(self, operation: ir.Operation, scope: Scope, where: str) -> None:
        del where
        scope.bind(operation.results[0], scope.operands(operation.operands))

    def _element(self, operation: ir.Operation, scope: Scope, where: str) -> None:
        bundle = scope.look_up(operation.operands[0])
        if isinstance(bundle, tuple):
            scope.bind(operation.results[0], bundle[ir.IntegerAttr(operation.attributes["index"]).value])
        else:
            self._plain(operation, scope, where)

    def _manual_computation(self, operation: ir.Operation, scope: Scope, where: str) -> None:
        """Copy the body in place: on one device the local shapes are the global ones."""
        block = operation.regions[0].blocks[0]
        if any(a.type != b.type for a, b in zip(block.arguments, operation.operands, strict=True)):
            self._plain(operation, scope, where)
            return
        for argument, operand in zip(block.arguments, operation.operands, strict=True):
            scope.bind(argument, scope.look_up(operand))
        self._bind_all(operation, scope, self._operations(block, scope))

    def _random_bits(self, operation: ir.Operation, scope: Scope, where: str) -> None:
        algorithm = attributes.read("rng_bit_generator", operation)["algorithm"]
        (state,) = scope.operands(operation.operands)
        dtype, shape = self._types.read(operation.results[1].type)
        if algorithm not in ALGORITHMS or state.dtype != "u64" or dtype not in dtypes.INTEGERS:
            self._plain(operation, scope, where)
        else:
            self._bind_all(operation, scope, random_bits(scope, algorithm, state, dtype, shape, where))

    def _while(self, operation: ir.Operation, scope: Scope, where: str) -> None:
        carry = scope.operands(operation.operands)
        inner = Scope(scope), Scope(scope)
        outputs = [self._block(operation.regions[i].blocks[0], inner[i]) for i in range(2)]
        captured = union_of_captures(inner)
        cond = inner[0].close("cond", outputs[0], captured)
        body = inner[1].close("body", outputs[1], captured)
        inputs = (*carry, *captured)
        known = {i: scope.constants[value] for i, value in enumerate(inputs) if value in scope.constants}
        found = {"cond": cond, "body": body, "captures": len(captured), "trip_count": trip_count(cond, body, known)}
        self._finish(operation, scope, "while", inputs, found, where)

    def _case(self, operation: ir.Operation, scope: Scope, where: str) -> None:
        self._branches(operation, scope, scope.operands(operation.operands), list(operation.regions), where)

    def _if(self, operation: ir.Operation, scope: Scope, where: str) -> None:
        """Copy as a case: false is branch 0, true is branch 1."""
        index = scope.emit("convert", scope.operands(operation.operands), [("i32", ())], where=where)
        when_true, when_false = operation.regions
        self._branches(operation, scope, index, [when_false, when_true], where)

    def _branches(
        self, operation: ir.Operation, scope: Scope, index: tuple[Value, ...], found: list[ir.Region], where: str
    ) -> None:
        inner = [Scope(scope) for _ in found]
        outputs = [self._block(region.blocks[0], each) for region, each in zip(found, inner, strict=True)]
        captured = union_of_captures(inner)
        branches = tuple(
            each.close(f"branch{i}", out, captured) for i, (each, out) in enumerate(zip(inner, outputs, strict=True))
        )
        self._finish(operation, scope, "case", (*index, *captured), {"branches": branches}, where)
