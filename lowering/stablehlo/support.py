"""One error for everything in a graph that cannot be lowered."""

from __future__ import annotations

from collections.abc import Iterator

from .. import dtypes, ops
from ..errors import UnsupportedError, message
from ..graph import Graph, Node, Value, regions

# Source lines shown for each missing thing.
_SHOWN_LINES = 3


def require_supported(graph: Graph) -> Graph:
    """Return the graph if every operation, dtype and shape can be lowered; raise one `UnsupportedError` otherwise."""
    missing: dict[str, list[str]] = {}
    for value in graph.inputs:
        for problem in _value_problems(value):
            missing.setdefault(problem, []).append("input of the program")
    for node, where in _nodes(graph, ""):
        for problem in _node_problems(node):
            missing.setdefault(problem, []).append(where)
    if missing:
        raise UnsupportedError(_text(graph, missing))
    return graph


def _nodes(graph: Graph, where: str) -> Iterator[tuple[Node, str]]:
    for node in graph.nodes:
        line = node.where or where
        yield node, line
        for region in regions(node):
            yield from _nodes(region, line)


def _node_problems(node: Node) -> Iterator[str]:
    if node.op not in ops.TABLE:
        target = f" @{node.attributes['target']}" if node.op == "custom_call" else ""
        yield f"operation {node.op}{target}"
    seen: set[str] = set()
    for value in node.outputs:
        seen.update(_value_problems(value))
    yield from sorted(seen)


def _value_problems(value: Value) -> Iterator[str]:
    if value.dtype not in dtypes.NUMPY:
        yield f"dtype {value.dtype}"
    if any(extent < 0 for extent in value.shape):
        yield "a dynamic shape"


def _text(graph: Graph, missing: dict[str, list[str]]) -> str:
    parts = []
    for problem, lines in missing.items():
        known = list(dict.fromkeys(line for line in lines if line))
        more = f", and {len(known) - _SHOWN_LINES} more lines" if len(known) > _SHOWN_LINES else ""
        at = f" at {', '.join(known[:_SHOWN_LINES])}{more}" if known else ""
        parts.append(f"{problem} ({len(lines)} {'use' if len(lines) == 1 else 'uses'}{at})")
    return message(
        "import_module: everything in the program must have a Vulkan lowering.",
        got="; ".join(parts),
        want=f"the {len(ops.TABLE)} operations of lowering.ops.TABLE over static shapes of {', '.join(dtypes.NUMPY)}",
        fix='replace these operations, or run this function on the CPU: jax.default_device(jax.devices("cpu")[0]).',
        at=graph.name,
        stage="import",
    )
