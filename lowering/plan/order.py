"""Put the nodes of a fused graph in levels: nothing in a level waits for anything else in it."""

from __future__ import annotations

from collections.abc import Iterable

from ..graph import Graph, Node, Value

VIEWS = ("reshape", "bitcast_convert")
"""Operations whose results are the memory of their operands."""


class Dependencies:
    """Who must run before whom, by position in the graph: through values, and through memory that is overwritten."""

    def __init__(self, graph: Graph) -> None:
        self.nodes = list(graph.nodes)
        self.place = {id(node): i for i, node in enumerate(self.nodes)}
        self.before: list[set[int]] = [set() for _ in self.nodes]
        self.producer: dict[Value, int] = {}
        for i, node in enumerate(self.nodes):
            for value in node.outputs:
                self.producer[value] = i
        for i, node in enumerate(self.nodes):
            self.before[i].update(self.producer[value] for value in node.inputs if value in self.producer)

    def reaches(self, first: int, last: int) -> bool:
        """Tell whether `last` must run after `first`."""
        pending, seen = [last], {last}
        while pending:
            current = pending.pop()
            if current == first:
                return True
            for other in self.before[current]:
                if other not in seen:
                    seen.add(other)
                    pending.append(other)
        return False

    def try_order(self, firsts: Iterable[int], last: int) -> bool:
        """Demand that each of `firsts` runs before `last`; change nothing and return False if that would be a cycle."""
        wanted = [first for first in firsts if first != last]
        if any(self.reaches(last, first) for first in wanted):
            return False
        self.before[last].update(wanted)
        return True

    def levels(self) -> list[list[Node]]:
        """Return the nodes level by level.

        What waits for nothing, or only for what does, comes as late as its first reader allows, if it has time.
        """
        order, after = self._topological(), [list[int]() for _ in self.nodes]
        for i, others in enumerate(self.before):
            for other in others:
                after[other].append(i)
        takes = [0 if node.op in (*VIEWS, "constant") else 1 for node in self.nodes]
        depth, latest = [0] * len(self.nodes), [0] * len(self.nodes)
        for i in order:
            depth[i] = max((depth[other] + takes[other] for other in self.before[i]), default=0)
        for i in reversed(order):
            latest[i] = min((latest[later] - takes[i] for later in after[i]), default=depth[i])
        free: set[int] = set()
        for i in order:
            if after[i] and latest[i] > depth[i] and free.issuperset(self.before[i]):
                free.add(i)
        for i in reversed(order):
            if i in free:
                depth[i] = min(depth[later] for later in after[i]) - takes[i]
        result: list[list[Node]] = [[] for _ in range(max(depth, default=-1) + 1)]
        for i, node in enumerate(self.nodes):
            result[depth[i]].append(node)
        return [part for level in result for part in _alone(level)]

    def _topological(self) -> list[int]:
        done = [False] * len(self.nodes)
        result: list[int] = []
        for root in range(len(self.nodes)):
            pending = [root]
            while pending:
                current = pending[-1]
                missing = [other for other in self.before[current] if not done[other]]
                if missing and not done[current]:
                    pending.extend(missing)
                    continue
                pending.pop()
                if not done[current]:
                    done[current] = True
                    result.append(current)
        return result


def _alone(level: list[Node]) -> list[list[Node]]:
    """Give each loop a level of its own, so that memory used beside it is told apart by time."""
    plain = [node for node in level if node.op not in ("while", "case")]
    return [part for part in (plain, *([node] for node in level if node.op in ("while", "case"))) if part]
