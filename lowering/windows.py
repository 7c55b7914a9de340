"""What a windowed reduction computes, recognised from its attributes."""

from __future__ import annotations

from .graph import Node


def running_axis(node: Node) -> int | None:
    """Return the axis of a cumulative reduction, whose window reaches from each element to the start or to the end."""
    a = node.attributes
    if a["kind"] is None or len(node.outputs) != 1:
        return None
    shape = node.inputs[0].shape
    plain = all(n == 1 for key in ("strides", "base_dilation", "window_dilation") for n in a[key])
    wide = [axis for axis, extent in enumerate(a["window"]) if extent != 1]
    if not plain or len(wide) != 1 or node.outputs[0].shape != shape:
        return None
    axis = wide[0]
    reach = shape[axis] - 1
    padded = any((a["low"][i], a["high"][i]) != (0, 0) for i in range(len(shape)) if i != axis)
    if a["window"][axis] != shape[axis] or padded or (a["low"][axis], a["high"][axis]) not in ((reach, 0), (0, reach)):
        return None
    return axis
