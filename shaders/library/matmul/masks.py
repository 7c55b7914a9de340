"""Keep ragged edges in range: clamp what is loaded, mask what is stored."""

from __future__ import annotations

from collections.abc import Callable

from ...spirv import Builder, Value


def clamp_index(builder: Builder, index: Value, size: int, tile: int) -> Value:
    """Return an index that is in range; where tiles divide the axis it already is.

    What a clamped index loads is never stored, so only its address matters.
    """
    return index if size % tile == 0 else builder.min(index, size - 1)


def store_where(
    builder: Builder,
    row: Value,
    column: Value,
    sizes: tuple[int, int],
    tile: tuple[int, int],
    store: Callable[[], None],
) -> None:
    """Emit `store` under the masks that the result's edges need."""
    conditions = [index < size for index, size, step in zip((row, column), sizes, tile, strict=True) if size % step]
    if not conditions:
        store()
    elif len(conditions) == 1:
        builder.when(conditions[0], store)
    else:
        builder.when(conditions[0] & conditions[1], store)
