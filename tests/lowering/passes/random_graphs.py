"""Random graphs for tests of passes: operations that rules rewrite, over few small shapes, with special numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from lowering import dtypes, reference
from lowering.graph import Graph, Node, Value, verify
from lowering.ops import verify_types

SPECIAL = {
    "f32": (0.0, -0.0, 1.0, -1.0, 2.0, 3.0, 0.5, 8.0, np.inf, -np.inf, np.nan),
    "i32": (0, 1, -1, 2, 7, -(2**31)),
}
_UNARY = ("negate", "abs", "sign")
_BINARY = ("add", "subtract", "multiply", "divide", "maximum", "minimum", "power")
_BITWISE = ("and", "or", "xor", "shift_left", "shift_right_logical")
_SHAPES = ((2, 3), (3,), (1, 3), (), (6,), (1,), (2, 1, 3))
_BODY_OPS = {"add": "add", "mul": "multiply", "max": "maximum", "min": "minimum"}


class Maker:
    """Draws nodes over the values made so far."""

    def __init__(self, draw: Callable[[Any], Any]) -> None:
        self.draw = draw
        self.nodes: list[Node] = []
        self.values: list[Value] = []

    def new(self, op: str, inputs: tuple[Value, ...], dtype: str, shape: tuple[int, ...], **attributes: Any) -> Value:
        value = Value(len(self.values) + 100, dtype, shape)
        self.nodes.append(Node(op, inputs, (value,), attributes))
        self.values.append(value)
        return value

    def pick(self, dtype: str | None = None, shape: tuple[int, ...] | None = None) -> Value:
        fits = [
            value
            for value in self.values
            if (dtype is None or value.dtype == dtype) and (shape is None or value.shape == shape)
        ]
        if fits:
            return self.draw(st.sampled_from(fits))
        return self.constant(dtype or "f32", shape or ())

    def constant(self, dtype: str, shape: tuple[int, ...]) -> Value:
        number = self.draw(st.sampled_from(SPECIAL[dtype]))
        return self.new("constant", (), dtype, shape, value=np.array(number, dtypes.NUMPY[dtype]))

    def elementwise(self) -> None:
        x = self.pick()
        y = self.pick(x.dtype, x.shape) if self.draw(st.booleans()) else self.constant(x.dtype, x.shape)
        if self.draw(st.booleans()):
            x, y = y, x
        op = self.draw(st.sampled_from(_UNARY + _BINARY + (_BITWISE if x.dtype == "i32" else ())))
        _ = self.new(op, (x,) if op in _UNARY else (x, y), x.dtype, x.shape)

    def convert(self) -> None:
        x = self.pick()
        _ = self.new("convert", (x,), "i32" if x.dtype == "f32" else "f32", x.shape)

    def choose(self) -> None:
        x = self.pick()
        y = self.pick(x.dtype, x.shape)
        direction = self.draw(st.sampled_from(("EQ", "NE", "LT", "LE", "GT", "GE")))
        test = Value(1000 + len(self.values), "bool", x.shape)
        self.nodes.append(Node("compare", (x, y), (test,), {"direction": direction, "total_order": False}))
        _ = self.new("select", (test, x, self.pick(x.dtype, x.shape)), x.dtype, x.shape)

    def reshape(self) -> None:
        x = self.pick()
        shapes = [shape for shape in _SHAPES if int(np.prod(shape)) == x.size]
        if shapes:
            _ = self.new("reshape", (x,), x.dtype, self.draw(st.sampled_from(shapes)))

    def transpose(self) -> None:
        x = self.pick()
        order = tuple(self.draw(st.permutations(range(len(x.shape)))))
        _ = self.new("transpose", (x,), x.dtype, tuple(x.shape[i] for i in order), permutation=order)

    def broadcast(self) -> None:
        x = self.pick()
        if len(x.shape) < 3:
            place = self.draw(st.integers(0, len(x.shape)))
            shape = (*x.shape[:place], 2, *x.shape[place:])
            dimensions = tuple(i for i in range(len(shape)) if i != place)
            _ = self.new("broadcast_in_dim", (x,), x.dtype, shape, dimensions=dimensions)

    def slice(self) -> None:
        x = self.pick()
        start = tuple(self.draw(st.integers(0, n)) for n in x.shape)
        limit = tuple(self.draw(st.integers(a, n)) for a, n in zip(start, x.shape, strict=True))
        stride = tuple(self.draw(st.integers(1, 2)) for _ in x.shape)
        shape = tuple(-((a - b) // s) for a, b, s in zip(start, limit, stride, strict=True))
        _ = self.new("slice", (x,), x.dtype, shape, start=start, limit=limit, stride=stride)

    def pad(self) -> None:
        x = self.pick()
        low = tuple(self.draw(st.integers(0, 2)) for _ in x.shape)
        high = tuple(self.draw(st.integers(0, 1)) for _ in x.shape)
        shape = tuple(a + n + b for a, n, b in zip(low, x.shape, high, strict=True))
        filler = self.pick(x.dtype, ())
        _ = self.new("pad", (x, filler), x.dtype, shape, low=low, high=high, interior=(0,) * len(shape))

    def concatenate(self) -> None:
        x = self.pick()
        if x.shape:
            y = self.pick(x.dtype, x.shape)
            dimension = self.draw(st.integers(0, len(x.shape) - 1))
            shape = tuple(n * 2 if i == dimension else n for i, n in enumerate(x.shape))
            _ = self.new("concatenate", (x, y), x.dtype, shape, dimension=dimension)

    def reverse(self) -> None:
        x = self.pick()
        dimensions = tuple(i for i in range(len(x.shape)) if self.draw(st.booleans()))
        _ = self.new("reverse", (x,), x.dtype, x.shape, dimensions=dimensions)

    def iota(self) -> None:
        shape = self.draw(st.sampled_from([shape for shape in _SHAPES if shape]))
        dimension = self.draw(st.integers(0, len(shape) - 1))
        _ = self.new("iota", (), self.draw(st.sampled_from(("f32", "i32"))), shape, dimension=dimension)

    def reduce(self) -> None:
        x = self.pick()
        kind = self.draw(st.sampled_from(tuple(_BODY_OPS)))
        a, b, c = (Value(i, x.dtype, ()) for i in range(3))
        body = Graph("body", (a, b), (Node(_BODY_OPS[kind], (a, b), (c,)),), (c,))
        dimensions = tuple(i for i in range(len(x.shape)) if self.draw(st.booleans()))
        shape = tuple(n for i, n in enumerate(x.shape) if i not in dimensions)
        _ = self.new("reduce", (x, self.pick(x.dtype, ())), x.dtype, shape, dimensions=dimensions, kind=kind, body=body)

    def dynamic_slice(self) -> None:
        x = self.pick()
        sizes = tuple(self.draw(st.integers(0, n)) for n in x.shape)
        starts = tuple(self.pick("i32", ()) for _ in x.shape)
        _ = self.new("dynamic_slice", (x, *starts), x.dtype, sizes, sizes=sizes)

    def loop(self) -> None:
        x = self.pick("f32")
        fixed = self.pick("f32", x.shape)
        start = self.pick("i32", ()) if self.draw(st.booleans()) else self.constant("i32", ())
        c, v, k, captured = (Value(i, *_type(each)) for i, each in enumerate((start, x, fixed, fixed)))
        bound, test = Value(4, "i32", ()), Value(5, "bool", ())
        three = Node("constant", (), (bound,), {"value": np.array(3, np.int32)})
        cond_nodes = (three, Node("compare", (c, bound), (test,), {"direction": "LT", "total_order": False}))
        cond = Graph("cond", (c, v, k, captured), cond_nodes, (test,))
        one, moved, next_v = Value(4, "i32", ()), Value(5, "i32", ()), Value(6, *_type(x))
        body_nodes = (
            Node("constant", (), (one,), {"value": np.array(2**30, np.int32)}),
            Node("add", (c, one), (moved,)),
            Node("maximum", (v, self.draw(st.sampled_from((k, captured, v)))), (next_v,)),
        )
        body = Graph("body", (c, v, k, captured), body_nodes, (moved, next_v, k))
        inputs = (start, x, fixed, self.pick("f32", x.shape))
        outputs = tuple(Value(2000 + 10 * len(self.values) + i, *_type(each)) for i, each in enumerate(inputs[:3]))
        attributes = {"cond": cond, "body": body, "captures": 1, "trip_count": None}
        self.nodes.append(Node("while", inputs, outputs, attributes))
        self.values.extend(outputs[1:])

    def branch(self) -> None:
        x = self.pick("f32")
        y = self.pick("f32", x.shape)
        a, b, c = (Value(i, *_type(x)) for i in range(3))
        branches = (Graph("branch0", (a, b), (), (b,)), Graph("branch1", (a, b), (Node("negate", (a,), (c,)),), (c,)))
        index = self.pick("i32", ())
        _ = self.new("case", (index, x, y), "f32", x.shape, branches=branches)


def _type(value: Value) -> tuple[str, tuple[int, ...]]:
    return value.dtype, value.shape


_STEPS = tuple(name for name in vars(Maker) if not name.startswith("_") and name not in ("new", "pick", "constant"))
_FREQUENT = ("elementwise",) * 6 + ("reduce",) * 2


@st.composite
def graphs(draw: Callable[[Any], Any]) -> Graph:
    """Draw a verified graph of up to some twenty nodes over two inputs."""
    maker = Maker(draw)
    inputs = (Value(0, "f32", (2, 3)), Value(1, "i32", (2, 3)))
    maker.values.extend(inputs)
    for _ in range(draw(st.integers(1, 12))):
        getattr(maker, draw(st.sampled_from((*_STEPS, *_FREQUENT))))()
    outputs = tuple(draw(st.lists(st.sampled_from(maker.values), min_size=1, max_size=4)))
    return verify_types(verify(Graph("random", inputs, tuple(maker.nodes), outputs)))


def arguments() -> list[np.ndarray]:
    """Return the two inputs of every random graph: ordinary and special numbers."""
    reals = np.array([[1.5, -0.0, np.nan], [np.inf, -2.25, 0.0]], np.float32)
    return [reals, np.array([[0, 1, -(2**31)], [5, -1, 2]], np.int32)]


def same(graph: Graph, rewritten: Graph) -> None:
    """Assert that two graphs give the same, signed zeros included where nothing sums."""
    _ = verify_types(verify(rewritten))
    assert [value.text for value in rewritten.outputs] == [value.text for value in graph.outputs]
    for got, want in zip(reference.run(rewritten, *arguments()), reference.run(graph, *arguments()), strict=True):
        np.testing.assert_array_equal(got, want)
        if got.dtype == np.float32:
            is_zero = want == 0
            np.testing.assert_array_equal(np.signbit(got[is_zero]), np.signbit(want[is_zero]))
