"""Random graphs for the whole compiler: values stay small, so that rounding is all that two results differ by."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from lowering import dtypes
from lowering.bodies import binary_body
from lowering.graph import Graph, Node, Value, verify
from lowering.ops import verify_types

SHAPES = ((4, 6), (6, 4), (4,), (6,), (1, 6), (4, 1), (), (2, 3, 4), (24,), (3, 8))
UNARY = ("negate", "abs", "tanh", "sine", "logistic")
BINARY = ("add", "subtract", "maximum", "minimum")


class Maker:
    """Draws nodes over the values made so far. Every method but `new`, `pick` and `constant` is one kind of step."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.nodes: list[Node] = []
        self.values: list[Value] = []
        self.count = 0

    def new(self, op: str, inputs: tuple[Value, ...], dtype: str, shape: tuple[int, ...], **attributes: Any) -> Value:
        self.count += 1
        value = Value(self.count, dtype, shape)
        self.nodes.append(Node(op, inputs, (value,), attributes))
        if dtype == "f32":
            self.values.append(value)
        return value

    def pick(self, shape: tuple[int, ...] | None = None, rank: int | None = None) -> Value:
        fits = [v for v in self.values if shape in (None, v.shape) and rank in (None, len(v.shape))]
        if fits:
            return self.draw(st.sampled_from(fits[-6:]))
        return self.constant(shape if shape is not None else (4,) * (rank or 0))

    def constant(self, shape: tuple[int, ...]) -> Value:
        seed = self.draw(st.integers(0, 3))
        numbers = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
        return self.new("constant", (), "f32", shape, value=np.asarray(numbers))

    def index(self, shape: tuple[int, ...] = ()) -> Value:
        """Make an i32 array of positions, some of them out of bounds, that the compiler cannot know."""
        x = self.pick()
        total = self.new("reduce", (x, self.constant(())), "f32", (), **_reduction("max", tuple(range(len(x.shape)))))
        whole = self.new("convert", (total,), "i32", ())
        wide = self.new("broadcast_in_dim", (whole,), "i32", shape, dimensions=())
        offsets = np.random.default_rng(len(self.nodes)).integers(-2, 7, shape).astype(np.int32)
        other = self.new("constant", (), "i32", shape, value=np.asarray(offsets))
        return self.new("add", (wide, other), "i32", shape)

    def elementwise(self) -> None:
        x = self.pick()
        if self.draw(st.booleans()):
            self.new(self.draw(st.sampled_from(UNARY)), (x,), "f32", x.shape)
        else:
            self.new(self.draw(st.sampled_from(BINARY)), (x, self.pick(x.shape)), "f32", x.shape)

    def scaled(self) -> None:
        x = self.pick()
        y = self.pick(x.shape)
        product = self.new("multiply", (x, y), "f32", x.shape)
        self.new("tanh", (product,), "f32", x.shape)

    def reshape(self) -> None:
        x = self.pick()
        shapes = [shape for shape in SHAPES if np.prod(shape) == x.size]
        if shapes:
            self.new("reshape", (x,), "f32", self.draw(st.sampled_from(shapes)))

    def transpose(self) -> None:
        x = self.pick()
        order = tuple(self.draw(st.permutations(range(len(x.shape)))))
        self.new("transpose", (x,), "f32", tuple(x.shape[i] for i in order), permutation=order)

    def broadcast(self) -> None:
        x = self.pick()
        if len(x.shape) < 3:
            place = self.draw(st.integers(0, len(x.shape)))
            shape = (*x.shape[:place], self.draw(st.sampled_from((1, 4, 6))), *x.shape[place:])
            dimensions = tuple(i for i in range(len(shape)) if i != place)
            self.new("broadcast_in_dim", (x,), "f32", shape, dimensions=dimensions)

    def slice(self) -> None:
        x = self.pick()
        start = tuple(self.draw(st.integers(0, n // 2)) for n in x.shape)
        stride = tuple(self.draw(st.integers(1, 2)) for _ in x.shape)
        shape = tuple(-((a - n) // s) for a, n, s in zip(start, x.shape, stride, strict=True))
        self.new("slice", (x,), "f32", shape, start=start, limit=x.shape, stride=stride)

    def pad(self) -> None:
        x = self.pick()
        low = tuple(self.draw(st.integers(-1, 2)) if n > 2 else 0 for n in x.shape)
        gaps = tuple(self.draw(st.integers(0, 1)) for _ in x.shape)
        shape = tuple(a + n + g * max(n - 1, 0) for a, n, g in zip(low, x.shape, gaps, strict=True))
        self.new("pad", (x, self.pick(())), "f32", shape, low=low, high=(0,) * len(low), interior=gaps)

    def concatenate(self) -> None:
        x = self.pick()
        if x.shape:
            axis = self.draw(st.integers(0, len(x.shape) - 1))
            shape = tuple(n * 2 if i == axis else n for i, n in enumerate(x.shape))
            self.new("concatenate", (x, self.pick(x.shape)), "f32", shape, dimension=axis)

    def reverse(self) -> None:
        x = self.pick()
        self.new("reverse", (x,), "f32", x.shape, dimensions=tuple(range(len(x.shape)))[:1])

    def reduce(self) -> None:
        x = self.pick()
        kind = self.draw(st.sampled_from(("add", "max", "min")))
        axes = tuple(i for i in range(len(x.shape)) if self.draw(st.booleans()))
        shape = tuple(n for i, n in enumerate(x.shape) if i not in axes)
        start = self.new("constant", (), "f32", (), value=np.zeros((), np.float32))
        total = self.new("reduce", (x, start), "f32", shape, **_reduction(kind, axes))
        self.new("tanh", (total,), "f32", shape)

    def centred(self) -> None:
        """Subtract from rows what they sum up to: a reduction whose result meets its operand again."""
        x = self.pick()
        if not x.shape:
            return
        axis = self.draw(st.integers(0, len(x.shape) - 1))
        kept = tuple(n for i, n in enumerate(x.shape) if i != axis)
        start = self.constant(())
        total = self.new("reduce", (x, start), "f32", kept, **_reduction("max", (axis,)))
        dimensions = tuple(i for i in range(len(x.shape)) if i != axis)
        wide = self.new("broadcast_in_dim", (total,), "f32", x.shape, dimensions=dimensions)
        self.new("subtract", (x, wide), "f32", x.shape)

    def dot(self) -> None:
        x, y = self.pick(rank=2), self.pick(rank=2)
        pairs = [(i, j) for i in (0, 1) for j in (0, 1) if x.shape[i] == y.shape[j]]
        if pairs:
            i, j = self.draw(st.sampled_from(pairs))
            shape = (x.shape[1 - i], y.shape[1 - j])
            attributes = {"lhs_batch": (), "rhs_batch": (), "lhs_contract": (i,), "rhs_contract": (j,), "precision": ()}
            product = self.new("dot_general", (x, y), "f32", shape, **attributes)
            self.new("tanh", (product,), "f32", shape)

    def gather(self) -> None:
        x = self.pick(rank=2)
        rows = self.index((3, 1))
        self.new(
            "gather", (x, rows), "f32", (3, x.shape[1]), offset_dims=(1,), collapsed_slice_dims=(0,),
            operand_batching_dims=(), start_batching_dims=(), start_index_map=(0,), index_vector_dim=1,
            slice_sizes=(1, x.shape[1]),
        )  # fmt: skip

    def scatter(self) -> None:
        x = self.pick(rank=2)
        updates = self.pick((3, x.shape[1]))
        kind = self.draw(st.sampled_from(("add", "max")))
        self.new(
            "scatter", (x, self.index((3, 1)), updates), "f32", x.shape, update_window_dims=(1,),
            inserted_window_dims=(0,), input_batching_dims=(), scatter_batching_dims=(),
            scatter_dims_to_operand_dims=(0,), index_vector_dim=1, unique=False, kind=kind,
            body=binary_body(kind, "f32"),
        )  # fmt: skip

    def dynamic_slice(self) -> None:
        x = self.pick()
        sizes = tuple(max(n - 1, 1) for n in x.shape)
        self.new("dynamic_slice", (x, *(self.index() for _ in x.shape)), "f32", sizes, sizes=sizes)

    def update(self) -> None:
        x = self.pick()
        piece = self.pick(tuple(max(n - 1, 1) for n in x.shape))
        self.new("dynamic_update_slice", (x, piece, *(self.index() for _ in x.shape)), "f32", x.shape)

    def loop(self) -> None:
        """Carry two arrays that change places while one shrinks, and a counter from an unknown start."""
        x = self.pick()
        inputs = (self.index(), x, self.pick(x.shape), self.pick(x.shape))
        count, left, right, fixed = (Value(i, v.dtype, v.shape) for i, v in enumerate(inputs))
        bound, test = Value(4, "i32", ()), Value(5, "bool", ())
        three = Node("constant", (), (bound,), {"value": np.array(3, np.int32)})
        less = Node("compare", (count, bound), (test,), {"direction": "LT", "total_order": False})
        cond = Graph("cond", (count, left, right, fixed), (three, less), (test,))
        one, moved, mixed = Value(4, "i32", ()), Value(5, "i32", ()), Value(6, "f32", x.shape)
        body_nodes = (
            Node("constant", (), (one,), {"value": np.array(1, np.int32)}),
            Node("add", (count, one), (moved,)),
            Node("minimum", (left, fixed), (mixed,)),
        )
        swap = self.draw(st.booleans())
        results = (moved, right, mixed) if swap else (moved, mixed, right)
        body = Graph("body", cond.inputs, body_nodes, results)
        outputs = tuple(Value(self.count + 1 + i, v.dtype, v.shape) for i, v in enumerate(inputs[:3]))
        self.count += 3
        attributes = {"cond": cond, "body": body, "captures": 1, "trip_count": None}
        self.nodes.append(Node("while", inputs, outputs, attributes))
        self.values.extend(outputs[1:])

    def branch(self) -> None:
        x = self.pick()
        y = self.pick(x.shape)
        a, b, c = (Value(i, "f32", x.shape) for i in range(3))
        branches = (
            Graph("branch0", (a, b), (), (b,)),
            Graph("branch1", (a, b), (Node("negate", (a,), (c,)),), (c,)),
            Graph("branch2", (a, b), (Node("minimum", (a, b), (c,)),), (c,)),
        )
        self.new("case", (self.index(), x, y), "f32", x.shape, branches=branches)


def _reduction(kind: str, axes: tuple[int, ...]) -> dict[str, Any]:
    return {"kind": kind, "dimensions": axes, "body": binary_body(kind, "f32")}


STEPS = tuple(
    name for name in vars(Maker) if not name.startswith("_") and name not in ("new", "pick", "constant", "index")
)
FREQUENT = ("elementwise",) * 5 + ("centred", "reduce", "broadcast", "update") * 2


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Draw a verified graph over two inputs; some of its outputs take the inputs' memory."""
    maker = Maker(draw)
    maker.count = 1
    inputs = (Value(0, "f32", (4, 6)), Value(1, "f32", (6, 4)))
    maker.values.extend(inputs)
    for _ in range(draw(st.integers(2, 10))):
        getattr(maker, draw(st.sampled_from((*STEPS, *FREQUENT))))()
    outputs = tuple(draw(st.lists(st.sampled_from(maker.values[2:] or maker.values), min_size=1, max_size=3)))
    aliases: list[tuple[int, int]] = []
    for source, value in enumerate(inputs):
        fits = [i for i, v in enumerate(outputs) if v.shape == value.shape and i not in {o for _, o in aliases}]
        if fits and draw(st.booleans()):
            aliases.append((source, fits[0]))
    return verify_types(verify(Graph("random", inputs, tuple(maker.nodes), outputs, tuple(aliases))))


def arguments() -> list[np.ndarray]:
    """Return the two inputs of every random graph."""
    generator = np.random.default_rng(7)
    return [generator.normal(size=shape).astype(dtypes.NUMPY["f32"]) for shape in ((4, 6), (6, 4))]
