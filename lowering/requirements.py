"""One error for every dtype in a graph that a device has no features for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from shaders.capabilities import Capabilities

from .errors import UnsupportedError, message
from .graph import Graph, Value, regions

# Narrow types are computed with in 32 bits; memory of their width is all they need.
NEEDS: Mapping[str, str] = {
    "f64": "has_f64",
    "c128": "has_f64",
    "i64": "has_i64",
    "u64": "has_i64",
    "f16": "storage_16",
    "bf16": "storage_16",
    "i16": "storage_16",
    "u16": "storage_16",
    "i8": "storage_8",
    "u8": "storage_8",
    "bool": "storage_8",
}
FEATURES: Mapping[str, str] = {
    "has_f64": "shaderFloat64",
    "has_i64": "shaderInt64",
    "storage_16": "storageBuffer16BitAccess",
    "storage_8": "storageBuffer8BitAccess",
}
# Source lines shown for each dtype.
_SHOWN_LINES = 3


def require_features(graph: Graph, capabilities: Capabilities) -> Graph:
    """Return the graph if the device has every dtype in it; raise one `UnsupportedError` that lists the others."""
    missing: dict[str, dict[str, None]] = {}
    for value, where in _values(graph, ""):
        if value.dtype in NEEDS and not getattr(capabilities, NEEDS[value.dtype]):
            missing.setdefault(value.dtype, {})[where or "input of the program"] = None
    if missing:
        raise UnsupportedError(_text(graph, capabilities, {dtype: list(lines) for dtype, lines in missing.items()}))
    return graph


def _values(graph: Graph, where: str) -> Iterator[tuple[Value, str]]:
    for value in graph.inputs:
        yield value, where
    for node in graph.nodes:
        line = node.where or where
        for value in node.outputs:
            yield value, line
        for region in regions(node):
            yield from _values(region, line)


def _text(graph: Graph, capabilities: Capabilities, missing: Mapping[str, list[str]]) -> str:
    parts = []
    for dtype, lines in missing.items():
        more = f", and {len(lines) - _SHOWN_LINES} more lines" if len(lines) > _SHOWN_LINES else ""
        feature = FEATURES[NEEDS[dtype]]
        parts.append(f"{dtype} without the feature {feature} ({', '.join(lines[:_SHOWN_LINES])}{more})")
    allowed = [name for name in ("bool", "i32", "i64", "f16", "f32", "f64") if _has(name, capabilities)]
    is_wide = any(FEATURES[NEEDS[dtype]].endswith("64") for dtype in missing)
    advice = "leave jax_enable_x64 off or use 32-bit dtypes here" if is_wide else "use 32-bit dtypes here"
    return message(
        f"{graph.name}: the device must have the features that the program's dtypes need.",
        got="; ".join(parts),
        want=f"dtypes that {capabilities.device_name} has, such as {', '.join(allowed)}",
        fix=f"{advice}, or choose another device (`qga devices` lists what each has; QGA_VULKAN_DEVICE).",
        stage="compile",
    )


def _has(dtype: str, capabilities: Capabilities) -> bool:
    return dtype not in NEEDS or bool(getattr(capabilities, NEEDS[dtype]))
