"""The report of an analysis: typed, printable as a table, drawable, and a page that stands alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .head import Head

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Report:
    """What ``qga.analyze`` and ``qga.analyze_model`` return.

    Attributes:
        heads: every head of every layer, in order.
        rows: queries and keys of each head.
    """

    heads: tuple[Head, ...]
    rows: int

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, in order."""
        return tuple(dict.fromkeys(head.layer for head in self.heads))

    def of_layer(self, layer: str) -> tuple[Head, ...]:
        """Return the heads of one layer."""
        return tuple(head for head in self.heads if head.layer == layer)

    def __str__(self) -> str:
        """Write the numbers as a table, one head a line."""
        columns = ("head", "keys seen", "effective rank", "information", "gap", "mixing time", "curvature", "smoothing")
        lines = ["  ".join(f"{column:>15}" for column in columns)]
        for head in self.heads:
            low, high = head.effective_rank
            cells = (
                f"{head.layer}.{head.head}",
                f"{head.keys_seen:.1f}",
                f"{low:.1f} to {high:.1f}",
                f"{head.information:.3f}",
                f"{head.spectral_gap:.4f}",
                f"{head.mixing_time.lower:.3g} to {head.mixing_time.upper:.3g}",
                f"{head.median_curvature:.3g}",
                f"{head.smoothing:.3f}",
            )
            lines.append("  ".join(f"{cell:>15}" for cell in cells))
        return "\n".join(lines)

    def plot(self) -> Figure:
        """Draw every head: six quantities as maps of layers and heads. Needs matplotlib (``pip install qga[plot]``).

        Raises:
            OptionError: matplotlib is not there.
        """
        from .plot import draw_overview

        return draw_overview(self)

    def plot_patterns(self, layer: str) -> Figure:
        """Draw where each head of a layer looks, tile by tile. Needs matplotlib (``pip install qga[plot]``).

        Raises:
            OptionError: matplotlib is not there.
        """
        from .plot import draw_patterns

        return draw_patterns(self, layer)

    def to_html(self, path: str | Path | None = None) -> str:
        """Write a page that stands alone: what each number means, the pictures, and every number.

        Args:
            path: file to write as well.

        Returns:
            The page. Needs matplotlib (``pip install qga[plot]``).

        Raises:
            OptionError: matplotlib is not there.
        """
        from .page import write_page

        page = write_page(self)
        if path is not None:
            Path(path).write_text(page, encoding="utf-8")
        return page
