"""Type rules of the operations: each takes a node and returns what is wrong with it, or None."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from .. import dtypes
from ..graph import Graph, Node, Value

Rule = Callable[[Node], str | None]

FLOAT = dtypes.FLOATS
INEXACT = dtypes.FLOATS | dtypes.COMPLEX
INTEGER = dtypes.INTEGERS
NUMERIC = INEXACT | INTEGER
BITS = INTEGER | {"bool"}
ANY = NUMERIC | {"bool"}


def same_type(allowed: Collection[str]) -> Rule:
    """All inputs and the result have one dtype among the allowed, and one shape."""

    def rule(node: Node) -> str | None:
        output = node.output
        if output.dtype not in allowed:
            return f"dtype {output.dtype} is not allowed"
        return _all_like(node.inputs, output.dtype, output.shape)

    return rule


def same_shape(node: Node) -> str | None:
    """The result has the shape of the input."""
    return _expect_shape(node, node.inputs[0].shape)


def real_part(node: Node) -> str | None:
    """The result has the shape of the input and the dtype of its real part."""
    return _expect(node, dtypes.real_part(node.inputs[0].dtype), node.inputs[0].shape)


def is_finite(node: Node) -> str | None:
    """Bool of the input's shape."""
    return _expect(node, "bool", node.inputs[0].shape)


def compare(node: Node) -> str | None:
    """Bool of the shape that both inputs share."""
    left, right = node.inputs
    return _all_like((right,), left.dtype, left.shape) or _expect(node, "bool", left.shape)


def complex_from_parts(node: Node) -> str | None:
    """Complex of the two real inputs."""
    left, right = node.inputs
    if dtypes.real_part(node.output.dtype) != left.dtype:
        return f"{node.output.dtype} has no parts of dtype {left.dtype}"
    return _all_like((right,), left.dtype, left.shape) or _expect_shape(node, left.shape)


def select(node: Node) -> str | None:
    """Two choices of the result's type; a predicate of its shape, or one bool for all."""
    predicate, *choices = node.inputs
    output = node.output
    if predicate.dtype != "bool" or predicate.shape not in ((), output.shape):
        return f"predicate {predicate.text}"
    return _all_like(choices, output.dtype, output.shape)


def clamp(node: Node) -> str | None:
    """A value of the result's type; limits of its type, or scalars."""
    low, value, high = node.inputs
    output = node.output
    for limit in (low, high):
        if limit.dtype != output.dtype or limit.shape not in ((), output.shape):
            return f"limit {limit.text}"
    return _all_like((value,), output.dtype, output.shape)


def constant(node: Node) -> str | None:
    """An array of the result's type, or a 0-d array that fills it."""
    value = node.attributes["value"]
    if dtypes.NAMES.get(value.dtype) != node.output.dtype or value.shape not in ((), node.output.shape):
        return f"value {value.dtype}{list(value.shape)}"
    return None


def iota(node: Node) -> str | None:
    """A dimension of the result."""
    return None if 0 <= node.attributes["dimension"] < len(node.output.shape) else "no such dimension"


def reshape(node: Node) -> str | None:
    """The same elements in another shape."""
    if node.inputs[0].size != node.output.size:
        return "the number of elements changes"
    return _expect(node, node.inputs[0].dtype, node.output.shape)


def bitcast_convert(node: Node) -> str | None:
    """The same bytes; a change of width adds or removes the last dimension."""
    value, output = node.inputs[0], node.output
    sizes = dtypes.itemsize(value.dtype), dtypes.itemsize(output.dtype)
    if sizes[0] == sizes[1]:
        return _expect_shape(node, value.shape)
    if sizes[0] > sizes[1]:
        return _expect_shape(node, (*value.shape, sizes[0] // sizes[1]))
    return _expect_shape(node, value.shape[:-1]) if value.shape[-1:] == (sizes[1] // sizes[0],) else "widths"


def broadcast_in_dim(node: Node) -> str | None:
    """Each input dimension keeps its extent or has extent 1."""
    value, output, dimensions = node.inputs[0], node.output, node.attributes["dimensions"]
    if len(dimensions) != len(value.shape) or len(set(dimensions)) != len(dimensions):
        return f"dimensions {dimensions}"
    for extent, dimension in zip(value.shape, dimensions, strict=True):
        if not 0 <= dimension < len(output.shape) or extent not in (1, output.shape[dimension]):
            return f"dimensions {dimensions}"
    return _expect(node, value.dtype, output.shape)


def transpose(node: Node) -> str | None:
    """Result dimension i is input dimension permutation[i]."""
    value, permutation = node.inputs[0], node.attributes["permutation"]
    if sorted(permutation) != list(range(len(value.shape))):
        return f"permutation {permutation}"
    return _expect(node, value.dtype, tuple(value.shape[i] for i in permutation))


def slice_(node: Node) -> str | None:
    """Extent ceil((limit - start) / stride) in each dimension."""
    value, found = node.inputs[0], node.attributes
    bounds = list(zip(found["start"], found["limit"], found["stride"], value.shape, strict=True))
    if any(not 0 <= start <= limit <= extent or stride < 1 for start, limit, stride, extent in bounds):
        return "bounds"
    return _expect(node, value.dtype, tuple(-((start - limit) // stride) for start, limit, stride, _ in bounds))


def pad(node: Node) -> str | None:
    """Extent low + x + (x - 1) * interior + high in each dimension; negative low and high cut."""
    value, filler = node.inputs
    found = node.attributes
    shape = tuple(
        low + extent + max(extent - 1, 0) * interior + high
        for low, high, interior, extent in zip(found["low"], found["high"], found["interior"], value.shape, strict=True)
    )
    return _all_like((filler,), value.dtype, ()) or _expect(node, value.dtype, tuple(max(each, 0) for each in shape))


def concatenate(node: Node) -> str | None:
    """Extents add up along one dimension and agree along the others."""
    dimension = node.attributes["dimension"]
    first = node.inputs[0]
    total = sum(value.shape[dimension] for value in node.inputs)
    shape = (*first.shape[:dimension], total, *first.shape[dimension + 1 :])
    for value in node.inputs:
        if (*value.shape[:dimension], total, *value.shape[dimension + 1 :]) != shape:
            return f"part {value.text}"
    return _expect(node, first.dtype, shape)


def dot_general(node: Node) -> str | None:
    """Batch dimensions, then the free dimensions of the left input, then those of the right."""
    left, right = node.inputs
    found = node.attributes
    pairs = (*zip(found["lhs_batch"], found["rhs_batch"], strict=True),)
    pairs += (*zip(found["lhs_contract"], found["rhs_contract"], strict=True),)
    if any(left.shape[i] != right.shape[j] for i, j in pairs):
        return "extents of batch or contracting dimensions differ"
    batch = tuple(left.shape[i] for i in found["lhs_batch"])
    rows = tuple(n for i, n in enumerate(left.shape) if i not in (*found["lhs_batch"], *found["lhs_contract"]))
    columns = tuple(n for i, n in enumerate(right.shape) if i not in (*found["rhs_batch"], *found["rhs_contract"]))
    return _expect_shape(node, (*batch, *rows, *columns))


def reduce(node: Node) -> str | None:
    """The dimensions vanish; inits are scalars; the body combines two tuples of scalars."""
    count = len(node.outputs)
    arrays, inits = node.inputs[:count], node.inputs[count:]
    if len(inits) != count:
        return f"{len(node.inputs)} inputs for {count} results"
    shape = tuple(n for i, n in enumerate(arrays[0].shape) if i not in node.attributes["dimensions"])
    return _reduction(node, arrays, inits, shape)


def reduce_window(node: Node) -> str | None:
    """One result element for each position of the window."""
    count = len(node.outputs)
    arrays, inits = node.inputs[:count], node.inputs[count:]
    if len(inits) != count:
        return f"{len(node.inputs)} inputs for {count} results"
    return _reduction(node, arrays, inits, window_shape(arrays[0].shape, node))


def window_shape(shape: Sequence[int], node: Node) -> tuple[int, ...]:
    """Return the shape of a reduce_window over an array of the given shape."""
    found = node.attributes
    result = []
    for i, extent in enumerate(shape):
        dilated = max(extent - 1, 0) * found["base_dilation"][i] + min(extent, 1)
        padded = found["low"][i] + dilated + found["high"][i]
        window = (found["window"][i] - 1) * found["window_dilation"][i] + 1 if found["window"][i] else 0
        result.append(0 if padded == 0 or window > padded else (padded - window) // found["strides"][i] + 1)
    return tuple(result)


def gather(node: Node) -> str | None:
    """Batch dimensions of the indices with the kept dimensions of the slices placed at offset_dims."""
    found = node.attributes
    value, start = node.inputs
    dropped = (*found["collapsed_slice_dims"], *found["operand_batching_dims"])
    kept = [n for i, n in enumerate(found["slice_sizes"]) if i not in dropped]
    batch = [n for i, n in enumerate(start.shape) if i != found["index_vector_dim"]]
    rank = len(kept) + len(batch)
    parts = iter(kept), iter(batch)
    shape = tuple(next(parts[0 if i in found["offset_dims"] else 1], -1) for i in range(rank))
    return _expect(node, value.dtype, shape)


def scatter(node: Node) -> str | None:
    """Results have the types of the arrays that are updated."""
    count = len(node.outputs)
    if len(node.inputs) != 2 * count + 1:
        return f"{len(node.inputs)} inputs for {count} results"
    return _pairwise(node.inputs[:count], node.outputs) or _body_fits(node.attributes["body"], node.outputs)


def dynamic_slice(node: Node) -> str | None:
    """One scalar start for each dimension; the sizes are the result's shape."""
    value, *starts = node.inputs
    if len(starts) != len(value.shape) or any(start.shape for start in starts):
        return "starts"
    return _expect(node, value.dtype, node.attributes["sizes"])


def dynamic_update_slice(node: Node) -> str | None:
    """One scalar start for each dimension; the result has the type of the array that is updated."""
    value, update, *starts = node.inputs
    if len(starts) != len(value.shape) or any(start.shape for start in starts) or update.dtype != value.dtype:
        return "starts or update"
    return _expect(node, value.dtype, value.shape)


def while_(node: Node) -> str | None:
    """The carry keeps its types; cond and body read carry and captured values."""
    found = node.attributes
    carry = node.inputs[: len(node.inputs) - found["captures"]]
    if found["cond"].outputs[0].dtype != "bool" or found["cond"].outputs[0].shape:
        return "the condition is not one bool"
    return (
        _pairwise(carry, node.outputs)
        or _pairwise(found["body"].outputs, node.outputs)
        or _pairwise(found["body"].inputs, node.inputs)
        or _pairwise(found["cond"].inputs, node.inputs)
    )


def case(node: Node) -> str | None:
    """An i32 index; every branch reads the captured values and gives the results' types."""
    index, *captured = node.inputs
    if (index.dtype, index.shape) != ("i32", ()):
        return f"index {index.text}"
    for branch in node.attributes["branches"]:
        problem = _pairwise(branch.inputs, captured) or _pairwise(branch.outputs, node.outputs)
        if problem:
            return problem
    return None


def tile(node: Node) -> str | None:
    """The cell reads positions, operands and first contents, each padded; updated operands come first."""
    found = node.attributes
    cell, axes, updates = found["cell"], len(found["grid"]), found["updates"]
    if any((value.dtype, value.shape) != ("i32", ()) for value in cell.inputs[:axes]):
        return "a position of the grid is not i32"
    memory = [*node.inputs, *node.outputs]
    if len(cell.inputs) != axes + len(memory) or len(cell.outputs) != len(node.outputs):
        return f"a cell of {len(cell.inputs)} inputs and {len(cell.outputs)} outputs"
    for array, padded in zip((*memory, *node.outputs), (*cell.inputs[axes:], *cell.outputs), strict=True):
        if array.dtype != padded.dtype or len(array.shape) != len(padded.shape):
            return f"{array.text} is {padded.text} in the cell"
        if any(extent > whole for extent, whole in zip(array.shape, padded.shape, strict=True)):
            return f"{array.text} does not fit into the cell's {padded.text}"
    return _pairwise(node.inputs[:updates], node.outputs[:updates])


def _reduction(node: Node, arrays: Sequence[Value], inits: Sequence[Value], shape: tuple[int, ...]) -> str | None:
    for array, init, output in zip(arrays, inits, node.outputs, strict=True):
        if array.shape != arrays[0].shape or init.shape or array.dtype != output.dtype or output.shape != shape:
            return f"{array.text} with init {init.text} gives shape {list(shape)}"
    return _body_fits(node.attributes["body"], node.outputs)


def _body_fits(body: Graph, outputs: Sequence[Value]) -> str | None:
    wanted = [output.dtype for output in outputs]
    if [value.dtype for value in body.outputs] != wanted or [value.dtype for value in body.inputs] != wanted * 2:
        return "the body does not combine two tuples of the results' dtypes"
    return None


def _pairwise(left: Sequence[Value], right: Sequence[Value]) -> str | None:
    if [(value.dtype, value.shape) for value in left] == [(value.dtype, value.shape) for value in right]:
        return None
    return f"({', '.join(value.text for value in left)}) against ({', '.join(value.text for value in right)})"


def _all_like(values: Sequence[Value], dtype: str, shape: tuple[int, ...]) -> str | None:
    for value in values:
        if value.dtype != dtype or value.shape != shape:
            return f"{value.text} is not {Value(0, dtype, shape).text}"
    return None


def _expect(node: Node, dtype: str, shape: Sequence[int]) -> str | None:
    return _all_like(node.outputs, dtype, tuple(shape))


def _expect_shape(node: Node, shape: Sequence[int]) -> str | None:
    return _expect(node, node.output.dtype, shape)
