"""A graph that gives out what each of its kernels computes."""

from __future__ import annotations

from dataclasses import replace

from .graph import Graph, Value


def watched_values(fused: Graph) -> list[Value]:
    """Return what every kernel, loop and branch of a fused graph computes."""
    return [value for node in fused.nodes for value in node.outputs]


def watched(fused: Graph) -> Graph:
    """Return the fused graph with all of that among its outputs, and nothing overwritten."""
    return replace(fused, outputs=tuple(watched_values(fused)), aliases=())
