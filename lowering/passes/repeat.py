"""Let a kernel write results that the program gives out more than once: each further one would be a launch that copies.

Before                 After
  %2 = fusion(%0)        %2, %3 = fusion(%0)
  return %2, %2          return %2, %3
"""

from __future__ import annotations

from dataclasses import replace

from ..graph import Graph, Node, Value


def repeat_results(graph: Graph) -> Graph:
    """Return a fused graph whose element-wise kernels write every copy of a result themselves."""
    makers = {value: node for node in graph.nodes if _can_repeat(node) for value in node.outputs}
    held = {graph.outputs[output] for _, output in graph.aliases}
    number = graph.free_id()
    outputs, more, seen = list[Value](), dict[Value, list[Value]](), set[Value]()
    for value in graph.outputs:
        given = value
        # What is given out in the memory of an operand stays as it is.
        if value in seen and value in makers and value not in held:
            given = replace(value, id=number + sum(map(len, more.values())))
            more.setdefault(value, []).append(given)
        seen.add(value)
        outputs.append(given)
    nodes = tuple(_repeat(node, more) for node in graph.nodes)
    return replace(graph, nodes=nodes, outputs=tuple(outputs))


def _can_repeat(node: Node) -> bool:
    return node.op == "fusion" and node.attributes["kind"] == "map"


def _repeat(node: Node, more: dict[Value, list[Value]]) -> Node:
    """Return a kernel with further results, each equal to one that it has."""
    places = [place for place, value in enumerate(node.outputs) for _ in more.get(value, ())]
    if not places:
        return node
    body, axes = node.attributes["body"], node.attributes["output_axes"]
    number = body.free_id()
    same = [replace(body.outputs[place], id=number + count) for count, place in enumerate(places)]
    copies = [Node("reshape", (body.outputs[place],), (copy,)) for place, copy in zip(places, same, strict=True)]
    attributes = {
        **node.attributes,
        "body": replace(body, nodes=(*body.nodes, *copies), outputs=(*body.outputs, *same)),
        "output_axes": (*axes, *(axes[place] for place in places)),
    }
    further = [each for value in node.outputs for each in more.get(value, ())]
    return replace(node, outputs=(*node.outputs, *further), attributes=attributes)
